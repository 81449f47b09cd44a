"""Genes by zones: here six slices of the embryo, front to back."""

zones = pd.qcut(places[:, 0], 6, labels=[f"slice {i + 1}" for i in range(6)])
genes = ["gap1", "gap2", "gap3", "mix18", "mix20", "mix22"]
means = result[:, genes].to_df().groupby(zones, observed=True).mean()
table = ((means - means.mean()) / means.std()).T
ax = plotting.plot_zones(table, unit="z-score over zones", limits=(-2, 2), cmap="RdBu_r", axis="slice")
