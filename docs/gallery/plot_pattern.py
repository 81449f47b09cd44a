"""One gene at every location."""

pattern = result[:, "mix18"].X[:, 0]
ax = plotting.plot_pattern(pattern, places, title="mix18", unit="log2", scale_bar=100)
