"""Sensitivity, background and noise of every metagene."""

ax = plotting.plot_parameters(fit.parameters)
