"""Pictures: each function takes ``ax``, returns it and computes nothing."""

from perler_jax.plotting.patterns import (
    View,
    plot_em_trace,
    plot_objective,
    plot_pattern,
    plot_pattern_grid,
    plot_profile,
)

__all__ = ["View", "plot_em_trace", "plot_objective", "plot_pattern", "plot_pattern_grid", "plot_profile"]
