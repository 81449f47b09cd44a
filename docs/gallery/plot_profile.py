"""Expression along an axis: here the mean over slices across the embryo, front to back."""

x = places[:, 0]
edges = np.linspace(x.min(), x.max(), 41)
slices = pd.cut(x, edges, include_lowest=True, labels=False)
profile = result.to_df()["stripe7_1"].groupby(slices).mean()
centres = ((edges[1:] + edges[:-1]) / 2)[profile.index]
ax = plotting.plot_profile(centres, profile.to_numpy(float), title="stripe7_1", unit="log2")
