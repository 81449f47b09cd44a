"""What a picture is coloured by: a gene or a column of ``obs``, and the colours of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Shaped
from matplotlib import colormaps
from matplotlib.colors import is_color_like, to_hex

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.annotated import layer_names
from perler_jax.inputs.frames import in_memory, is_number
from perler_jax.inputs.labels import few, near_misses

__all__ = ["Colouring", "colouring_of", "palette_of"]

# Okabe and Ito's, told apart by every eye; where there are more, Matplotlib's three lists of twenty.
_FEW = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


class Colouring(NamedTuple):
    """What a picture is coloured by.

    Attributes:
        name: of the gene or the column.
        numbers: (rows,) values; None for categories.
        categories: names; None for numbers.
        codes: (rows,) index of each row's category, -1 where it has none.
        unit: what the numbers are.
    """

    name: str
    numbers: Float[np.ndarray, " rows"] | None = None
    categories: Shaped[np.ndarray, " categories"] | None = None
    codes: Shaped[np.ndarray, " rows"] | None = None
    unit: str = ""


def colouring_of(adata: AnnData, name: str, layer: str | None) -> Colouring:
    """The values of a gene or a column of ``obs``, which goes first, as in scanpy.

    Raises:
        PerlerInputError: neither has that name, or there is no such layer.
    """
    obs = in_memory(adata.obs)
    if name in obs.columns:
        column = obs[name]
        if is_number(column):
            return Colouring(name, column.to_numpy(np.float64, na_value=np.nan))
        found = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
        names = np.array([str(each) for each in found.cat.categories])
        return Colouring(name, None, names, np.asarray(found.cat.codes, np.int64))
    if name not in adata.var_names:
        known = np.array([*map(str, obs.columns), *map(str, adata.var_names)])
        missing = np.array([name])
        raise PerlerInputError(
            f"expected a gene or a column of obs; found neither called {name!r}"
            f"{near_misses(missing, known)}; columns are {few(list(obs.columns)) or 'none'}"
        )
    if layer is not None and layer not in adata.layers:
        raise PerlerInputError(f"expected one of the layers {few(layer_names(adata))}; found {layer!r}")
    block = adata[:, [name]]
    values = block.X if layer is None else block.layers[layer]
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    about = adata.uns.get("perler")
    unit = about.get("units", "") if isinstance(about, Mapping) and layer is None else (layer or "")
    return Colouring(name, np.asarray(values, np.float64)[:, 0], unit=_short(str(unit)))


def palette_of(adata: AnnData, colouring: Colouring, palette: Any) -> list[str]:
    """One colour for each category: as given, else those in ``uns["NAME_colors"]``, else of our own.

    Args:
        adata: with scanpy's colours, maybe.
        colouring: by categories.
        palette: None, colours in the order of the categories, a mapping from their names, or the name of a
            colour map.

    Raises:
        PerlerInputError: too few colours, or no colours.
    """
    assert colouring.categories is not None
    names = [str(name) for name in colouring.categories]
    kept = adata.uns.get(f"{colouring.name}_colors")
    if palette is None and kept is not None and len(kept) >= len(names):
        palette = [str(each) for each in kept]
    if palette is None:
        return _own(len(names))
    if isinstance(palette, str):
        return [to_hex(each) for each in colormaps[palette](np.linspace(0, 1, max(2, len(names))))]
    if isinstance(palette, Mapping):
        missing = [name for name in names if name not in palette]
        if missing:
            raise PerlerInputError(f"expected a colour for every category; found none for {few(missing)}")
        palette = [palette[name] for name in names]
    colours: Sequence[Any] = list(palette)[: len(names)]
    wrong = [each for each in colours if not is_color_like(each)]
    if len(colours) < len(names) or wrong:
        raise PerlerInputError(
            f"expected {len(names)} colours of {colouring.name!r}; found {len(colours)}"
            f"{f', of which {few(wrong)} is none' if wrong else ''}"
        )
    return [to_hex(each) for each in colours]


def _own(n: int) -> list[str]:
    if n <= len(_FEW):
        return list(_FEW[:n])
    if n <= 60:
        parts = [colormaps[name](np.arange(20)) for name in ("tab20", "tab20b", "tab20c")]
        return [to_hex(each) for each in np.concatenate(parts)[:n]]
    # Neighbours in the list far apart in hue.
    order = np.argsort(np.arange(n) * 0.618034 % 1.0)
    return [to_hex(each) for each in colormaps["gist_rainbow"](np.linspace(0, 1, n))[order]]


def _short(unit: str) -> str:
    """A unit as a colour bar has room for."""
    return {
        "log2(1 + expression) of the normalised cells": "log2(1 + x)",
        "z-score over locations": "z-score",
        "share of cells that express the gene": "share of cells",
    }.get(unit, unit if len(unit) < 25 else "")
