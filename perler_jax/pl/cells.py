"""Where cells are from: all of them on the tissue, or the posterior of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from perler_jax._typing import Real
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.labels import few
from perler_jax.inputs.labels import positions as position_of
from perler_jax.inputs.sections import side_by_side
from perler_jax.pl.finish import finish
from perler_jax.plotting.canvas import (
    EXPRESSION,
    colour_bar,
    draw_discs,
    frame_tissue,
    new_axes,
    spacing,
    tissue_size,
)
from perler_jax.plotting.cells import plot_posterior
from perler_jax.plotting.views import View, flatten
from perler_jax.trust.placement import CellPositions
from perler_jax.trust.rows import posterior_rows
from perler_jax.trust.tissue import fold

__all__ = ["positions"]


def positions(
    found: CellPositions,
    *,
    cell: str | int | None = None,
    at: str = "mean",
    color: str = "radius_90",
    mass: float = 0.9,
    view: View = "front",
    cmap: str = EXPRESSION,
    size: Real = 0.6,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Any = None,
) -> Axes:
    """Draw where cells are from: a dot for each on the tissue, or the probability of one cell everywhere.

    Args:
        found: from `perler_jax.trust.cell_positions`. An AnnData that it annotated is drawn by
            ``pl.spatial(cells, color="origin_radius_90", basis="spatial_mean")``.
        cell: name or position of one cell: draw its posterior, with its credible region outlined.
        at: "mean", "top" or "medoid": which place of a cell, where all are drawn; with several sections
            there is no mean, and the first of the others is drawn.
        color: column of numbers of the table, such as "radius_90", "entropy" or "probability_NAME".
        mass: of the credible region of one cell.
        view: side from which a 3D map is seen.
        cmap: colour map.
        size: of the dots, as a multiple of the distance of locations.
        ax: axes to draw in; None makes a figure.
        show: True calls ``pyplot.show()``.
        save: path to write to; its ending says how (.pdf and .svg are vectors).

    Returns:
        The axes that were given, or new ones.

    Raises:
        PerlerInputError: no coordinates, an unknown cell, column or place.
    """
    where = found.posterior.coordinates
    if where is None:
        raise PerlerInputError(
            "expected coordinates of the locations; found none; give them with the reference"
        )
    sections = found.posterior.sections
    where = side_by_side(np.asarray(fold(where, found.midline), np.float64), sections)
    if cell is not None:
        ax = _one(found, cell, where, mass, view, ax)
    else:
        ax = _all(found, where, at, color, view, cmap, float(size), ax)
    finish(ax, show=show, save=save)
    return ax


def _one(
    found: CellPositions, cell: str | int, where: np.ndarray, mass: float, view: View, ax: Axes | None
) -> Axes:
    row = int(position_of([cell], found.table.index.to_numpy(str), "cell")[0])
    name = str(found.table.index[row])
    rows = found.rows[[row]]
    chances = found.posterior.over_tiles(_rows, rows, tempering=found.tempering)[0]
    return plot_posterior(
        np.asarray(chances, np.float64),
        where,
        region=found.region(name, mass),
        view=view,
        title=f"{name}: {100 * mass:g} % region of {int(found.region(name, mass).sum())} locations",
        ax=ax,
    )


def _rows(params: Any, cells: Any, reference: Any, evidence: Any, tissue: Any) -> Any:
    return posterior_rows(params, cells, reference, evidence, tissue.blur)


def _all(
    found: CellPositions,
    where: np.ndarray,
    at: str,
    color: str,
    view: View,
    cmap: str,
    size: float,
    ax: Axes | None,
) -> Axes:
    places = {"mean": found.mean, "top": found.top, "medoid": found.medoid}
    if at == "mean" and found.posterior.sections is not None:
        at = "top"
    chosen = places.get(at)
    if found.posterior.sections is not None and chosen is not None:  # as the tissue is drawn
        column = found.table[f"{at}_location"].to_numpy(str)
        chosen = where[position_of(column, found.posterior.locations, "location")]
    if chosen is None:
        known = [name for name, values in places.items() if values is not None]
        raise PerlerInputError(f"expected at= one of {', '.join(known)}; found {at!r}")
    numbers = found.table.select_dtypes("number")
    if color not in numbers:
        raise PerlerInputError(
            f"expected a column of numbers of the table; found {color!r}; there are {few(list(numbers), 12)}"
        )
    tissue, _ = flatten(where, view)
    flat, order = flatten(np.asarray(chosen, np.float64), view)
    distance = spacing(where)
    ax = new_axes(ax, tissue_size(tissue))
    draw_discs(ax, None, tissue, distance, colour="0.92")
    frame_tissue(ax, tissue, distance)
    discs = draw_discs(ax, numbers[color].to_numpy(np.float64)[order], flat, distance, cmap=cmap, size=size)
    colour_bar(ax, discs, _words(color))
    ax.set_title(f"{len(order)} cells, {at} of where each may be from")
    return ax


def _words(column: str) -> str:
    """A column of the table as people say it."""
    name, _, rest = column.partition("_")
    if name == "radius":
        return f"radius that holds {rest} %"
    return f"probability of {rest}" if name == "probability" else column.replace("_", " ")
