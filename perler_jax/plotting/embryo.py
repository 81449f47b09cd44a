"""Pictures of a whole embryo: one pattern from every named side, and its skin unrolled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from perler_jax._typing import Float, Real
from perler_jax.inputs.axes import SpatialAxes, as_axes
from perler_jax.plotting.canvas import (
    EXPRESSION,
    colour_bar,
    draw_discs,
    draw_scale,
    new_axes,
    spacing,
    tissue_size,
)
from perler_jax.plotting.patterns import plot_pattern
from perler_jax.plotting.views import Mirror, View, flatten, unroll

__all__ = ["plot_unrolled", "plot_views"]

_EMBRYO: tuple[View, ...] = ("anterior", "lateral", "dorsal", "ventral", "posterior")
_ANY: tuple[View, ...] = ("left", "front", "top", "bottom", "right", "back")


def plot_views(
    values: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations 3"],
    *,
    views: Sequence[View] | None = None,
    axes: SpatialAxes | Mapping[str, Any] | None = None,
    mirror: Mirror = False,
    title: str | None = None,
    unit: str | None = None,
    limits: tuple[Real, Real] | None = None,
    cmap: str = EXPRESSION,
    scale_bar: Real | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one pattern on a 3D map as seen from several sides, all to one scale and in the same colours.

    Args:
        values: one number per location.
        coordinates: as in ``plot_pattern``, three columns.
        views: sides, from left to right; None: those of an embryo where the axes say that it is one, else of
            any map.
        axes: what ``uns["spatial_axes"]`` of a result says.
        mirror: draw the other half too, as most views of a half embryo need.
        title: text above all.
        unit: what the values are; with it a labelled colour bar is drawn.
        limits: values at the ends of the colours. None: the extremes of the values.
        cmap: name of a perceptually uniform colour map.
        scale_bar: length of a scale bar below the first view, micrometres.
        ax: axes whose place is divided into panels; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    if views is None:
        views = _EMBRYO if as_axes(axes).ends(0) == ("anterior", "posterior") else _ANY
    distance = spacing(coordinates)
    # A panel is as wide and as high as what it shows, so that a micrometre is as long in all of them.
    sizes = np.array([np.ptp(flatten(coordinates, view, mirror)[0], axis=0) + 3 * distance for view in views])
    gap = 0.06 * sizes[:, 0].max()
    width, height = sizes[:, 0].sum() + gap * (len(views) - 1), sizes[:, 1].max()
    inches = 11.0
    ax = new_axes(ax, (inches, inches * height / width + 0.7))
    ax.set_axis_off()
    # The place of all panels keeps their common proportions whatever the shape of the axes.
    ax.set(xlim=(0.0, width), ylim=(0.0, height), aspect="equal")
    left = 0.0
    for index, view in enumerate(views):
        across, up = sizes[index]
        panel = ax.inset_axes((left / width, (1 - up / height) / 2, across / width, up / height))
        last = index == len(views) - 1
        plot_pattern(
            values,
            coordinates,
            view=view,
            mirror=mirror,
            ax=panel,
            limits=limits,
            cmap=cmap,
            scale_bar=scale_bar if index == 0 else None,
        )
        panel.set_title(view, fontsize=9)
        if last and unit is not None:
            colour_bar(ax, panel.collections[0], unit, width=0.01)
        left += across + gap
    if title is not None:
        ax.set_title(title, pad=26)
    return ax


def plot_unrolled(
    values: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    axes: SpatialAxes | Mapping[str, Any] | None = None,
    mirror: Mirror = False,
    title: str | None = None,
    unit: str | None = None,
    limits: tuple[Real, Real] | None = None,
    cmap: str = EXPRESSION,
    scale_bar: Real | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one pattern on the skin of a body laid flat: every location at once.

    The skin is cut along the top (the dorsal midline of an embryo); the lower midline is dashed. Low x
    (anterior) is left. Half a body reaches from its lower midline to its upper one.

    Args:
        values: one number per location.
        coordinates: as in ``plot_pattern``, three columns.
        axes: what ``uns["spatial_axes"]`` of a result says: names of the sides, such as ventral and dorsal;
            None: bottom, left, right, top.
        mirror: draw the other half too.
        title: text above.
        unit: what the values are; with it a labelled colour bar is drawn.
        limits: values at the ends of the colours. None: the extremes of the values.
        cmap: name of a perceptually uniform colour map.
        scale_bar: length of a scale bar from anterior to posterior, units of the coordinates (micrometres).
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    flat, rows, reach = unroll(coordinates, mirror)
    ax = new_axes(ax, tissue_size(flat, beside=1.9))
    distance = spacing(coordinates)
    discs = draw_discs(ax, values[rows], flat, distance, limits=limits, cmap=cmap)
    low, high = flat[:, 0].min() - 1.5 * distance, flat[:, 0].max() + 1.5 * distance
    left, right = as_axes(axes).ends(1) or ("left", "right")
    lower, upper = as_axes(axes).ends(2) or ("bottom", "top")
    both = bool(np.any(flat[:, 1] < -2 * distance))
    bottom = -reach if both else 0.0
    ax.axhline(0.0, color="white" if both else "0.6", lw=1, ls=(0, (4, 3)), zorder=3)
    ax.set(
        xlim=(low, high),
        ylim=(bottom - 1.5 * distance, reach + 1.5 * distance),
        aspect="equal",
        yticks=[-reach, -reach / 2, 0, reach / 2, reach] if both else [0, reach / 2, reach],
        yticklabels=[upper, left, lower, right, upper] if both else [lower, "side", upper],
        xticks=[],
    )
    ax.tick_params(length=0, labelsize=9)
    ax.spines[:].set_visible(False)
    if unit is not None:
        colour_bar(ax, discs, unit)
    if scale_bar is not None:
        draw_scale(ax, scale_bar)
    if title is not None:
        ax.set_title(title)
    return ax
