"""A binary map: where a gene is on, and where a thresholded prediction differs."""

measured, predicted = reference[:, "gap1"].X[:, 0], result[:, "gap1"].X[:, 0]
on = measured > np.quantile(measured, 0.7)
ax = plotting.plot_bins(on, places, predicted=predicted > np.quantile(predicted, 0.7), title="gap1")
