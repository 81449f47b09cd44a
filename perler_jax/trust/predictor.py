"""What predicts a gene: the whole fit, or one of its held-out folds, which has never seen the fold's genes.

A gene of the cells that is no landmark and a landmark that was held out are predicted in the same way. What
is learned on the second (how wrong a prediction is, how reliable a gene) therefore holds for the first.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from perler_jax.cell_weights import CellWeights
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression
from perler_jax.preprocessing import cell_landmarks, reference_landmarks
from perler_jax.reconstruction import gene_block_size
from perler_jax.refinement import Refinement, Refiner, standard_landmarks
from perler_jax.scale.spread import to_device
from perler_jax.trust.uncertainty import cell_concentration, weighted_spread
from perler_jax.weights import WeightParams, distance_space

__all__ = [
    "LandmarkTable",
    "Prediction",
    "Predictor",
    "fold_predictors",
    "gene_blocks",
    "landmark_table",
    "whole_predictor",
]


class Prediction(NamedTuple):
    """Genes at every location, each (locations, genes), centred log2.

    Attributes:
        mean: what is predicted.
        variance: weighted variance of the cells around it.
        standard_error: of the mean, from the disagreement of the cells.
    """

    mean: Float[np.ndarray, "locations genes"]
    variance: Float[np.ndarray, "locations genes"]
    standard_error: Float[np.ndarray, "locations genes"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """Weights of cells at locations, with the refinement of what they average.

    Attributes:
        source: the weights.
        refiner: with the landmarks that the weights were made from.
        measured: (locations, landmarks) whether the refiner's reference was measured; None: everywhere.
    """

    source: CellWeights
    refiner: Refiner
    measured: Bool[np.ndarray, "locations landmarks"] | None = None

    @functools.cached_property
    def concentration(self) -> Float[Array, " cells"]:
        """See `cell_concentration`."""
        return cell_concentration(self.source)

    def spread(
        self,
        names: Shaped[np.ndarray, " genes"],
        values: Float[np.ndarray, "cells genes"],
        *,
        width: int | None = None,
    ) -> Prediction:
        """Prediction of centred log2 expression with its spread, on the host.

        Args:
            names: of the genes: a landmark takes no part in its own regression.
            values: centred log2 expression.
            width: pad the block to so many genes, so that one compiled program serves blocks of all sizes.

        Note: where predictions are refined, variance and standard error are those of the part that is
            averaged over cells; smoothing is applied to both, which for the error is an upper bound
            (neighbouring locations are averages of nearly the same cells).
        """
        rest, carried = self.refiner.split(names, values)
        found = weighted_spread(self.source, self.concentration, self.padded(rest, width))
        n = values.shape[1]
        mean, variance, error = (np.asarray(each)[:, :n] for each in found)
        return Prediction(*map(self.refiner.smooth, (mean + carried, variance, error)))

    def padded(
        self, values: Float[np.ndarray, "cells genes"], width: int | None = None
    ) -> Float[Array, "cells width"]:
        """Values on the device in the precision of the weights, with columns of zeros up to a width."""
        extra = max(0, (width or 0) - values.shape[1])
        return jnp.asarray(np.pad(values, ((0, 0), (0, extra))), self.source.cells.dtype)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LandmarkTable:
    """Landmarks on both sides, centred log2, as they entered the fit.

    Attributes:
        names: of the landmarks.
        cells: (cells, landmarks).
        reference: (locations, landmarks).
        measured: (locations, landmarks) whether each value of it was measured; None: all were.
    """

    names: Shaped[np.ndarray, " landmarks"]
    cells: Float[np.ndarray, "cells landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    measured: Bool[np.ndarray, "locations landmarks"] | None = None


def landmark_table(fit: PerlerFit, expression: CellExpression) -> LandmarkTable:
    """The landmarks of a fit from the expression of its cells."""
    y = cell_landmarks(expression, fit.landmarks, fit.preprocessing)
    h = reference_landmarks(fit.reference, fit.landmarks)
    return LandmarkTable(fit.landmarks, y, h, fit.reference.measured_at(fit.landmarks))


def whole_predictor(fit: PerlerFit, landmarks: LandmarkTable) -> Predictor:
    """The fit itself: what `PerlerFit.reconstruct` averages."""
    everything = np.arange(len(landmarks.names))
    return Predictor(fit.cell_weights(), _refiner(fit, landmarks, everything), landmarks.measured)


def fold_predictors(
    fit: PerlerFit, landmarks: LandmarkTable
) -> Iterator[tuple[Int[np.ndarray, " genes"], Predictor]]:
    """(landmarks held out, predictor without them) of every fold, at the alpha and beta of the nested scores.

    Note: a refinement is the one that was chosen on all landmarks; alpha and beta are the fold's own.

    Raises:
        PerlerInputError: the fit was made with given weights and has no held-out folds.
    """
    if fit.held_out is None:
        raise PerlerInputError(
            "expected a fit with held-out landmarks, found one made with given weights: how far predictions "
            "are off is learned on landmarks held out; call fit_perler without weights"
        )
    dtype = fit.cell_metagenes.dtype
    y = to_device(landmarks.cells, dtype)
    points = fit.scores[["alpha", "beta"]].to_numpy(np.float64)
    for index in range(len(fit.held_out.n_steps)):
        fold = jax.tree.map(lambda leaf, at=index: leaf[at], fit.held_out)
        genes = np.asarray(fold.genes)[np.asarray(fold.held)]
        spread: Any = fit.settings.covariance
        if fit.covariance is not None:
            spread = fold.cell_loadings.T @ jnp.asarray(fit.covariance, dtype) @ fold.cell_loadings
        alpha, beta = points[genes[0]]
        known = landmarks if landmarks.measured is None else _without(fit, landmarks, genes)
        h = to_device(known.reference, dtype)
        near, far = distance_space(fold.params, y @ fold.cell_loadings, h @ fold.reference_loadings, spread)
        source = CellWeights(
            WeightParams.single(float(alpha), float(beta), dtype),
            near,
            far,
            fold.params.log_location_weights,
            fit.evidence_on_device() if fold.pull is None else fold.pull,
            fold.votes,
        )
        kept = np.setdiff1d(np.arange(len(landmarks.names)), genes)
        measured = None if known.measured is None else known.measured[:, kept]
        yield genes, Predictor(source, _refiner(fit, known, kept), measured)


def gene_blocks(
    fit: PerlerFit, expression: CellExpression, genes: list[str] | None, *, columns: int
) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Blocks of genes that need no more memory than those of a plain reconstruction.

    Args:
        fit: the fit.
        expression: of its cells.
        genes: names; None for all.
        columns: how many columns of cell values each gene needs.

    Returns:
        The widest block, and an iterator over (names, means (genes,), centred log2 (cells, genes)).
    """
    n_genes = expression.n_genes if genes is None else len(genes)
    size = gene_block_size(len(fit.cell_names), len(fit.reference.locations), max(n_genes, 1))
    size = max(1, min(n_genes, size // columns))

    dense = expression.gene_blocks(genes, size)  # refuses unknown names here, not at the first block

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for names, raw in dense:
            values = fit.preprocessing.apply(raw)
            means = values.mean(axis=0, dtype=np.float64)
            yield names, means, values - means

    return size, blocks()


def _without(fit: PerlerFit, landmarks: LandmarkTable, genes: np.ndarray) -> LandmarkTable:
    """The landmarks, with what was not measured filled in without some of them, as in the fold's fit."""
    h = reference_landmarks(fit.reference, fit.landmarks, without=landmarks.names[genes])
    return dataclasses.replace(landmarks, reference=h)


def _refiner(fit: PerlerFit, landmarks: LandmarkTable, kept: np.ndarray) -> Refiner:
    return Refiner(
        fit.refinement or Refinement(),
        landmarks.names[kept],
        standard_landmarks(landmarks.cells[:, kept]),
        standard_landmarks(landmarks.reference[:, kept]),
        fit.reference.coordinates,
    )
