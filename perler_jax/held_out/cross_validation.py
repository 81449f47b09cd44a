"""Held-out genes: each fold of landmarks is dropped from BOTH sides before metagenes and EM are made anew.

EM does not depend on alpha and beta, so the held-out fits are made once; predictions for any weights are
recomputed from the few parameters of each fold. A fold is a mask with static shapes, folds run one after
the other, and nothing of the size folds x cells x locations exists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perler_jax._typing import pytree
from perler_jax.density import cell_votes
from perler_jax.em import StopRule, fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.metagenes import Reduction, fit_metagenes
from perler_jax.mixture import MappingParams
from perler_jax.noise import GAUSSIAN, NoiseFamily
from perler_jax.streaming import Tiles
from perler_jax.weights import Covariance, WeightParams, distance_space, weighted_means

Score = Literal["pearson", "auc"]

__all__ = ["HeldOutFits", "Score", "fit_held_out", "held_out_predictions", "held_out_scores", "make_folds"]


@pytree
class HeldOutFits:
    """One fit per fold, with the genes that it has never seen.

    Attributes:
        genes: (folds, width) landmark indices held out; short folds are padded with their first gene.
        held: (folds, width) whether the entry is a gene rather than padding.
        cell_loadings: (folds, landmarks, metagenes), zero for the genes held out.
        reference_loadings: (folds, landmarks, metagenes), likewise.
        params: fitted mappings, stacked along folds.
        n_steps: (folds,) EM steps made.
        converged: (folds,) whether each EM run converged.
        votes: (folds, cells) how much each cell counts; None counts all alike.
        pull: evidence of each fold's own, in place of that of all (`neighbours.pull_folds`).
    """

    genes: Int[Array, "folds width"]
    held: Bool[Array, "folds width"]
    cell_loadings: Float[Array, "folds landmarks metagenes"]
    reference_loadings: Float[Array, "folds landmarks metagenes"]
    params: MappingParams
    n_steps: Int[Array, " folds"]
    converged: Bool[Array, " folds"]
    votes: Float[Array, "folds cells"] | None = None
    pull: CellEvidence | None = None

    def __repr__(self) -> str:
        if not hasattr(self.cell_loadings, "shape"):
            return "HeldOutFits(...)"
        folds, landmarks, metagenes = self.cell_loadings.shape
        return f"HeldOutFits({folds} folds of {landmarks} landmarks, {metagenes} metagenes)"


def make_folds(
    n_landmarks: int, folds: int | None = None, *, seed: int = 0
) -> list[Int[np.ndarray, " width"]]:
    """Split landmarks into folds whose sizes differ by at most one.

    Args:
        n_landmarks: how many landmarks there are.
        folds: how many folds; None leaves one gene out at a time.
        seed: of the shuffle (unused when one gene is left out at a time).

    Note: the released program's fold sizes can leave its last folds empty; these never are.
    """
    if folds is None or folds == n_landmarks:
        return [np.array([gene]) for gene in range(n_landmarks)]
    if not 2 <= folds <= n_landmarks:
        raise PerlerInputError(f"expected 2 to {n_landmarks} folds (or None: one per gene), found {folds}")
    order = np.random.default_rng(seed).permutation(n_landmarks)
    return [np.sort(fold) for fold in np.array_split(order, folds)]


def fit_held_out(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    folds: list[Int[np.ndarray, " width"]] | list,
    *,
    n_metagenes: int,
    reduction: Reduction = "plsc",
    log_location_weights: Float[Array, " locations"] | None = None,
    evidence: CellEvidence | None = None,
    noise_family: NoiseFamily = GAUSSIAN,
    foreign_share: float | None = None,
    learn_location_weights: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 200,
    stop_rule: StopRule = "relative",
    accelerate: bool = True,
    tiles: Tiles | None = None,
    dtype: np.dtype | type = np.float32,
    progress: Callable[[list], list] | Callable = iter,
) -> HeldOutFits:
    """Fit the mapping once per fold of landmarks, each time without any trace of the fold's genes.

    Args:
        cells: centred log2 landmark expression of cells (host, float64).
        reference: centred log2 landmark expression of locations (host, float64).
        folds: landmark indices held out together, one array per fold (`make_folds`).
        n_metagenes: must suit the largest fold (`clip_n_metagenes`).
        reduction: as in `fit_metagenes`.
        log_location_weights: ln pi; None is uniform.
        evidence: what else is known of where each cell is from.
        noise_family: how cells scatter.
        foreign_share: of cells from elsewhere to begin with; None leaves that component out.
        learn_location_weights: learn pi in every fold.
        tolerance: of EM, see `run_em`.
        max_steps: of EM.
        stop_rule: of EM.
        accelerate: EM.
        tiles: tile sizes; None chooses them.
        dtype: of the fits.
        progress: wraps the iterable of folds, e.g. a progress bar.
    """
    width = max(len(fold) for fold in folds)
    y, h = jnp.asarray(cells, dtype), jnp.asarray(reference, dtype)
    fits = []
    for fold in progress(folds):
        keep = np.ones(cells.shape[1], bool)
        keep[fold] = False
        metagenes = fit_metagenes(cells, reference, n_metagenes=n_metagenes, reduction=reduction, keep=keep)
        maps = [_widen(each, n_metagenes) for each in (metagenes.cell_loadings, metagenes.reference_loadings)]
        x, r = y @ jnp.asarray(maps[0], dtype), h @ jnp.asarray(maps[1], dtype)
        em = fit_em(
            x,
            r,
            initial_params(
                x, r, log_location_weights, noise_family=noise_family, foreign_share=foreign_share
            ),
            evidence=evidence,
            learn_location_weights=learn_location_weights,
            tolerance=tolerance,
            max_steps=max_steps,
            stop_rule=stop_rule,
            accelerate=accelerate,
            tiles=tiles,
        )
        padded = np.concatenate([fold, np.repeat(fold[:1], width - len(fold))])
        held = np.arange(width) < len(fold)
        votes = cell_votes(em.params, x, r, evidence, tiles=tiles)
        genes = (jnp.asarray(padded), jnp.asarray(held))
        loadings = (jnp.asarray(maps[0], dtype), jnp.asarray(maps[1], dtype))
        fits.append((*genes, *loadings, em.params, em.n_steps, em.converged, votes))
    return HeldOutFits(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits))


def _widen(loadings: np.ndarray, n_metagenes: int) -> np.ndarray:
    """Zero columns up to n_metagenes: folds of unequal size under reduction "none" have unequal widths."""
    return np.pad(loadings, ((0, 0), (0, max(0, n_metagenes - loadings.shape[1]))))


def _fold_prediction(
    fit: HeldOutFits,
    weights: WeightParams,
    cells: Array,
    reference: Array,
    covariance: Covariance,
    landmark_covariance: Array | None,
    evidence: CellEvidence | None,
    tiles: Tiles | None,
) -> Array:
    """(points, locations, width) prediction of one fold's genes."""
    if landmark_covariance is not None:
        covariance = fit.cell_loadings.T @ landmark_covariance @ fit.cell_loadings
    near, far = distance_space(
        fit.params, cells @ fit.cell_loadings, reference @ fit.reference_loadings, covariance
    )
    values = cells[:, fit.genes]
    return weighted_means(
        weights,
        near,
        far,
        fit.params.log_location_weights,
        values,
        evidence=evidence if fit.pull is None else fit.pull,
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


def correlation(
    prediction: Float[Array, "*any locations"], reference: Float[Array, "*other locations"]
) -> Array:
    """Pearson correlation over the last axis; zero where either side is constant."""
    prediction = prediction - prediction.mean(axis=-1, keepdims=True)
    reference = reference - reference.mean(axis=-1, keepdims=True)
    squared = jnp.sum(prediction**2, axis=-1) * jnp.sum(reference**2, axis=-1)
    varies = squared > 0
    # Where nothing varies the quotient and its derivative are kept finite.
    return jnp.where(varies, jnp.sum(prediction * reference, axis=-1), 0.0) / jnp.sqrt(
        jnp.where(varies, squared, 1.0)
    )


def roc_auc(prediction: Float[Array, "*any locations"], reference: Float[Array, "*other locations"]) -> Array:
    """ROC AUC of a prediction for a reference that is on (above its mean) or off; ties count half."""
    on = reference > reference.mean(axis=-1, keepdims=True)

    def one(values: Array, is_on: Array) -> Array:
        ordered = jnp.sort(values)
        below = jnp.searchsorted(ordered, values, side="left")
        upto = jnp.searchsorted(ordered, values, side="right")
        rank = 0.5 * (below + upto + 1)
        n_on = is_on.sum()
        wins = jnp.sum(jnp.where(is_on, rank, 0.0)) - n_on * (n_on + 1) / 2
        return wins / jnp.maximum(n_on * (len(values) - n_on), 1)

    return jnp.vectorize(one, signature="(k),(k)->()")(prediction, on)


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
            fit, points, cells, reference, covariance, landmark_covariance, evidence, tiles
        )
        return measure(jnp.swapaxes(prediction, 1, 2), reference[:, fit.genes].T)

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
    tiles: Tiles | None = None,
) -> Float[Array, "locations landmarks"]:
    """Predicted held-out landmarks (centred log2), at one weight point (1,) or one per fold (folds, 1)."""

    def one(item: tuple[HeldOutFits, WeightParams]) -> Array:
        fit, points = item
        return _fold_prediction(
            fit, points, cells, reference, covariance, landmark_covariance, evidence, tiles
        )[0]

    predictions = _over_folds(one, fits, weights)  # (folds, locations, width)
    columns = jnp.where(fits.held, fits.genes, cells.shape[1]).reshape(-1)
    flat = jnp.moveaxis(predictions, 1, 0).reshape(reference.shape[0], -1)
    return jnp.full(reference.shape, jnp.nan, flat.dtype).at[:, columns].set(flat, mode="drop")
