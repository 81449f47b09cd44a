"""What predicts a gene: the whole fit, or one of its held-out folds, which has never seen the fold's genes.

A gene of the cells that is no landmark and a landmark that was held out are predicted in the same way. What
is learned on the second (how wrong a prediction is, how reliable a gene) therefore holds for the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.fitted_predictor import plain_choice_of, predictor_of_fit
from perler_jax.held_out.expert_grams import fold_of
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.inputs.data import CellExpression
from perler_jax.prediction.assembly import Mapped, make_predictor
from perler_jax.prediction.predictor import Predictor
from perler_jax.preprocessing import cell_landmarks, reference_landmarks
from perler_jax.reconstruction import gene_block_size
from perler_jax.scale.spread import to_device
from perler_jax.trust.uncertainty import standard_error

__all__ = [
    "LandmarkTable",
    "Prediction",
    "fold_predictors",
    "gene_blocks",
    "landmark_table",
    "spread",
    "whole_predictor",
]


class Prediction(NamedTuple):
    """Genes at every location, each (locations, genes), centred log2.

    Attributes:
        mean: what is predicted.
        standard_error: of the mean, from the disagreement of the cells.
    """

    mean: Float[np.ndarray, "locations genes"]
    standard_error: Float[np.ndarray, "locations genes"]


def spread(
    predictor: Predictor,
    names: Shaped[np.ndarray, " genes"],
    values: Float[np.ndarray, "cells genes"],
    *,
    width: int | None = None,
) -> Prediction:
    """Prediction of centred log2 expression with its standard error, on the host.

    Args:
        predictor: the fit, or a fold.
        names: of the genes: a landmark takes no part in its own regression.
        values: centred log2 expression.
        width: pad the block to so many genes, so that one compiled program serves blocks of all sizes; None:
            the genes are few and come once.

    Note: the error is that of what is averaged over cells; regressions on landmarks count as known. Smoothing
        is applied to it as well, which is an upper bound: neighbouring locations are averages of nearly the
        same cells.
    """
    mean = (
        predictor.predict_few(names, values)
        if width is None
        else predictor.predict(names, values, width=width)
    )
    if predictor.source is None:
        return Prediction(mean, np.zeros_like(mean))
    rest = predictor.padded(predictor.split(names, values)[0], width)
    error = np.asarray(standard_error(predictor.source, rest))[:, : values.shape[1]]
    return Prediction(mean, predictor.polish_error(error))


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


def whole_predictor(fit: PerlerFit, expression: CellExpression, *, plain: bool = False) -> Predictor:
    """The fit itself: what `PerlerFit.reconstruct` predicts with, or the paper's weighted mean alone."""
    return predictor_of_fit(fit, expression, plain=plain)


def fold_predictors(
    fit: PerlerFit, landmarks: LandmarkTable, *, plain: bool = False
) -> Iterator[tuple[Int[np.ndarray, " genes"], Predictor]]:
    """(landmarks held out, predictor without them) of every fold, chosen without them: as nested scores are.

    Args:
        fit: a fit with held-out landmarks.
        landmarks: of the fit.
        plain: take the paper's weighted mean, whatever the fit predicts with.

    Raises:
        PerlerInputError: the fit was made with given weights and has no held-out folds.
    """
    if fit.held_out is None:
        raise PerlerInputError(
            "expected a fit with held-out landmarks, found one made with given weights: how far predictions "
            "are off is learned on landmarks held out; call fit_perler without weights"
        )
    points = fit.scores[["alpha", "beta"]].to_numpy(np.float64)
    y = to_device(landmarks.cells, fit.settings.dtype)
    for index in range(len(fit.held_out.n_steps)):
        fold = fold_of(fit.held_out, index)
        genes = np.asarray(fold.genes)[np.asarray(fold.held)]
        if plain or fit.mixture is None:
            choice = plain_choice_of(fit, *map(float, points[genes[0]]))
        else:
            choice = fit.mixture.choice_of_fold(index)
        known = landmarks if landmarks.measured is None else _without(fit, landmarks, genes)
        h = to_device(known.reference, fit.settings.dtype)
        fits = {True: fold}
        if fit.levelled_held_out is not None and choice.without_levels:
            fits[False] = fold_of(fit.levelled_held_out, index)
        kept = np.ones(len(landmarks.names), bool)
        kept[genes] = False
        yield (
            genes,
            make_predictor(
                choice,
                {levels: _mapped(fit, each, y, h) for levels, each in fits.items()},
                (known.names, known.cells, known.reference),
                kept=kept,
                coordinates=fit.reference.places,
                neighbours=fit.neighbours,
                evidence=fit.evidence_on_device(),
                votes=fold.votes,
            ),
        )


def _mapped(fit: PerlerFit, fold: HeldOutFits, y: Array, h: Array) -> Mapped:
    covariance = None
    if fit.covariance is not None:
        covariance = fold.cell_loadings.T @ jnp.asarray(fit.covariance, y.dtype) @ fold.cell_loadings
    return Mapped(fold.params, y @ fold.cell_loadings, h @ fold.reference_loadings, covariance)


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
    shape = len(fit.cell_names), len(fit.reference.locations)
    size = min(n_genes, gene_block_size(*shape, max(n_genes, 1), copies=columns)) or 1

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
