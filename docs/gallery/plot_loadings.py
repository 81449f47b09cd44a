"""Which landmarks make up the first metagenes."""

ax = plotting.plot_loadings(fit.loadings, n_metagenes=6)
