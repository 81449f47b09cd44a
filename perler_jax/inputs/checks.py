"""What may not pass: each check refuses or warns, and says how much is wrong, where it is, and what to do.

The scale of expression values (counts, linear or log) is settled here: as said, or as the values tell.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Shaped

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.labels import few
from perler_jax.inputs.storage import Survey, pieces, survey

logger = logging.getLogger("perler_jax")

CellScale = Literal["counts", "log", "auto"]
ReferenceScale = Literal["linear", "log", "auto"]


def cell_scale(
    scale: str, values: Any, cells: np.ndarray, genes: np.ndarray
) -> tuple[Literal["counts", "log"], Survey]:
    """The scale that the cells' values have, and what they were seen to be.

    Raises:
        PerlerInputError: NaN or infinity, or counts that are negative or fractional.
    """
    require_scale(scale, CellScale)
    seen = _finite_survey(values, cells, genes)
    if scale == "log" or (scale == "auto" and not seen.integers):
        return "log", seen
    if seen.minimum < 0:
        raise PerlerInputError(
            f"expected non-negative counts (scale={scale!r}, {'all' if seen.integers else 'not all'} "
            f"integers); found {_offenders(values, cells, genes, _negative)}; pass scale='log' if these are "
            "log or centred values, else mend the counts"
        )
    if not seen.integers:
        fractional = _offenders(values, cells, genes, lambda entries: entries != np.rint(entries))
        raise PerlerInputError(
            f"expected integers (scale='counts'); found {fractional}; give the raw counts, round estimated "
            "ones, or pass scale='log' for log-normalised values"
        )
    return "counts", seen


def reference_scale(
    scale: str, values: Any, locations: np.ndarray, genes: np.ndarray
) -> Literal["linear", "log"]:
    """The scale that the reference's values have; logged where it was not said.

    Raises:
        PerlerInputError: NaN or infinity, or linear values that are negative.
    """
    require_scale(scale, ReferenceScale)
    negative = _finite_survey(values, locations, genes).minimum < 0
    if scale == "linear" and negative:
        raise PerlerInputError(
            "expected non-negative reference values, scale='linear'; found "
            f"{_offenders(values, locations, genes, _negative)}; pass scale='log' if they are logarithms"
        )
    found: Literal["linear", "log"] = "log" if scale == "log" or negative else "linear"
    if scale == "auto":
        logger.info(
            "the reference is read as %s: it has %s values", found, "negative" if negative else "no negative"
        )
    return found


def require_matrix(values: Any, rows: str, columns: str) -> None:
    """Refuse what is not a matrix of numbers with two rows and one column at least."""
    numeric = values.dtype.kind in "biuf"
    if not numeric or len(values.shape) != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise PerlerInputError(
            f"expected numbers in a table of {rows} x {columns}, at least 2 {rows} and 1 of the {columns}; "
            f"found shape {tuple(values.shape)}, dtype {values.dtype}; check its orientation, and leave "
            "out columns of text"
        )


def require_scale(scale: str, known: Any) -> None:
    """Refuse a scale that is none of the known ones."""
    if scale not in get_args(known):
        raise PerlerInputError(f"expected a scale of {', '.join(get_args(known))}; found {scale!r}; name one")


def require_coordinates(coordinates: np.ndarray, locations: np.ndarray) -> None:
    """Refuse what is not one finite position in 2 or 3 dimensions per named location."""
    shape = coordinates.shape
    numeric = coordinates.dtype.kind in "biuf"
    if not numeric or len(shape) != 2 or shape[0] != len(locations) or shape[1] not in (2, 3):
        raise PerlerInputError(
            f"expected numeric coordinates of {len(locations)} locations with 2 or 3 columns; found shape "
            f"{shape}, dtype {coordinates.dtype}; give one row per location, in the same order, or a "
            "DataFrame indexed by name"
        )
    bad = ~np.isfinite(coordinates).all(axis=1)
    if bad.any():
        raise PerlerInputError(
            f"expected finite coordinates; found NaN or infinity at {bad.sum()} locations "
            f"({few(locations[bad])}); leave these locations out with take_locations or give their positions"
        )


def warn_of_empty_cells(empty: Bool[np.ndarray, " cells"], cells: Shaped[np.ndarray, " cells"]) -> None:
    """Warn of cells that have zeros only: how many, which come first, what to do."""
    if empty.any():
        warn(
            f"expected every cell to have some expression; found {empty.sum()} of {len(empty)} cells with "
            f"zeros only (first: {few(cells[empty])}); filter them out with take_cells: they say nothing "
            "about where they came from"
        )


def warn(message: str) -> None:
    """Warn the caller of the function that calls this."""
    warnings.warn(message, PerlerWarning, stacklevel=3)


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
