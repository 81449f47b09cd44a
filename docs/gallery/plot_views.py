"""A map of three dimensions from several sides, in the same colours."""

ax = plotting.plot_views(
    result[:, "mix18"].X[:, 0],
    places,
    axes=result.uns["spatial_axes"],
    mirror=True,
    title="mix18",
    unit="log2",
)
