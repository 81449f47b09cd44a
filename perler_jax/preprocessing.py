"""From counts to the centred logarithms of the model: pure steps, and a record of which were taken.

Cells: log2(1 + count * factor), with one size factor per cell; what comes normalised or logged is carried to
the same scale. Reference: log2(1 + h) likewise. Both are then centred gene by gene. The record
(:class:`Preprocessing`) is what lets every gene, in any block and at any later time, be treated exactly like
the landmarks were.
"""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Real, Shaped

from perler_jax.choices import Normalisation
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.alignment import BatchAlignment
from perler_jax.inputs.checks import warn_of_empty_cells
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.missing import refilled
from perler_jax.inputs.scale_reading import Reading
from perler_jax.inputs.scales import LOGARITHMS, from_log
from perler_jax.inputs.storage import row_sums

__all__ = [
    "Normalisation",
    "Preprocessing",
    "cell_landmarks",
    "centre",
    "log_normalise",
    "log_reference",
    "preprocess_cells",
    "preprocess_reference",
    "reference_landmarks",
    "size_factors",
]

_LANDMARKS_AT_ONCE = 128
_SAME_UNIT = 0.02  # so near to one molecule, values are left as they are
_PER_LN2 = 1.0 / np.log(2.0)


@dataclass(frozen=True, eq=False, repr=False)
class Preprocessing:
    """How rows (cells or locations) become log2(1 + x), ready to be applied to any block of genes.

    Attributes:
        method: "max_total", "median", "cp10k" or "none".
        target_total: total to which each row was scaled, in molecules; None if the method has no target.
        factors: (rows,) what each row's linear values are multiplied by.
        scale: of the values that it is applied to.
        alignment: what takes batches off; None: they are one.
    """

    method: Normalisation
    target_total: float | None
    factors: Float[np.ndarray, " rows"]
    scale: str = "counts"
    alignment: BatchAlignment | None = None

    def __repr__(self) -> str:
        return f"Preprocessing({self.describe()['formula']}, {self.method}, {len(self.factors)} rows)"

    def apply(self, block: Any) -> Any:
        """log2(1 + x) of a (rows, genes) block, dense or sparse; the block is unchanged.

        With batches the block comes back dense, and must hold all rows: the alignment is of whole columns.
        """
        logged = self._logged(block)
        return logged if self.alignment is None else self.alignment.apply(logged)

    def _logged(self, block: Any) -> Any:
        if self.scale in ("centred", "binary"):
            return block
        if self.scale in LOGARITHMS and (self.factors == 1).all():
            return block if self.scale == "log2" else block * _float_type(block.dtype)(_PER_LN2)
        return log_normalise(from_log(block, self.scale), self.factors)

    def describe(self) -> dict[str, Any]:
        """The record as plain values for provenance (JSON), with factors summarised."""
        low, middle, high = (float(value) for value in np.quantile(self.factors, (0.0, 0.5, 1.0)))
        record = {
            "scale": self.scale,
            "normalisation": self.method,
            "target_total": self.target_total,
            "formula": self._formula(),
            "n_rows": len(self.factors),
            "size_factors": {"min": low, "median": middle, "max": high},
            "batches": None if self.alignment is None else self.alignment.describe(),
        }
        return {name: value for name, value in record.items() if value is not None}

    def _formula(self) -> str:
        if self.scale in ("centred", "binary"):
            return f"as given ({self.scale})"
        scaled = "" if (self.factors == 1).all() else " * factor"
        if self.scale in LOGARITHMS and not scaled:
            return "as given (log2)" if self.scale == "log2" else "log1p / ln 2"
        if self.target_total is not None:
            scaled = " * target_total / total"
        linear = {"counts": "count", "linear": "x", "log1p": "(e^x - 1)", "log2": "(2^x - 1)"}[self.scale]
        return f"log2(1 + {linear}{scaled})"


def preprocess_cells(
    cells: CellExpression,
    normalisation: Normalisation = "max_total",
    totals: Real[np.ndarray, " cells"] | None = None,
) -> Preprocessing:
    """Decide how to normalise the cells, and record it; nothing is computed on the expression itself.

    Args:
        cells: expression; only counts are brought to one total.
        normalisation: see :func:`size_factors`.
        totals: (cells,) molecules per cell, where they are known better than from the genes in the table.

    Raises:
        PerlerInputError: totals of a wrong number, not finite or not positive, or of what are no counts.
    """
    reading = cells.reading
    if reading is None or not reading.raw:
        if totals is not None:
            raise PerlerInputError(
                f"expected counts where totals are given; found cells of scale {cells.scale!r}, which are "
                "not normalised again; leave totals out, or give the raw counts"
            )
        factors = np.full(cells.n_cells, _rescaling(reading, normalisation))
        return Preprocessing("none", None, factors, cells.scale)
    if totals is None:
        totals = row_sums(cells.values, lambda block: from_log(block, cells.scale))
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
    # Counts that were multiplied by a constant are divided by it.
    unit = reading.smallest_unit or 1.0 if normalisation in ("max_total", "median") else 1.0
    factors = size_factors(totals, normalisation) / unit
    return Preprocessing(normalisation, _target(totals, normalisation), factors, cells.scale)


def _rescaling(reading: Reading | None, method: str) -> float:
    """What brings rows of one depth to the depth that the method names, by what one molecule became in them.

    Then normalised values, at any total, and the counts they were made of become the same numbers.
    """
    if reading is None or method == "none":
        return 1.0
    if method == "cp10k":
        found = None if reading.total is None else reading.total / 1e4
    else:
        found = reading.smallest_unit if method == "max_total" else reading.middle_unit
    return 1.0 if found is None or abs(found - 1) < _SAME_UNIT else 1.0 / found


def preprocess_reference(reference: SpatialReference) -> Preprocessing:
    """How the map becomes log2(1 + h), at one depth where its ``normalisation`` is "median"."""
    reading, n = reference.reading, reference.n_locations
    if reference.normalisation == "none" or reading is None or not reading.raw:
        # What was normalised already comes to the median depth, whatever total it has.
        factors = np.full(n, _rescaling(reading, "median"))
        method: Normalisation = "median" if reference.normalisation == "median" else "none"
        return Preprocessing(method, None, factors, reference.scale)
    totals = from_log(np.asarray(reference.values, np.float64), reference.scale).sum(axis=1)
    factors = size_factors(totals, "median") / (reading.middle_unit or 1.0)
    return Preprocessing("median", _target(totals, "median"), factors, reference.scale)


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
    reference: SpatialReference,
    landmarks: Shaped[np.ndarray, " landmarks"],
    without: Shaped[np.ndarray, " held_out"] | None = None,
) -> Float[np.ndarray, "locations landmarks"]:
    """Centred log2 expression of chosen landmarks at every location, float64.

    Args:
        reference: the map.
        landmarks: names.
        without: landmarks that are held out: what was not measured of the others is filled in without them.
    """
    columns = pd.Index(reference.genes).get_indexer(landmarks)
    values = reference.values
    if without is not None and reference.measured is not None:
        values = refilled(reference, without)
    values = np.asarray(values[:, columns], np.float64)
    return centre(preprocess_reference(reference).apply(values))[0]


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
