"""The skin of an embryo laid flat: every location at once."""

ax = plotting.plot_unrolled(
    result[:, "mix18"].X[:, 0],
    places,
    axes=result.uns["spatial_axes"],
    mirror=True,
    title="mix18",
    unit="log2",
)
