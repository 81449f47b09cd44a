"""Several genes that the map lacks, each beside its truth."""

genes = ["mix18", "mix20", "mix22", "stripe14_1"]
ax = plotting.plot_pattern_grid(
    np.asarray(result[:, genes].X), places, genes, truth=np.asarray(truth[:, genes].X)
)
