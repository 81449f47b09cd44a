"""Refinements of the weighted mean that use what it leaves out, all linear in the cells' expression.

Regression: what landmarks explain of a gene among the cells is carried over by the reference itself, and only
the rest is averaged (the regression, or difference, estimator of survey sampling):

    y_k = h_k B + sum_n w_nk (y_n - l_n B) / sum_n w_nk,     B = (l'l / N + ridge)^-1 l'y / N,

with l and h the landmarks of cells and of locations, each centred and scaled to variance one.

Smoothing: a Gaussian mean over neighbouring locations, because tissue is continuous at the scale of a cell.

Pull: cells that express alike are drawn toward each other's expected position (`neighbourhood`); it acts on
the weights.

Note: none is in the paper. All are off unless asked for, and their strengths are chosen by the same held-out
objective as alpha and beta.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import scipy.linalg
from jaxtyping import Float, Int, Shaped
from scipy import sparse
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError

__all__ = [
    "Refinement",
    "Refiner",
    "candidate_refinements",
    "regression_coefficients",
    "smoother",
    "standard_landmarks",
]

_RIDGES = (None, 0.5, 2.0, 8.0)
_LENGTHS = (0.0, 0.75, 1.1, 1.5, 2.2)  # in spacings of neighbouring locations
_PULLS = (15.0, 30.0)  # likewise


@dataclasses.dataclass(frozen=True)
class Refinement:
    """How predictions are refined.

    Attributes:
        ridge: penalty of the regression on landmarks, in units of a landmark's variance; None: no regression.
        smoothing: standard deviation of the Gaussian over positions, in the unit of the coordinates; 0: none.
        pull: how far a cell may be from where its neighbours in expression are (standard deviation), in the
            unit of the coordinates; None: as far as it likes.

    Raises:
        PerlerInputError: on a ridge or a pull that is not positive, or a negative length.
    """

    ridge: float | None = None
    smoothing: float = 0.0
    pull: float | None = None

    def __post_init__(self) -> None:
        if self.ridge is not None and not (np.isfinite(self.ridge) and self.ridge > 0):
            raise PerlerInputError(f"expected ridge > 0 or None (no regression), found {self.ridge}")
        if not (np.isfinite(self.smoothing) and self.smoothing >= 0):
            raise PerlerInputError(f"expected smoothing >= 0 (0 is none), found {self.smoothing}")
        if self.pull is not None and not (np.isfinite(self.pull) and self.pull > 0):
            raise PerlerInputError(f"expected pull > 0 or None (none), found {self.pull}")


def candidate_refinements(
    coordinates: Float[np.ndarray, "locations dimensions"] | None, *, neighbours: bool = False
) -> list[Refinement]:
    """What tuning chooses from, no refinement first. Without coordinates nothing is smoothed or pulled.

    Args:
        coordinates: of the locations.
        neighbours: whether neighbours in expression are known.
    """
    lengths: tuple[float, ...] = (0.0,)
    pulls: tuple[float | None, ...] = (None,)
    if coordinates is not None:
        spacing = float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))
        lengths = tuple(spacing * length for length in _LENGTHS)
        if neighbours:
            pulls = (None, *(spacing * pull for pull in _PULLS))
    return [Refinement(ridge, length, pull) for pull in pulls for ridge in _RIDGES for length in lengths]


def standard_landmarks(values: Float[np.ndarray, "rows landmarks"]) -> Float[np.ndarray, "rows landmarks"]:
    """Centred landmarks scaled to variance one; constant ones stay zero."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)


def regression_coefficients(
    landmarks: Float[np.ndarray, "cells landmarks"],
    values: Float[np.ndarray, "cells genes"],
    ridge: float,
    left_out: Int[np.ndarray, " genes"] | None = None,
    gram: Float[np.ndarray, "landmarks landmarks"] | None = None,
) -> Float[np.ndarray, "landmarks genes"]:
    """Ridge regression of genes on landmarks among the cells.

    Args:
        landmarks: from `standard_landmarks`.
        values: centred log2 expression of the genes to be predicted.
        ridge: see `Refinement`.
        left_out: for each gene the landmark that it is, which then takes no part in its own regression; -1
            for a gene that is none. None: no gene is a landmark.
        gram: landmarks' landmarks, where it is known already.
    """
    n_cells, n_landmarks = landmarks.shape
    gram = (landmarks.T @ landmarks if gram is None else gram) / n_cells + ridge * np.eye(n_landmarks)
    cross = landmarks.T @ values / n_cells
    coefficients = scipy.linalg.solve(gram, cross, assume_a="pos")
    own = np.full(values.shape[1], -1) if left_out is None else left_out
    for gene in np.flatnonzero(own >= 0):
        keep = np.arange(n_landmarks) != own[gene]
        coefficients[:, gene] = 0.0
        coefficients[keep, gene] = scipy.linalg.solve(
            gram[np.ix_(keep, keep)], cross[keep, gene], assume_a="pos"
        )
    return coefficients


def smoother(coordinates: Float[np.ndarray, "locations dimensions"], length: float) -> sparse.csr_array:
    """(locations, locations) rows of a Gaussian over positions, cut at four lengths and summing to one."""
    tree = cKDTree(coordinates)
    distances = tree.sparse_distance_matrix(tree, 4 * length, output_type="coo_matrix")
    off = distances.row != distances.col
    weights = np.exp(-0.5 * (distances.data[off] / length) ** 2)
    rows, columns = distances.row[off], distances.col[off]
    matrix = sparse.csr_array((weights, (rows, columns)), shape=(len(coordinates),) * 2)
    matrix = matrix + sparse.eye_array(len(coordinates), format="csr")
    return sparse.csr_array(sparse.diags_array(1.0 / matrix.sum(axis=1)) @ matrix)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Refiner:
    """A refinement with the data that it needs.

    Attributes:
        refinement: what to do.
        names: (landmarks,) names.
        cells: (cells, landmarks) from `standard_landmarks`.
        reference: (locations, landmarks) likewise.
        coordinates: of the locations; may be None where nothing is smoothed.
    """

    refinement: Refinement
    names: Shaped[np.ndarray, " landmarks"]
    cells: Float[np.ndarray, "cells landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    coordinates: Float[np.ndarray, "locations dimensions"] | None

    def split(
        self, genes: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "locations genes"] | float]:
        """What is left of centred expression to be averaged, and what the reference carries over."""
        if self.refinement.ridge is None:
            return values, 0.0
        own = pd.Index(self.names).get_indexer(genes)
        coefficients = self.coefficients(values, self.refinement.ridge, own)
        return values - self.cells @ coefficients, self.reference @ coefficients

    def coefficients(
        self,
        values: Float[np.ndarray, "cells genes"],
        ridge: float,
        left_out: Int[np.ndarray, " genes"] | None = None,
    ) -> Float[np.ndarray, "landmarks genes"]:
        """`regression_coefficients` of genes on these landmarks."""
        return regression_coefficients(self.cells, values, ridge, left_out, self._gram)

    def smooth(self, values: Float[np.ndarray, "locations genes"]) -> Float[np.ndarray, "locations genes"]:
        """The same, smoothed over positions."""
        return values if self._matrix is None else self._matrix @ values

    @functools.cached_property
    def _gram(self) -> Float[np.ndarray, "landmarks landmarks"]:
        return self.cells.T @ self.cells  # once for all blocks of genes

    @functools.cached_property
    def _matrix(self) -> sparse.csr_array | None:
        if self.refinement.smoothing == 0 or self.coordinates is None:
            return None
        return smoother(self.coordinates, self.refinement.smoothing)
