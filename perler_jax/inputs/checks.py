"""What may not pass: each check refuses or warns, and says how much is wrong, where it is, and what to do.

The scale of expression values is settled here: as said, or as the values tell.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Shaped

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import as_gene_labels, few
from perler_jax.inputs.names import GeneNames
from perler_jax.inputs.scale_reading import Reading, read_scale
from perler_jax.inputs.scales import known_scale
from perler_jax.inputs.storage import Survey, pieces, read_only, survey


def settled_scale(
    scale: str, values: Any, rows: np.ndarray, genes: np.ndarray, side: str, marked: str | None = None
) -> tuple[Reading, Survey]:
    """How the values of cells or locations are read, and what they were seen to be.

    Args:
        scale: as said; "auto" lets the values tell.
        values: (rows, genes) of any layout.
        rows: (rows,) names.
        genes: (genes,) names.
        side: "cells" or "reference".
        marked: scale that the data themselves name.

    Raises:
        PerlerInputError: NaN or infinity, values that the scale cannot have, or values that tell no scale.
    """
    known = known_scale(scale)
    seen = require_values(known, values, rows, genes, side)
    return read_scale(known, values, seen, side, marked), seen


def require_values(scale: str, values: Any, rows: np.ndarray, genes: np.ndarray, side: str) -> Survey:
    """Refuse values that are not finite, or that the scale cannot have."""
    seen = _finite_survey(values, rows, genes)
    if seen.minimum < 0 and scale not in ("log2", "centred"):
        said = (
            "a scale that the values tell" if scale == "auto" else f"non-negative values of scale {scale!r}"
        )
        raise PerlerInputError(
            f"expected {side} with {said}; found {_offenders(values, rows, genes, _negative)}, below zero as "
            f"after centring or scaling; say {argument('scale', 'centred', side)} (or 'log2') if they are "
            "meant, else give the values before that, best raw counts"
        )
    if scale == "binary" and not (seen.integers and seen.maximum <= 1):
        raise PerlerInputError(
            f"expected {side} of scale 'binary', which are 0 or 1; found "
            f"{_offenders(values, rows, genes, lambda x: (x != 0) & (x != 1))}; name another scale"
        )
    return seen


def require_matrix(values: Any, rows: str, columns: str) -> None:
    """Refuse what is not a matrix of numbers with two rows and one column at least."""
    numeric = values.dtype.kind in "biuf"
    if not numeric or len(values.shape) != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise PerlerInputError(
            f"expected numbers in a table of {rows} x {columns}, at least 2 {rows} and 1 of the {columns}; "
            f"found shape {tuple(values.shape)}, dtype {values.dtype}; check its orientation, and leave "
            "out columns of text"
        )


def require_coordinates(coordinates: np.ndarray, locations: np.ndarray) -> None:
    """Refuse what is not one finite position in 2 or 3 dimensions per named location."""
    shape = coordinates.shape
    numeric = coordinates.dtype.kind in "biuf"
    if not numeric or len(shape) != 2 or shape[0] != len(locations) or shape[1] not in (2, 3):
        raise PerlerInputError(
            f"expected numeric coordinates of {len(locations)} locations with 2 or 3 columns; found shape "
            f"{shape}, dtype {coordinates.dtype}; give one row per location, in the same order, or a "
            "table whose rows are named as the locations"
        )
    bad = ~np.isfinite(coordinates).all(axis=1)
    if bad.any():
        raise PerlerInputError(
            f"expected finite coordinates; found NaN or infinity at {bad.sum()} locations "
            f"({few(locations[bad])}); leave these locations out or give their positions"
        )


def mask_of_measured(measured: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """A mask of the values' own shape that cannot be written to; None where every value was measured."""
    if measured is None:
        return None
    if measured.shape != shape:
        raise PerlerInputError(
            f"expected a mask of measured values of shape {shape}, that of the values; found {measured.shape}"
        )
    return None if measured.all() else read_only(measured)


def warn_of_empty_cells(empty: Bool[np.ndarray, " cells"], cells: Shaped[np.ndarray, " cells"]) -> None:
    """Warn of cells that have zeros only: how many, which come first, what to do."""
    if empty.any():
        warn(
            f"expected every cell to have some expression; found {empty.sum()} of {len(empty)} cells with "
            f"zeros only (first: {few(cells[empty])}); leave them out: they say nothing "
            "about where they came from"
        )


def warn(message: str) -> None:
    """Warn the caller of the function that calls this."""
    warnings.warn(message, PerlerWarning, stacklevel=3)


def unique_genes(texts: Any, what: str, expected: int, names: GeneNames) -> tuple[np.ndarray, GeneNames]:
    """Unique names, and the record of them; repeats are told."""
    genes, renamed = as_gene_labels(texts, what, expected)
    if renamed:
        repeated = sorted(set(renamed.values()))
        example = next(new for new, old in renamed.items() if new != old)
        warn(
            f"expected unique {what} names; found {len(repeated)} repeated ({few(repeated)}); they were made "
            f"unique as AnnData does ({example}), and none of them can be a landmark; merge or rename them "
            "to use them"
        )
    return genes, names.with_renamed(renamed)


def _finite_survey(values: Any, rows: np.ndarray, columns: np.ndarray) -> Survey:
    seen = survey(values)
    if not seen.finite:
        broken = _offenders(values, rows, columns, lambda entries: ~np.isfinite(entries))
        raise PerlerInputError(
            f"expected finite values; found {broken}; drop those genes or rows, or fill them in with a value "
            "you can defend"
        )
    return seen


def _offenders(
    values: Any, rows: np.ndarray, columns: np.ndarray, test: Callable[[np.ndarray], np.ndarray]
) -> str:
    """How many entries fail, and which comes first; a second look, taken only to explain an error.

    Args:
        values: of any layout.
        rows: (rows,) names.
        columns: (columns,) names.
        test: which of an array's entries fail; zeros never do.
    """
    count, first = 0, ""
    for down, across, block in pieces(values):
        if sp.issparse(block):
            coo = block.tocoo()
            failing = test(coo.data)
            row, column, entry = coo.row[failing], coo.col[failing], coo.data[failing]
        else:
            row, column = np.nonzero(test(block))
            entry = block[row, column]
        if len(row) and not count:
            first = f"{entry[0]:g} at row {rows[down][row[0]]!s}, gene {columns[across][column[0]]!s}"
        count += len(row)
    return f"{count} such value{'s' * (count != 1)} that cannot be used (first: {first})"


def _negative(entries: np.ndarray) -> np.ndarray:
    return entries < 0
