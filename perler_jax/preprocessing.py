"""From counts to the centred logarithms of the model: pure steps, and a record of which were taken.

Cells: log2(1 + count * factor), with one size factor per cell. Reference: log2(1 + h). Both are then centred
gene by gene. The record (:class:`Preprocessing`) is what lets every gene, in any block and at any later time,
be treated exactly like the landmarks were.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Real, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.checks import warn_of_empty_cells
from perler_jax.inputs.data import CellExpression, SpatialReference

__all__ = [
    "Normalisation",
    "Preprocessing",
    "cell_landmarks",
    "centre",
    "log_normalise",
    "log_reference",
    "preprocess_cells",
    "reference_landmarks",
    "size_factors",
]

Normalisation = Literal["max_total", "median", "cp10k", "none"]

_LANDMARKS_AT_ONCE = 128
_PER_LN2 = 1.0 / np.log(2.0)


@dataclass(frozen=True, eq=False, repr=False)
class Preprocessing:
    """How the cells were normalised, ready to be applied to any block of genes.

    Attributes:
        method: "max_total", "median", "cp10k" or "none".
        target_total: total to which each cell was scaled, in molecules; None if the method has no target.
        factors: (cells,) what each cell's counts are multiplied by.
        log_base: 2, or None where the values came as logarithms and are left as they are.
    """

    method: Normalisation
    target_total: float | None
    factors: Float[np.ndarray, " cells"]
    log_base: int | None = 2

    def __repr__(self) -> str:
        return f"Preprocessing({self.describe()['formula']}, {self.method}, {len(self.factors)} cells)"

    def apply(self, block: Any) -> Any:
        """Normalised log expression of a (cells, genes) block, dense or sparse; the block is unchanged."""
        if self.log_base is None:
            return block
        return log_normalise(block, self.factors)

    def describe(self) -> dict[str, Any]:
        """The record as plain values for provenance (JSON), with factors summarised."""
        low, middle, high = (float(value) for value in np.quantile(self.factors, (0.0, 0.5, 1.0)))
        scaled = "count" if self.method == "none" else "count * target_total / total"
        return {
            "normalisation": self.method,
            "target_total": self.target_total,
            "log_base": self.log_base,
            "formula": "as given (log)" if self.log_base is None else f"log2(1 + {scaled})",
            "n_cells": len(self.factors),
            "size_factors": {"min": low, "median": middle, "max": high},
        }


def preprocess_cells(
    cells: CellExpression,
    normalisation: Normalisation = "max_total",
    totals: Real[np.ndarray, " cells"] | None = None,
) -> Preprocessing:
    """Decide how to normalise the cells, and record it; nothing is computed on the expression itself.

    Args:
        cells: expression; on the log scale the record is the identity, whatever the normalisation asked for.
        normalisation: see :func:`size_factors`.
        totals: (cells,) molecules per cell, where they are known better than from the genes in the table.

    Raises:
        PerlerInputError: totals of a wrong number, not finite or not positive, or given for log values.
    """
    if cells.scale == "log":
        if totals is not None:
            raise PerlerInputError(
                "expected counts where totals are given; found cells on the log scale, which are not "
                "normalised again; leave totals out, or give the raw counts"
            )
        return Preprocessing("none", None, np.ones(cells.n_cells), None)
    if totals is None:
        totals = cells.totals()
        if cells.is_backed:  # in memory, this was said when the cells were read
            warn_of_empty_cells(totals == 0, cells.cells)
    else:
        totals = np.asarray(totals, dtype=np.float64)
        bad = ~(np.isfinite(totals) & (totals > 0))
        if totals.shape != (cells.n_cells,) or bad.any():
            raise PerlerInputError(
                f"expected {cells.n_cells} positive totals, one per cell; found shape {totals.shape} with "
                f"{bad.sum()} not positive or not finite; give molecules per cell in the order of the cells"
            )
    return Preprocessing(normalisation, _target(totals, normalisation), size_factors(totals, normalisation))


def size_factors(totals: Real[np.ndarray, " cells"], method: Normalisation) -> Float[np.ndarray, " cells"]:
    """What each cell's counts are multiplied by, so that cells of different depth compare.

    Args:
        totals: (cells,) molecules per cell.
        method: "max_total" scales every cell to the largest total (as the published fly data),
            "median" to the median of the totals above zero, "cp10k" to 10,000; "none" leaves counts alone.

    Returns:
        (cells,) factors; 1 for a cell without molecules, which stays at zero.
    """
    target = _target(totals, method)
    if target is None:
        return np.ones(len(totals))
    return target / np.where(totals > 0, totals, target)


def log_normalise(values: Any, factors: Float[np.ndarray, " cells"]) -> Any:
    """log2(1 + values * factor of the cell), dense or sparse; zeros stay zeros and sparse stays sparse.

    Args:
        values: (cells, genes) counts, NumPy array or SciPy CSR or CSC.
        factors: (cells,) from :func:`size_factors`.

    Returns:
        (cells, genes) of the same layout; float32 if the values are float32, else float64.
    """
    if values.shape[0] != len(factors):
        raise PerlerInputError(
            f"expected a block of {len(factors)} cells, one per size factor; found {values.shape[0]} rows; "
            "pass all cells, in their order"
        )
    factors = factors.astype(_float_type(values.dtype))
    if not sp.issparse(values):
        return _log2_1p(values * factors[:, None])
    if values.format not in ("csr", "csc"):
        values = values.tocsr()
    of_entry = (
        factors[values.indices] if values.format == "csc" else np.repeat(factors, np.diff(values.indptr))
    )
    parts = (_log2_1p(values.data * of_entry), values.indices.copy(), values.indptr.copy())
    return type(values)(parts, shape=values.shape)


def log_reference(
    values: Real[np.ndarray, "locations landmarks"],
) -> Float[np.ndarray, "locations landmarks"]:
    """log2(1 + h) of linear reference expression; float32 stays float32, all else becomes float64."""
    return _log2_1p(values.astype(_float_type(values.dtype)))


def cell_landmarks(
    cells: CellExpression, landmarks: Shaped[np.ndarray, " landmarks"], preprocessing: Preprocessing
) -> Float[np.ndarray, "cells landmarks"]:
    """Centred log2 expression of chosen landmarks in every cell, float64; at most one array of that size."""
    values = np.asarray(cells.dense(landmarks), np.float64)
    for start in range(0, len(landmarks), _LANDMARKS_AT_ONCE):
        some = slice(start, start + _LANDMARKS_AT_ONCE)
        values[:, some], _ = centre(preprocessing.apply(values[:, some]))
    return values


def reference_landmarks(
    reference: SpatialReference, landmarks: Shaped[np.ndarray, " landmarks"]
) -> Float[np.ndarray, "locations landmarks"]:
    """Centred log2 expression of chosen landmarks at every location, float64."""
    columns = pd.Index(reference.genes).get_indexer(landmarks)
    values = np.asarray(reference.values[:, columns], np.float64)
    return centre(values if reference.scale == "log" else log_reference(values))[0]


def centre(
    values: Float[np.ndarray, "rows genes"],
) -> tuple[Float[np.ndarray, "rows genes"], Float[np.ndarray, " genes"]]:
    """Subtract each gene's mean over the rows (cells or locations).

    Returns:
        (rows, genes) centred values and (genes,) means, both of the input's dtype.
    """
    # A float32 sum down a long column loses digits that a float64 accumulator keeps.
    means = values.mean(axis=0, dtype=np.float64).astype(values.dtype)
    return values - means, means


def _target(totals: Shaped[np.ndarray, " cells"], method: Normalisation) -> float | None:
    if method not in get_args(Normalisation):
        raise PerlerInputError(
            f"expected a normalisation of {', '.join(get_args(Normalisation))}; found {method!r}; name one "
            "of these"
        )
    if method == "none":
        return None
    if not (totals > 0).any():
        raise PerlerInputError("expected cells with molecules; found totals of zero only; check the counts")
    if method == "cp10k":
        return 1e4
    return float(totals.max() if method == "max_total" else np.median(totals[totals > 0]))


def _float_type(dtype: np.dtype) -> type[np.floating]:
    return np.float32 if dtype == np.float32 else np.float64


def _log2_1p(values: np.ndarray) -> np.ndarray:
    """log2(1 + x) in place, exact for small x; the caller hands over a fresh float array."""
    np.log1p(values, out=values)
    values *= _PER_LN2
    return values
