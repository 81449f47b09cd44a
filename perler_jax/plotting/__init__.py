"""Pictures: each function draws numbers that it is given, takes ``ax``, returns it and sets no style."""

from perler_jax.plotting.cells import plot_posterior
from perler_jax.plotting.embryo import plot_unrolled, plot_views
from perler_jax.plotting.fit import plot_em_trace, plot_loadings, plot_objective, plot_parameters
from perler_jax.plotting.patterns import plot_bins, plot_comparison, plot_pattern, plot_pattern_grid
from perler_jax.plotting.profile import plot_profile
from perler_jax.plotting.trust import plot_calibration, plot_reliability, plot_resolution
from perler_jax.plotting.views import Mirror, View
from perler_jax.plotting.zones import plot_zones

__all__ = [
    "Mirror",
    "View",
    "plot_bins",
    "plot_calibration",
    "plot_comparison",
    "plot_em_trace",
    "plot_loadings",
    "plot_objective",
    "plot_parameters",
    "plot_pattern",
    "plot_pattern_grid",
    "plot_posterior",
    "plot_profile",
    "plot_reliability",
    "plot_resolution",
    "plot_unrolled",
    "plot_views",
    "plot_zones",
]
