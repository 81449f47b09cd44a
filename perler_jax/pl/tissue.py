"""Genes and columns of ``obs`` on the tissue, from an AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from perler_jax._typing import Float, Real
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.axes import as_axes
from perler_jax.inputs.labels import few
from perler_jax.inputs.sections import sections_of_result, side_by_side
from perler_jax.pl.colours import Colouring, colouring_of, palette_of
from perler_jax.pl.finish import finish
from perler_jax.plotting.canvas import (
    EXPRESSION,
    colour_bar,
    draw_discs,
    draw_scale,
    frame_tissue,
    name_sections,
    new_axes,
    spacing,
    tissue_size,
)
from perler_jax.plotting.views import Mirror, View, flatten

__all__ = ["coordinates_of", "side_of", "spatial"]

_NOTHING = "0.85"
_ROWS = 14  # categories of a legend in one column


def spatial(
    adata: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    basis: str = "spatial",
    section_key: str | None = None,
    layer: str | None = None,
    view: View | None = None,
    mirror: Mirror | None = None,
    ncols: int = 3,
    cmap: str = EXPRESSION,
    palette: Any = None,
    vmin: Real | None = None,
    vmax: Real | None = None,
    size: Real = 1.0,
    title: str | Sequence[str] | None = None,
    scale_bar: Real | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Any = None,
) -> Axes | list[Axes]:
    """Draw genes and columns of ``obs`` on the tissue.

    Args:
        adata: a result of `PerlerFit.reconstruct` or `PerlerFit.transfer`, a reference, or any AnnData with
            positions.
        color: gene or column of ``obs``, or several; None draws where the tissue is.
        basis: key of ``obsm`` with two or three coordinates.
        section_key: column of ``obs`` that names sections, which are drawn side by side; None: as the
            result's ``uns["perler"]`` says, or one.
        layer: values of genes from this layer in place of X, such as "standard_error".
        view: side from which a 3D map is seen, as in `perler_jax.plotting.plot_pattern`. None: an embryo, as
            its axes in ``uns["spatial_axes"]`` say, from the side, another map from the front.
        mirror: what is given is one half: draw the other as well; None: as ``uns["spatial_axes"]`` says.
        ncols: panels per row.
        cmap: colour map of numbers.
        palette: colours of categories: a list, a mapping from their names, or the name of a colour map. None:
            ``uns["NAME_colors"]``, where scanpy left them, else colours that every eye tells apart, as far as
            there are so many.
        vmin: value at the low end of the colours; None: the lowest.
        vmax: value at the high end; None: the highest.
        size: of the locations, as a multiple of the usual.
        title: above each panel; None: the names.
        scale_bar: length of a scale bar, in the unit of the coordinates, taken to be micrometres.
        ax: axes to draw in, for one panel; None makes a figure.
        show: True calls ``pyplot.show()``.
        save: path to write to; its ending says how (.pdf and .svg are vectors).

    Returns:
        The axes, or a list of them where several colours are asked for.

    Raises:
        PerlerInputError: no such gene, column, layer or positions, or colours and titles of a wrong number.
        PerlerFileError: a path that cannot be written to.
    """
    in_sections = basis == "spatial" or section_key is not None  # an embedding has none
    sections = sections_of_result(adata, section_key) if in_sections else None
    where = side_by_side(coordinates_of(adata, basis), sections)
    names = [color] if color is None or isinstance(color, str) else list(color)
    if not names:
        raise PerlerInputError("expected at least one gene or column of obs; found none")
    titles = [title] if title is None or isinstance(title, str) else list(title)
    if title is None:
        titles = [name or "" for name in names]
    if len(titles) != len(names) or (ax is not None and len(names) > 1):
        raise PerlerInputError(
            f"expected a title for each of {len(names)} panels, and ax= with one only; found "
            f"{len(titles)} titles{' and ax=' if ax is not None else ''}"
        )
    drawn = [None if name is None else colouring_of(adata, name, layer) for name in names]
    flat, rows = flatten(where, *side_of(adata.uns.get("spatial_axes"), where.shape[1], view, mirror))
    axes = [new_axes(ax, tissue_size(flat))] if len(names) == 1 else _grid(len(names), ncols, flat)
    distance = spacing(where)
    for panel, colouring, text in zip(axes, drawn, titles, strict=True):
        _draw(panel, adata, colouring, flat, rows, distance, cmap, palette, (vmin, vmax), float(size))
        name_sections(panel, flat, None if sections is None else sections[rows], distance)
        panel.set_title(text or "", pad=6 if sections is None else 14)
        if scale_bar is not None:
            draw_scale(panel, scale_bar)
    finish(axes[0], show=show, save=save)
    return axes[0] if color is None or isinstance(color, str) else axes


def side_of(axes: Any, dimensions: int, view: View | None, mirror: Mirror | None) -> tuple[Any, Mirror]:
    """From where a map is seen, and whether its other half is drawn; where nobody says, as its axes do.

    Args:
        axes: what is said of them (`SpatialAxes.plain`), or None.
        dimensions: of the coordinates; flat tissue has one side and no other half.
        view: as asked for.
        mirror: as asked for.
    """
    told = as_axes(axes if dimensions == 3 else None).mirror
    seen = view or ("lateral" if told == "y" else "front")
    if mirror is None:
        half: Any = told
        mirror = False if told is None or seen == "lateral" else half
    return seen, mirror


def coordinates_of(adata: AnnData, basis: str) -> Float[np.ndarray, "rows axes"]:
    """Positions of the rows.

    Raises:
        PerlerInputError: there are none of that name, or neither two nor three axes.
    """
    key = basis if basis in adata.obsm else f"X_{basis}"
    if key not in adata.obsm:
        raise PerlerInputError(
            f"expected positions in obsm[{basis!r}]; found {few(list(adata.obsm.keys())) or 'none'}; name "
            "one of these as basis="
        )
    where = np.asarray(adata.obsm[key], np.float64)
    if where.ndim != 2 or where.shape[1] not in (2, 3):
        raise PerlerInputError(f"expected 2 or 3 coordinates in obsm[{key!r}]; found shape {where.shape}")
    return where


def _grid(n: int, ncols: int, flat: np.ndarray) -> list[Axes]:
    from matplotlib import pyplot

    columns = max(1, min(ncols, n))
    lines = -(-n // columns)
    width, height = tissue_size(flat, 4.6)
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained"
    )
    for spare in grid.flat[n:]:
        spare.remove()
    del figure
    return list(grid.flat[:n])


def _draw(
    ax: Axes,
    adata: AnnData,
    colouring: Colouring | None,
    flat: np.ndarray,
    rows: np.ndarray,
    distance: float,
    cmap: str,
    palette: Any,
    limits: tuple[Real | None, Real | None],
    size: float,
) -> None:
    frame_tissue(ax, flat, distance)
    if colouring is None:
        draw_discs(ax, None, flat, distance, colour="0.5", size=size)
    elif colouring.numbers is not None:
        known = colouring.numbers[np.isfinite(colouring.numbers)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        ends = (low if limits[0] is None else limits[0], high if limits[1] is None else limits[1])
        discs = draw_discs(ax, colouring.numbers[rows], flat, distance, limits=ends, cmap=cmap, size=size)
        colour_bar(ax, discs, colouring.unit)
    else:
        assert colouring.codes is not None
        colours = np.array([*palette_of(adata, colouring, palette), _NOTHING], dtype=object)
        draw_discs(ax, None, flat, distance, colour=list(colours[colouring.codes[rows]]), size=size)
        _legend(ax, colouring, list(colours[:-1]))


def _legend(ax: Axes, colouring: Colouring, colours: list[str]) -> None:
    """Names of the categories beside the tissue."""
    assert colouring.categories is not None
    assert colouring.codes is not None
    marks = [
        Line2D([], [], marker="o", ls="none", ms=6, color=colour, label=str(name))
        for name, colour in zip(colouring.categories, colours, strict=True)
    ]
    if (colouring.codes < 0).any():
        marks.append(Line2D([], [], marker="o", ls="none", ms=6, color=_NOTHING, label="none"))
    ax.legend(
        handles=marks,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=-(-len(marks) // _ROWS),
        frameon=False,
        fontsize=8,
        handletextpad=0.3,
    )
