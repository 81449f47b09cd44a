"""Predictions of held-out genes and their scores, at any weights.

Predictions are recomputed from the few parameters of each fold (`folds.HeldOutFits`); nothing of the size
folds x cells x locations exists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perler_jax.evidence import CellEvidence
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.streaming import Tiles
from perler_jax.weights import Covariance, WeightParams, distance_space, weighted_means

Score = Literal["pearson", "auc"]

__all__ = ["Score", "held_out_predictions", "held_out_scores"]


def _fold_prediction(
    fit: HeldOutFits,
    weights: WeightParams,
    cells: Array,
    reference: Array,
    covariance: Covariance,
    landmark_covariance: Array | None,
    evidence: CellEvidence | None,
    measured: Array | None,
    tiles: Tiles | None,
) -> Array:
    """(points, locations, width) prediction of one fold's genes."""
    if landmark_covariance is not None:
        covariance = fit.cell_loadings.T @ landmark_covariance @ fit.cell_loadings
    near, far = distance_space(
        fit.params, cells @ fit.cell_loadings, fit.locations(reference, measured), covariance
    )
    values = cells[:, fit.genes]
    return weighted_means(
        weights,
        near,
        far,
        fit.params.log_location_weights,
        values,
        evidence=evidence,
        votes=fit.votes,
        tiles=tiles,
    )


def _over_folds(
    one: Callable[[tuple[HeldOutFits, WeightParams]], Array], fits: HeldOutFits, weights: WeightParams
) -> Array:
    """One fold after the other, each with its own weights if there are such."""
    n_folds = fits.genes.shape[0]
    per_fold = jax.tree.map(
        lambda leaf: leaf if leaf.ndim == 2 else jnp.broadcast_to(leaf, (n_folds, *leaf.shape)), weights
    )
    return jax.lax.map(one, (fits, per_fold))


@jax.jit
def correlation(
    prediction: Float[Array, "*any locations"],
    reference: Float[Array, "*other locations"],
    measured: Bool[Array, "*other locations"] | None = None,
) -> Array:
    """Pearson correlation over the last axis, of measured values; zero where either side is constant."""
    if measured is None:
        prediction = prediction - prediction.mean(axis=-1, keepdims=True)
        reference = reference - reference.mean(axis=-1, keepdims=True)
    else:
        number = jnp.maximum(measured.sum(axis=-1, keepdims=True), 1)
        prediction, reference = (
            jnp.where(measured, each - jnp.where(measured, each, 0.0).sum(-1, keepdims=True) / number, 0.0)
            for each in (prediction, reference)
        )
    squared = jnp.sum(prediction**2, axis=-1) * jnp.sum(reference**2, axis=-1)
    varies = squared > 0
    # Where nothing varies the quotient and its derivative are kept finite.
    return jnp.where(varies, jnp.sum(prediction * reference, axis=-1), 0.0) / jnp.sqrt(
        jnp.where(varies, squared, 1.0)
    )


@jax.jit
def roc_auc(
    prediction: Float[Array, "*any locations"],
    reference: Float[Array, "*other locations"],
    measured: Bool[Array, "*other locations"] | None = None,
) -> Array:
    """ROC AUC of a prediction for a reference that is on (above its mean) or off; ties count half.

    Where some values were not measured, the others are ranked among themselves.
    """
    known = jnp.ones(reference.shape, bool) if measured is None else measured
    number = jnp.maximum(known.sum(axis=-1, keepdims=True), 1)
    on = known & (reference > jnp.where(known, reference, 0.0).sum(axis=-1, keepdims=True) / number)

    def one(values: Array, is_on: Array, is_known: Array) -> Array:
        ordered = jnp.sort(jnp.where(is_known, values, jnp.inf))
        below = jnp.searchsorted(ordered, values, side="left")
        upto = jnp.searchsorted(ordered, values, side="right")
        rank = 0.5 * (below + upto + 1)
        n_on = is_on.sum()
        wins = jnp.sum(jnp.where(is_on, rank, 0.0)) - n_on * (n_on + 1) / 2
        return wins / jnp.maximum(n_on * (is_known.sum() - n_on), 1)

    return jnp.vectorize(one, signature="(k),(k),(k)->()")(prediction, on, known)


@functools.partial(jax.jit, static_argnames=("covariance", "score", "tiles"))
def held_out_scores(
    fits: HeldOutFits,
    weights: WeightParams,
    cells: Float[Array, "cells landmarks"],
    reference: Float[Array, "locations landmarks"],
    *,
    covariance: Literal["fitted", "pooled"] = "fitted",
    landmark_covariance: Float[Array, "landmarks landmarks"] | None = None,
    evidence: CellEvidence | None = None,
    measured: Bool[Array, "locations landmarks"] | None = None,
    score: Score = "pearson",
    tiles: Tiles | None = None,
) -> Float[Array, "points landmarks"]:
    """Score of every held-out landmark at every weight point (rho of Eq. 27, or ROC AUC).

    Args:
        fits: from `fit_held_out`.
        weights: points shared by all folds (points,), or one set per fold (folds, points).
        cells: centred log2 landmark expression, as in the fits.
        reference: centred log2 landmark expression, as in the fits.
        covariance: of the distance.
        landmark_covariance: used in its place, carried into each fold's metagenes.
        evidence: what else is known of where each cell is from, as in the fits.
        measured: whether each value of the reference was measured: the others are not scored. None: all.
        score: "pearson", or "auc" for binary references.
        tiles: tile sizes; None chooses them.

    Returns:
        (points, landmarks); NaN for landmarks that no fold held out. Differentiable in the weights.
    """
    measure = correlation if score == "pearson" else roc_auc

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(item: tuple[HeldOutFits, WeightParams]) -> Array:
        fit, points = item
        prediction = _fold_prediction(
            fit, points, cells, reference, covariance, landmark_covariance, evidence, measured, tiles
        )
        known = None if measured is None else measured[:, fit.genes].T
        return measure(jnp.swapaxes(prediction, 1, 2), reference[:, fit.genes].T, known)

    scores = _over_folds(one, fits, weights)  # (folds, points, width)
    columns = jnp.where(fits.held, fits.genes, cells.shape[1]).reshape(-1)
    scores = jnp.moveaxis(scores, 1, 0).reshape(scores.shape[1], -1)
    empty = jnp.full((scores.shape[0], cells.shape[1]), jnp.nan, scores.dtype)
    return empty.at[:, columns].set(scores, mode="drop")


@functools.partial(jax.jit, static_argnames=("covariance", "tiles"))
def held_out_predictions(
    fits: HeldOutFits,
    weights: WeightParams,
    cells: Float[Array, "cells landmarks"],
    reference: Float[Array, "locations landmarks"],
    *,
    covariance: Literal["fitted", "pooled"] = "fitted",
    landmark_covariance: Float[Array, "landmarks landmarks"] | None = None,
    evidence: CellEvidence | None = None,
    measured: Bool[Array, "locations landmarks"] | None = None,
    tiles: Tiles | None = None,
) -> Float[Array, "locations landmarks"]:
    """Predicted held-out landmarks (centred log2), at one weight point (1,) or one per fold (folds, 1)."""

    def one(item: tuple[HeldOutFits, WeightParams]) -> Array:
        fit, points = item
        return _fold_prediction(
            fit, points, cells, reference, covariance, landmark_covariance, evidence, measured, tiles
        )[0]

    predictions = _over_folds(one, fits, weights)  # (folds, locations, width)
    columns = jnp.where(fits.held, fits.genes, cells.shape[1]).reshape(-1)
    flat = jnp.moveaxis(predictions, 1, 0).reshape(reference.shape[0], -1)
    return jnp.full(reference.shape, jnp.nan, flat.dtype).at[:, columns].set(flat, mode="drop")
