"""Whatever users hand over (AnnData, DataFrame, array, sparse matrix, backed file) becomes labelled data."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.checks import (
    require_coordinates,
    require_matrix,
    warn,
    warn_of_empty_cells,
)
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.labels import Names, as_labels, few, near_misses
from perler_jax.inputs.scales import LOGARITHMS, ReferenceNormalisation, Scale
from perler_jax.inputs.storage import dense_float, gather, is_backed, plain

__all__ = ["as_cells", "as_reference", "layer_names"]

_LARGEST_LOG = 30.0  # log2 of more molecules than any cell holds
_LARGEST_LINEAR = 1000.0  # beyond intensities, fractions and molecules per location


def as_cells(
    source: Any,
    *,
    layer: str | None = None,
    genes: Names | None = None,
    cells: Names | None = None,
    scale: Scale = "auto",
) -> CellExpression:
    """Make a :class:`CellExpression` from what users have.

    Args:
        source: AnnData (dense, CSR, CSC, backed), DataFrame (cells x genes), array or sparse matrix
            (cells, genes), or a CellExpression, which is returned as it is.
        layer: layer of the AnnData to use in place of X.
        genes: (genes,) names; needed with an array, refused where the source carries names.
        cells: (cells,) names; with an array, "0", "1", ... by default.
        scale: "counts" (whole or corrected), "linear" (normalised, not logged), "log1p" (natural), "log2",
            "centred", "binary", or "auto", which lets the values tell.

    Warns:
        PerlerWarning: cells without any value, or a log scale whose values look linear.

    Raises:
        PerlerInputError: as :class:`CellExpression`; a source or layer that cannot be used.
    """
    if isinstance(source, CellExpression):
        _require_alone(source, scale, layer, genes, cells)
        return source
    values, rows, columns = _labelled(source, layer, cells, genes, "cells x genes")
    expression = CellExpression(values, rows, columns, scale, layer)
    seen = expression.survey
    if seen.empty is not None:
        warn_of_empty_cells(seen.empty, expression.cells)
    if expression.scale in LOGARITHMS and seen.maximum > _LARGEST_LOG:
        kind = "all values are integers, as counts are" if seen.integers else "as of linear values"
        warn(
            f"expected logarithms (scale={scale!r}); found a maximum of {seen.maximum:g}, {kind}; pass "
            "scale='counts' for counts, or take log2(1 + x) of normalised linear values first"
        )
    return expression


def as_reference(
    source: Any,
    *,
    coordinates: Any = None,
    layer: str | None = None,
    genes: Names | None = None,
    locations: Names | None = None,
    scale: Scale = "auto",
    normalisation: ReferenceNormalisation = "auto",
) -> SpatialReference:
    """Make a :class:`SpatialReference` from what users have.

    Args:
        source: AnnData (positions from ``obsm["spatial"]``), DataFrame (locations x landmarks), array or
            sparse matrix, or a SpatialReference, which is returned as it is unless coordinates are given.
        coordinates: (locations, 2 or 3) array or DataFrame; wins over ``obsm["spatial"]``. A DataFrame whose
            index holds all location names is aligned by name and may have more rows; else rows go in order.
        layer: layer of the AnnData to use in place of X.
        genes: (landmarks,) names; needed with an array, refused where the source carries names.
        locations: (locations,) names; with an array, "0", "1", ... by default.
        scale: as of :func:`as_cells`.
        normalisation: of located counts: "none" takes them as they are, "median" brings every location to
            the median total; "auto" is "none".

    Warns:
        PerlerWarning: a maximum that suggests another scale.

    Raises:
        PerlerInputError: as :class:`SpatialReference`; a source, layer or coordinates that cannot be used.
    """
    if isinstance(source, SpatialReference):
        _require_alone(source, scale, layer, genes, locations)
        reference = source
    else:
        values, rows, columns = _labelled(source, layer, locations, genes, "locations x landmarks")
        reference = SpatialReference(
            dense_float(gather(plain(values))), rows, columns, None, scale, normalisation
        )
        if coordinates is None and isinstance(source, AnnData):
            coordinates = source.obsm.get("spatial")
        largest = float(reference.values.max())
        if reference.scale in LOGARITHMS and largest > _LARGEST_LOG:
            warn(
                f"expected logarithms in the reference (scale={scale!r}); found a maximum of {largest:g}; "
                "pass scale='linear' and log2(1 + h) will be applied"
            )
        elif scale == "auto" and largest > _LARGEST_LINEAR:
            warn(
                f"expected reference intensities, fractions or counts; found a maximum of {largest:g}, read "
                "as linear (log2(1 + h) will be applied); pass scale='linear' to confirm, or rescale the "
                "intensities"
            )
    if coordinates is None:
        return reference
    where = _in_order(coordinates, reference.locations)
    require_coordinates(where, reference.locations)
    return replace(reference, coordinates=dense_float(where))


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers, sorted, without X: from 0.13 on anndata keeps X as the layer named None."""
    return sorted(name for name in adata.layers if name is not None)


def _require_alone(
    ready: CellExpression | SpatialReference, scale: str, layer: Any, genes: Any, rows: Any
) -> None:
    if scale in ("auto", ready.scale) and layer is None and genes is None and rows is None:
        return
    names = "cells" if isinstance(ready, CellExpression) else "locations"
    raise PerlerInputError(
        f"expected a ready {type(ready).__name__} alone; found it with layer, genes, {names} or "
        f"scale={scale!r} (its scale is {ready.scale!r}); build it from the original data instead"
    )


def _labelled(
    source: Any, layer: str | None, rows: Names | None, columns: Names | None, table: str
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Values, row names and column names of an AnnData, a DataFrame, or an array with names."""
    kind, names = type(source).__name__, None
    if isinstance(source, AnnData):
        values, names = _layer(source, layer), (source.obs_names, source.var_names)
    elif layer is not None:
        raise PerlerInputError(f"expected an AnnData with layer {layer!r}; found {kind}; drop layer=")
    elif isinstance(source, pd.DataFrame):
        values, names = _numbers(source, f"every column of {table}"), (source.index, source.columns)
    elif isinstance(source, np.ndarray) or is_backed(source) or sp.issparse(source):
        values = source
    else:
        raise PerlerInputError(
            f"expected an AnnData, DataFrame, NumPy array or SciPy sparse matrix of {table}; found {kind}; "
            "convert it to one of these"
        )
    if names is not None and (rows is not None or columns is not None):
        raise PerlerInputError(
            f"expected the names of {table} from the {kind} itself; found other names given beside it; leave "
            "them out, or rename there"
        )
    if names is None and columns is None:
        raise PerlerInputError(f"expected names with an array of {table}; found none; pass genes=[...]")
    require_matrix(values, *table.split(" x "))
    rows, columns = names or (np.arange(values.shape[0]) if rows is None else rows, columns)
    return values, np.asarray(rows, dtype=object), np.asarray(columns, dtype=object)


def _layer(adata: AnnData, layer: str | None) -> Any:
    known = f"layers {layer_names(adata)}"
    if layer is not None and layer not in adata.layers:
        raise PerlerInputError(f"expected layer {layer!r} in the AnnData; found {known}; name one of these")
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise PerlerInputError(f"expected values in the AnnData's X; found none; name one of its {known}")
    return values


def _numbers(table: pd.DataFrame, where: str) -> np.ndarray:
    """The numbers of a table; what nullable columns lack is NaN."""
    text = [str(name) for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        raise PerlerInputError(
            f"expected numbers in {where}; found {len(text)} columns of another kind ({few(text)}); drop "
            "them, or make the column of names the index"
        )
    values = table.to_numpy()
    return values if values.dtype != object else table.to_numpy(dtype=np.float64, na_value=np.nan)


def _in_order(coordinates: Any, locations: np.ndarray) -> np.ndarray:
    """Coordinates in the order of the locations: by name where a DataFrame's index holds the names."""
    if not isinstance(coordinates, pd.DataFrame):
        return np.asarray(coordinates)
    positions = _numbers(coordinates, "the table of coordinates")
    # A bare RangeIndex counts rows, it names nothing: a longer table is then an error, not a match by number.
    if isinstance(coordinates.index, pd.RangeIndex):
        return positions
    index = pd.Index(as_labels(coordinates.index, "coordinate row", "row", len(coordinates)))
    found = index.get_indexer(locations)
    missing = locations[found < 0]
    if 0 < len(missing) < len(locations):
        raise PerlerInputError(
            f"expected coordinates of all {len(locations)} locations by name; found {len(missing)} without "
            f"({few(missing)}){near_misses(missing, index.to_numpy())}; add them, or reset the index to go "
            "by order"
        )
    return positions if len(missing) else positions[found]
