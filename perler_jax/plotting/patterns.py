"""Pictures of patterns, fits and stripes. Every function draws given numbers, takes ``ax`` and returns it.

Nothing is computed beyond what drawing needs, no style is set and no pyplot state is used unless ``ax`` is
left out. Embryos (three coordinates) are drawn as seen from one side, anterior left or dorsal up, with the
far side hidden; flat tissue (two coordinates) as it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree

from perler_jax._typing import Float, Real
from perler_jax.errors import PerlerInputError
from perler_jax.scores.stripes import StripeCount

__all__ = ["View", "plot_em_trace", "plot_objective", "plot_pattern", "plot_pattern_grid", "plot_profile"]

View = Literal["lateral", "dorsal", "ventral", "anterior", "posterior"]

#: view -> (coordinate drawn to the right, drawn upward, pointing at the viewer), each with its sign.
_VIEWS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "lateral": ((0, 1), (2, 1), (1, 1)),
    "dorsal": ((0, 1), (1, 1), (2, 1)),
    "ventral": ((0, 1), (1, 1), (2, -1)),
    "anterior": ((1, 1), (2, 1), (0, -1)),
    "posterior": ((1, 1), (2, 1), (0, 1)),
}


def plot_pattern(
    values: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    view: View = "lateral",
    mirror: bool | Float[np.ndarray, "locations 3"] = False,
    ax: Axes | None = None,
    title: str | None = None,
    unit: str | None = None,
    limits: tuple[Real, Real] | None = None,
    cmap: str = "viridis",
    scale_bar: Real | None = None,
) -> Axes:
    """Draw one pattern on the tissue.

    Args:
        values: one number per location.
        coordinates: two columns (flat tissue) or three (x anterior to posterior, y across with the midline at
            0, z up to dorsal).
        view: side from which an embryo is seen; flat tissue has none. Right and left count as alike: a
            lateral view has the anterior left and dorsal up, as the field draws it, and shows y >= 0.
        mirror: draw the other half with the same values: True reflects y, an array gives its coordinates.
        ax: axes to draw in; None makes a figure.
        title: text above.
        unit: what the values are; with it a labelled colour bar is drawn.
        limits: values at the ends of the colours. None: the extremes of the values.
        cmap: name of a perceptually uniform colour map.
        scale_bar: length of a scale bar, in the unit of the coordinates, taken to be micrometres.

    Raises:
        PerlerInputError: coordinates with neither two nor three columns.
    """
    if coordinates.shape[1] not in (2, 3):
        raise PerlerInputError(f"Expected 2 or 3 coordinates, found {coordinates.shape[1]} columns.")
    ax = _axes(ax, (6.0, 3.2))
    spacing = float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))
    if coordinates.shape[1] == 3:
        flat, values = _seen_from(values, coordinates, view, mirror)
    else:
        flat = coordinates
    # Circles in the unit of the coordinates: they overlap alike at any size of the figure.
    size = np.full(len(flat), 2.1 * spacing)
    dots = EllipseCollection(
        size, size, np.zeros(len(flat)), units="xy", offsets=flat, offset_transform=ax.transData, cmap=cmap
    )
    dots.set_array(values)
    dots.set_clim(*(limits if limits is not None else (np.nanmin(values), np.nanmax(values))))
    dots.set_linewidth(0)
    ax.add_collection(dots)
    low, high = flat.min(0) - 1.5 * spacing, flat.max(0) + 1.5 * spacing
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title)
    if unit is not None:
        # An inset is as high as the tissue; a bar beside the axes is as high as the empty panel.
        beside = ax.inset_axes((1.02, 0.05, 0.025, 0.9))
        ax.figure.colorbar(dots, cax=beside, label=unit, ticks=MaxNLocator(3))
    if scale_bar is not None:
        ax.plot([low[0], low[0] + scale_bar], [low[1], low[1]], color="black", lw=2, clip_on=False)
        ax.annotate(
            f"{scale_bar:g} µm", (low[0], low[1]), (0, -3), textcoords="offset points", va="top", fontsize=8
        )
    return ax


def plot_pattern_grid(
    predicted: Float[np.ndarray, "locations genes"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    genes: Sequence[str],
    *,
    truth: Float[np.ndarray, "locations genes"] | None = None,
    view: View = "lateral",
    mirror: bool | Float[np.ndarray, "locations 3"] = False,
    columns: int = 2,
    names: tuple[str, str] = ("reconstructed", "truth"),
    cmap: str = "viridis",
) -> Figure:
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
    """
    sides = [(names[0], predicted)] if truth is None else [(names[0], predicted), (names[1], truth)]
    rows = -(-len(genes) // columns)
    figure = Figure(figsize=(2.9 * columns * len(sides), 1.45 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns * len(sides), squeeze=False)
    for ax in panels.flat:
        ax.set_axis_off()
    for gene, name in enumerate(genes):
        for side, (label, table) in enumerate(sides):
            ax = panels[gene // columns, gene % columns * len(sides) + side]
            plot_pattern(table[:, gene], coordinates, view=view, mirror=mirror, ax=ax, cmap=cmap)
            ax.set_title(f"{name}, {label}", fontsize=10)
    figure.supxlabel("each panel from its lowest (dark) to its highest value (bright)", fontsize=8)
    return figure


def plot_em_trace(log_likelihood: Float[np.ndarray, " steps"], *, ax: Axes | None = None) -> Axes:
    """Draw the mean log-likelihood per cell (nats) at each iteration; NaN (padding) is left out."""
    ax = _axes(ax, (4.5, 3.0))
    seen = np.isfinite(log_likelihood)
    ax.plot(np.arange(1, len(log_likelihood) + 1)[seen], log_likelihood[seen], marker="o", ms=3, lw=1)
    ax.set(xlabel="EM iteration", ylabel="log-likelihood per cell (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def plot_objective(
    alpha: Float[np.ndarray, " alphas"],
    beta: Float[np.ndarray, " betas"],
    objective: Float[np.ndarray, "alphas betas"],
    *,
    path: Float[np.ndarray, "steps 2"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the tuning objective J over alpha and beta, with the optimiser's path and its end.

    Axes are logarithmic where all their values are positive. Undefined corners of the grid stay empty.
    """
    ax = _axes(ax, (4.8, 3.6))
    surface = ax.contourf(beta, alpha, np.ma.masked_invalid(objective), levels=24, cmap="viridis")
    ax.figure.colorbar(surface, ax=ax, label="objective J (nats)")
    if np.all(alpha > 0):
        ax.set_yscale("log")
    if np.all(beta > 0):
        ax.set_xscale("log")
    if path is not None:
        ax.plot(path[:, 1], path[:, 0], color="white", marker=".", lw=1)
        ax.plot(path[-1:, 1], path[-1:, 0], color="red", marker="*", ms=12, mec="white", ls="none")
    ax.set(xlabel=r"$\beta$ (weight of $D$)", ylabel=r"$\alpha$ (weight of $D^2$)")
    return ax


def plot_profile(
    positions: Float[np.ndarray, " positions"],
    profile: Float[np.ndarray, " positions"],
    *,
    stripes: StripeCount | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    unit: str = "expression",
) -> Axes:
    """Draw a profile along the straightened axis (um, anterior left) with its stripes marked and numbered."""
    ax = _axes(ax, (5.5, 2.4))
    ax.plot(positions, profile, lw=1.5)
    if stripes is not None:
        heights = np.interp(stripes.positions, positions, profile)
        ax.plot(stripes.positions, heights, "v", color="C3", ms=5)
        for number, (x, y) in enumerate(zip(stripes.positions, heights, strict=True), start=1):
            ax.annotate(str(number), (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    ax.margins(x=0.0, y=0.15)
    ax.set(xlabel="position along the straightened axis (µm)", ylabel=unit)
    if title is not None:
        ax.set_title(title)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot  # only here: notebooks then show the figure, servers never load a GUI

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _seen_from(
    values: np.ndarray, coordinates: np.ndarray, view: str, mirror: bool | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions and values of the visible side, farthest first so that nearer dots cover them."""
    if mirror is not False:
        other = coordinates * np.array([1.0, -1.0, 1.0]) if mirror is True else mirror
        coordinates, values = np.concatenate([coordinates, other]), np.concatenate([values, values])
    (right, right_sign), (up, up_sign), (toward, toward_sign) = _VIEWS[view]
    depth = toward_sign * coordinates[:, toward]
    # The midline of a bilateral embryo is y = 0 even where only one half is given.
    middle = 0.0 if toward == 1 else (depth.min() + depth.max()) / 2
    order = np.argsort(depth, kind="stable")
    order = order[depth[order] >= middle]
    flat = np.stack([right_sign * coordinates[:, right], up_sign * coordinates[:, up]], axis=1)
    return flat[order], values[order]
