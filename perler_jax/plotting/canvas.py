"""What every picture stands on: axes, panels inside them, discs on tissue, colour bars, scale bars.

No style is set and no pyplot state is used unless ``ax`` is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree

from perler_jax._typing import Float, Real, Shaped

__all__ = [
    "EXPRESSION",
    "colour_bar",
    "draw_discs",
    "draw_scale",
    "frame_tissue",
    "name_sections",
    "new_axes",
    "panels",
    "spacing",
    "tissue_size",
]

#: Perceptually uniform, readable without colour vision and in grey.
EXPRESSION = "viridis"

# Discs overlap a little, so that tissue shows no holes.
_DIAMETER = 2.1


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot  # only here: notebooks then show the figure, servers never load a GUI

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def panels(ax: Axes, rows: int, columns: int, *, gap: tuple[float, float] = (0.04, 0.12)) -> list[list[Axes]]:
    """Divide an axes into rows of panels; it is switched off itself and holds them as its children.

    Args:
        ax: what to divide.
        rows: number of rows, the first on top.
        columns: panels per row.
        gap: share of the width and height between neighbours.
    """
    ax.set_axis_off()
    width = (1 - gap[0] * (columns - 1)) / columns
    height = (1 - gap[1] * (rows - 1)) / rows
    return [
        [
            ax.inset_axes((column * (width + gap[0]), 1 - height - row * (height + gap[1]), width, height))
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def spacing(coordinates: Float[np.ndarray, "locations dimensions"]) -> float:
    """Median distance between nearest neighbours, which is how large a location is drawn."""
    if len(coordinates) < 2:
        return 1.0
    return float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))


def draw_discs(
    ax: Axes,
    values: Float[np.ndarray, " locations"] | None,
    flat: Float[np.ndarray, "locations 2"],
    distance: float,
    *,
    limits: tuple[Real, Real] | None = None,
    cmap: str = EXPRESSION,
    colour: str | Sequence[str] | None = None,
    size: float = 1.0,
) -> EllipseCollection:
    """One disc per location, as large as the distance between neighbours, later ones over earlier ones.

    Args:
        ax: where to draw.
        values: one number per location; None paints all in ``colour``.
        flat: positions as drawn.
        distance: between neighbours, in the unit of the positions.
        limits: values at the ends of the colours. None: the extremes of the values. NaN is light grey.
        cmap: name of a colour map.
        colour: of all discs, where there are no values, or of each.
        size: of the discs, as a multiple of the usual.
    """
    # Circles in the unit of the coordinates: they overlap alike at any size of the figure.
    diameter = np.full(len(flat), _DIAMETER * distance * size)
    discs = EllipseCollection(
        diameter, diameter, np.zeros(len(flat)), units="xy", offsets=flat, offset_transform=ax.transData
    )
    if values is None:
        discs.set_facecolor(colour or "0.5")
    else:
        discs.set_cmap(cmap)
        discs.set_cmap(discs.get_cmap().with_extremes(bad="0.85"))
        discs.set_array(np.ma.masked_invalid(values))
        known = values[np.isfinite(values)]
        discs.set_clim(*(limits or ((known.min(), known.max()) if len(known) else (0.0, 1.0))))
    discs.set_linewidth(0)
    ax.add_collection(discs)
    return discs


def frame_tissue(ax: Axes, flat: Float[np.ndarray, "locations 2"], distance: float) -> None:
    """Equal units on both axes, no frame, room for the outermost discs."""
    low, high = flat.min(0) - 1.5 * distance, flat.max(0) + 1.5 * distance
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.set_axis_off()


def name_sections(
    ax: Axes,
    flat: Float[np.ndarray, "points 2"],
    sections: Shaped[np.ndarray, " points"] | None,
    distance: float,
) -> None:
    """The name of every section above it; nothing where there is one.

    Args:
        ax: where the tissue is drawn.
        flat: positions as drawn, sections side by side.
        sections: name of the section of each.
        distance: between neighbours.
    """
    for name in [] if sections is None else np.unique(sections):
        own = flat[sections == name]
        middle, top = (own[:, 0].min() + own[:, 0].max()) / 2, own[:, 1].max() + _DIAMETER / 2 * distance
        ax.annotate(
            str(name), (middle, top), (0, 1), textcoords="offset points", ha="center", va="bottom", fontsize=8
        )


def tissue_size(
    flat: Float[np.ndarray, "points 2"], width: float = 6.0, *, beside: float = 1.2
) -> tuple[float, float]:
    """Inches of a figure that tissue fills, with a title above it and so much for labels beside it."""
    across, up = np.ptp(flat, axis=0)
    return width, float(np.clip((width - beside) * up / max(across, 1e-9), 1.0, 4.6)) + 0.7


def colour_bar(ax: Axes, mappable: ScalarMappable, label: str, *, width: float = 0.025) -> None:
    """A labelled colour bar as high as what is drawn, on the right of it; width as a share of the axes."""
    # An inset is as high as the tissue; a bar beside the axes is as high as the empty panel.
    beside = ax.inset_axes((1.0 + 0.8 * width, 0.05, width, 0.9))
    ax.figure.colorbar(mappable, cax=beside, label=label, ticks=MaxNLocator(3))


def draw_scale(ax: Axes, length: Real) -> None:
    """A bar of that many micrometres below the left end of the tissue."""
    left, bottom = ax.get_xlim()[0], ax.get_ylim()[0]
    ax.plot([left, left + length], [bottom, bottom], color="black", lw=2, clip_on=False)
    ax.annotate(f"{length:g} µm", (left, bottom), (0, -3), textcoords="offset points", va="top", fontsize=8)
