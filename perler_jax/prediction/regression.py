"""Ridge regressions of genes on landmarks among the cells, from Gram matrices alone.

With y the centred landmarks of the cells, T a (landmarks, landmarks) map that takes levels off (or nothing)
and D the standard deviations after it, the features are y T / D, and for any genes whose products with the
landmarks are known, c = y' g / N,

    B = (D^-1 T' G T D^-1 + ridge)^-1 D^-1 T' c,      explained among cells  y (T D^-1 B),
                                                      carried by the map     h (T D_h^-1 B):

both are landmarks times a (landmarks, genes) matrix, so that nothing of the size of the cells is made.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Int

from perler_jax.grams import level_map

__all__ = ["LandmarkRegression", "prepare_regression", "regression_coefficients", "standard_landmarks"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LandmarkRegression:
    """A regression that is ready for any genes.

    Attributes:
        gram: (landmarks, landmarks) of the features, per cell.
        of_cells: (landmarks, landmarks) from landmarks of cells to features.
        of_reference: (landmarks, landmarks) from landmarks of locations to features.
        ridge: penalty.
    """

    gram: Float[np.ndarray, "landmarks landmarks"]
    of_cells: Float[np.ndarray, "landmarks landmarks"]
    of_reference: Float[np.ndarray, "landmarks landmarks"]
    ridge: float

    def coefficients(
        self,
        products: Float[np.ndarray, "landmarks genes"],
        own: Int[np.ndarray, " genes"] | None = None,
    ) -> tuple[Float[np.ndarray, "landmarks genes"], Float[np.ndarray, "landmarks genes"]]:
        """What to multiply the landmarks of cells with, and those of locations.

        Args:
            products: y' g / N, of the genes with the centred landmarks among the cells.
            own: for each gene the landmark that it is, which then takes no part in its own regression; -1
                for a gene that is none.
        """
        cross = self.of_cells.T @ products
        factor = scipy.linalg.cho_factor(self.gram + self.ridge * np.eye(len(self.gram)))
        found = scipy.linalg.cho_solve(factor, cross)
        genes = np.flatnonzero(own >= 0) if own is not None else np.zeros(0, int)
        if len(genes):
            # Best with entry k zero: less a multiple of column k of the inverse.
            assert own is not None
            at, columns = own[genes], np.arange(len(genes))
            inverse = scipy.linalg.cho_solve(factor, np.eye(len(self.gram))[:, at])
            found[:, genes] -= inverse * (found[at, genes] / inverse[at, columns])
            found[at, genes] = 0.0
        return self.of_cells @ found, self.of_reference @ found


def prepare_regression(
    cells: Float[np.ndarray, "landmarks landmarks"],
    reference: Float[np.ndarray, "landmarks landmarks"],
    kept: Bool[np.ndarray, " landmarks"],
    *,
    ridge: float,
    levels: bool = True,
) -> LandmarkRegression:
    """Features and their Gram matrix.

    Args:
        cells: y'y / N, per cell.
        reference: h'h / K, per location.
        kept: landmarks to use.
        ridge: penalty, in units of a feature's variance.
        levels: leave each row's level in.
    """
    turn = np.diag(kept.astype(np.float64)) if levels else level_map(kept)
    sides = []
    for gram in (cells, reference):
        spread = np.sqrt(np.maximum(np.einsum("ij,ik,kj->j", turn, gram, turn), 0.0))
        floor = 1e-9 * spread.max(initial=0.0)
        sides.append(turn / np.where(spread > floor, spread, np.inf))
    of_cells, of_reference = sides
    return LandmarkRegression(of_cells.T @ cells @ of_cells, of_cells, of_reference, ridge)


def standard_landmarks(values: Float[np.ndarray, "rows landmarks"]) -> Float[np.ndarray, "rows landmarks"]:
    """Centred landmarks scaled to variance one; constant ones stay zero."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)


def regression_coefficients(
    landmarks: Float[np.ndarray, "cells landmarks"], values: Float[np.ndarray, "cells genes"], ridge: float
) -> Float[np.ndarray, "landmarks genes"]:
    """Ridge regression of genes that are no landmarks on landmarks among the cells.

    Args:
        landmarks: from `standard_landmarks`.
        values: centred log2 expression of the genes to be predicted.
        ridge: penalty, in units of a landmark's variance.
    """
    n_cells, n_landmarks = landmarks.shape
    gram = landmarks.T @ landmarks / n_cells + ridge * np.eye(n_landmarks)
    return scipy.linalg.solve(gram, landmarks.T @ values / n_cells, assume_a="pos")
