"""Pictures of patterns on tissue: one, many, binary bins, a reference beside its prediction and the error.

Maps of three coordinates are drawn as seen from one side; flat tissue (two coordinates) as it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from perler_jax._typing import Bool, Float, Real, Shaped
from perler_jax.inputs.sections import side_by_side
from perler_jax.plotting.canvas import (
    EXPRESSION,
    colour_bar,
    draw_discs,
    draw_scale,
    frame_tissue,
    name_sections,
    new_axes,
    panels,
    spacing,
    tissue_size,
)
from perler_jax.plotting.views import Mirror, View, flatten

__all__ = ["plot_bins", "plot_comparison", "plot_pattern", "plot_pattern_grid"]

# Okabe and Ito's colours, told apart by every eye.
_BINS = {"on": "#0072B2", "missed": "#E69F00", "too much": "#CC79A7", "off": "#E4E4E4"}


def plot_pattern(
    values: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    sections: Shaped[np.ndarray, " locations"] | None = None,
    view: View = "front",
    mirror: Mirror = False,
    ax: Axes | None = None,
    title: str | None = None,
    unit: str | None = None,
    limits: tuple[Real, Real] | None = None,
    cmap: str = EXPRESSION,
    scale_bar: Real | None = None,
) -> Axes:
    """Draw one pattern on the tissue.

    Args:
        values: one number per location; NaN is light grey.
        coordinates: two columns (flat tissue) or three.
        sections: name of the section that each location lies in; they are drawn side by side, each with its
            name.
        view: side from which a 3D map is seen; flat tissue has none. "front" (x to the right, z up), "back",
            "left", "right", "top" and "bottom" draw all locations. The views of an embryo (x anterior to
            posterior, y across with the midline at 0, z up to dorsal) hide its far side; right and left count
            as alike: "lateral" has the anterior left and dorsal up, and shows y >= 0.
        mirror: what is given is one half: draw the other with the same values. "x", "y" or "z" turns that
            coordinate round (True: y), an array gives its coordinates.
        ax: axes to draw in; None makes a figure.
        title: text above.
        unit: what the values are; with it a labelled colour bar is drawn.
        limits: values at the ends of the colours. None: the extremes of the values.
        cmap: name of a perceptually uniform colour map.
        scale_bar: length of a scale bar, in the unit of the coordinates, taken to be micrometres.

    Returns:
        The axes that were given, or new ones.

    Raises:
        PerlerInputError: coordinates with neither two nor three columns, or an unknown view.
    """
    coordinates = side_by_side(coordinates, sections)
    flat, rows = flatten(coordinates, view, mirror)
    ax = new_axes(ax, tissue_size(flat))
    distance = spacing(coordinates)
    if limits is None:  # those of all locations, also of the far side: every view has the same colours
        known = values[np.isfinite(values)]
        limits = (known.min(), known.max()) if len(known) else None
    discs = draw_discs(ax, values[rows], flat, distance, limits=limits, cmap=cmap)
    frame_tissue(ax, flat, distance)
    name_sections(ax, flat, None if sections is None else sections[rows], distance)
    if title is not None:
        ax.set_title(title, pad=6 if sections is None else 14)
    if unit is not None:
        colour_bar(ax, discs, unit)
    if scale_bar is not None:
        draw_scale(ax, scale_bar)
    return ax


def plot_pattern_grid(
    predicted: Float[np.ndarray, "locations genes"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    genes: Sequence[str],
    *,
    truth: Float[np.ndarray, "locations genes"] | None = None,
    view: View = "front",
    mirror: Mirror = False,
    columns: int = 2,
    names: tuple[str, str] = ("reconstructed", "truth"),
    cmap: str = EXPRESSION,
    ax: Axes | None = None,
) -> Axes:
    """Draw several predicted patterns, each beside its truth where given; every panel on its own scale.

    Args:
        predicted: one column per gene.
        coordinates: as in ``plot_pattern``.
        genes: names of the columns.
        truth: the same locations and genes; units may differ from those of the prediction.
        view: side from which an embryo is seen.
        mirror: draw the other half too.
        columns: genes per row.
        names: what the two sides are called.
        cmap: name of a perceptually uniform colour map.
        ax: axes whose place is divided into panels; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    sides = [(names[0], predicted)] if truth is None else [(names[0], predicted), (names[1], truth)]
    rows = -(-len(genes) // columns)
    ax = new_axes(ax, (2.9 * columns * len(sides), 1.45 * rows + 0.5))
    grid = panels(ax, rows, columns * len(sides), gap=(0.02, 0.3 / (rows + 1)))
    for panel in (each for row in grid for each in row):
        panel.set_axis_off()
    for gene, name in enumerate(genes):
        for side, (label, table) in enumerate(sides):
            panel = grid[gene // columns][gene % columns * len(sides) + side]
            plot_pattern(table[:, gene], coordinates, view=view, mirror=mirror, ax=panel, cmap=cmap)
            panel.set_title(f"{name}, {label}", fontsize=10)
    note = "each panel from its lowest (dark) to its highest value (bright)"
    ax.annotate(note, (0.5, 0), (0, -6), "axes fraction", "offset points", ha="center", va="top", fontsize=8)
    return ax


def plot_comparison(
    reference: Float[np.ndarray, " locations"],
    predicted: Float[np.ndarray, " locations"],
    error: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    sections: Shaped[np.ndarray, " locations"] | None = None,
    view: View = "front",
    mirror: Mirror = False,
    names: tuple[str, str, str] = ("reference", "prediction", "error"),
    units: tuple[str, str, str] = ("intensity", "log2", "log2"),
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a reference beside its prediction beside the error.

    Args:
        reference: what was measured.
        predicted: what was predicted, maybe in other units.
        error: a difference, drawn around zero (blue where too low, red where too high), or a standard error,
            which has no sign and is drawn from zero (pale) upward.
        coordinates: as in ``plot_pattern``.
        sections: as in ``plot_pattern``.
        view: side from which an embryo is seen.
        mirror: draw the other half too.
        names: of the three panels.
        units: of the three panels.
        title: text above all, such as the gene's name.
        ax: axes whose place is divided into panels; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    width, height = tissue_size(flatten(side_by_side(coordinates, sections), view, mirror)[0], 3.9)
    ax = new_axes(ax, (3 * width, height + 0.2))
    largest = float(np.nanmax(np.abs(error)))
    signed = bool(np.nanmin(error) < 0)
    drawn = (
        (reference, EXPRESSION, None),
        (predicted, EXPRESSION, None),
        (error, "RdBu_r", (-largest, largest)) if signed else (error, "magma_r", (0.0, largest)),
    )
    row = panels(ax, 1, 3, gap=(0.1, 0.0))[0]
    for panel, (values, cmap, limits), name, unit in zip(row, drawn, names, units, strict=True):
        shared: dict[str, Any] = {"sections": sections, "view": view, "mirror": mirror, "ax": panel}
        plot_pattern(values, coordinates, **shared, unit=unit, limits=limits, cmap=cmap)
        panel.set_title(name, fontsize=10, pad=6 if sections is None else 14)
    if title is not None:
        ax.set_title(title, pad=22 if sections is None else 30)
    return ax


def plot_bins(
    on: Bool[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    predicted: Bool[np.ndarray, " locations"] | None = None,
    view: View = "front",
    mirror: Mirror = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where a gene of a binary reference is on, and where a thresholded prediction differs.

    Args:
        on: the reference.
        coordinates: as in ``plot_pattern``.
        predicted: the prediction after a threshold; None draws the reference alone.
        view: side from which an embryo is seen.
        mirror: draw the other half too.
        title: text above.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    if predicted is None:
        names = np.where(on, "on", "off")
    else:
        names = np.where(on, np.where(predicted, "on", "missed"), np.where(predicted, "too much", "off"))
    flat, rows = flatten(coordinates, view, mirror)
    ax = new_axes(ax, tissue_size(flat))
    distance = spacing(coordinates)
    draw_discs(ax, None, flat, distance, colour=[_BINS[name] for name in names[rows]], size=0.44)
    frame_tissue(ax, flat, distance)
    shown = [name for name in _BINS if name in names or (predicted is None and name in ("on", "off"))]
    ax.legend(
        [Line2D([], [], marker="o", ls="none", ms=7, color=_BINS[name]) for name in shown],
        [f"{name} ({(names == name).sum()})" for name in shown],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        handletextpad=0.2,
    )
    if title is not None:
        ax.set_title(title)
    return ax
