"""Picture of where a cell came from: its posterior on the tissue."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from perler_jax._typing import Bool, Float, Real
from perler_jax.plotting.canvas import (
    colour_bar,
    draw_discs,
    draw_scale,
    frame_tissue,
    new_axes,
    spacing,
    tissue_size,
)
from perler_jax.plotting.views import Mirror, View, flatten

__all__ = ["plot_posterior"]


def plot_posterior(
    probability: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    region: Bool[np.ndarray, " locations"] | None = None,
    truth: int | None = None,
    view: View = "front",
    mirror: Mirror = False,
    cmap: str = "BuPu",
    scale_bar: Real | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the probability that one cell came from each location; the most probable one is ringed.

    Args:
        probability: one row of ``PerlerFit.posterior``.
        coordinates: as in ``plot_pattern``.
        region: locations to outline, such as a 90 % credible region.
        truth: where the cell truly came from, where that is known; marked by a cross.
        view: side from which an embryo is seen.
        mirror: draw the other half too, with the same probabilities.
        cmap: name of a colour map whose low end is pale.
        scale_bar: length of a scale bar, micrometres.
        title: text above, such as the cell's name.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    flat, rows = flatten(coordinates, view, mirror)
    ax = new_axes(ax, tissue_size(flat))
    distance = spacing(coordinates)
    limits = (0.0, float(probability.max()))
    draw_discs(ax, None, flat, distance, colour="0.75", size=1.25)  # its rim shows where pale tissue ends
    discs = draw_discs(ax, probability[rows], flat, distance, limits=limits, cmap=cmap)
    if region is not None and region[rows].any():
        # Larger dark discs below those of the region leave its border, and no lines inside.
        inside = region[rows]
        draw_discs(ax, None, flat[inside], distance, colour="0.15", size=1.35)
        draw_discs(ax, probability[rows][inside], flat[inside], distance, limits=limits, cmap=cmap)
        ax.scatter([], [], marker="s", s=60, facecolor="none", edgecolor="0.15", label="credible region")
    frame_tissue(ax, flat, distance)
    for location, style, label in (
        (int(probability.argmax()), {"marker": "o", "s": 90, "facecolor": "none"}, "most probable"),
        (truth, {"marker": "X", "s": 70, "facecolor": "white"}, "true origin"),
    ):
        if location is not None and np.any(rows == location):
            ax.scatter(
                *flat[rows == location].T,
                **style,  # type: ignore[arg-type]
                edgecolor="#D95F02",
                linewidth=1.5,
                label=label,
                zorder=4,
            )
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=8)
    colour_bar(ax, discs, "probability")
    if scale_bar is not None:
        draw_scale(ax, scale_bar)
    if title is not None:
        ax.set_title(title)
    return ax
