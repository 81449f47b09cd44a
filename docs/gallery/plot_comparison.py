"""The map of a landmark beside its prediction and their difference, both z-scored over the locations."""


def z(values):
    """Mean 0, variance 1 over the locations."""
    return (values - values.mean()) / values.std()


measured = z(np.log2(1 + reference[:, "gap1"].X[:, 0]))
predicted = z(result[:, "gap1"].X[:, 0])
ax = plotting.plot_comparison(
    measured, predicted, predicted - measured, places, units=("z-score",) * 3, title="gap1"
)
