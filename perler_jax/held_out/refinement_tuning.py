"""Choosing a refinement together with alpha and beta by held-out genes.

Every candidate is scored at every point of a patch around the tuned weights, on all folds, in one pass: the
regressions of all candidates are more columns of the same weighted mean. What is best without the term of a
gene gives its nested score.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax.evidence import CellEvidence
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.neighbours import pull_of_fold
from perler_jax.held_out.search import Objective, objective_terms
from perler_jax.held_out.surrogate import patch
from perler_jax.refinement import Refinement, regression_coefficients, smoother, standard_landmarks
from perler_jax.scale.spread import to_device
from perler_jax.streaming import Tiles
from perler_jax.weights import Covariance, WeightParams, distance_space, weighted_means

__all__ = ["RefinementTuning", "refined_scores", "tune_refinement"]


@dataclasses.dataclass(frozen=True, eq=False)
class RefinementTuning:
    """All that was compared, and what came first.

    Attributes:
        candidates: the refinements.
        points: (points, 2) alpha and beta.
        table: (points, candidates, landmarks) held-out correlations.
        best: point and candidate with the highest J of all landmarks.
        nested: (landmarks, 2) point and candidate with the highest J without the landmark's own fold.
    """

    candidates: Sequence[Refinement]
    points: Float[np.ndarray, "points 2"]
    table: Float[np.ndarray, "points candidates landmarks"]
    best: tuple[int, int]
    nested: Int[np.ndarray, "landmarks 2"]

    @property
    def refinement(self) -> Refinement:
        """The best candidate."""
        return self.candidates[self.best[1]]

    @property
    def weights(self) -> tuple[float, float]:
        """The best alpha and beta."""
        alpha, beta = self.points[self.best[0]]
        return float(alpha), float(beta)

    @property
    def nested_alpha(self) -> Float[np.ndarray, " landmarks"]:
        """Alpha of each nested score."""
        return self.points[self.nested[:, 0], 0]

    @property
    def nested_beta(self) -> Float[np.ndarray, " landmarks"]:
        """Beta of each nested score."""
        return self.points[self.nested[:, 0], 1]

    @property
    def scores(self) -> Float[np.ndarray, " landmarks"]:
        """Held-out scores at the common optimum."""
        return self.table[self.best]

    @property
    def nested_scores(self) -> Float[np.ndarray, " landmarks"]:
        """Held-out scores where no landmark had a say in how it was predicted."""
        return self.table[self.nested[:, 0], self.nested[:, 1], np.arange(self.table.shape[2])]

    def __repr__(self) -> str:
        return (
            f"RefinementTuning({self.refinement}, held-out {np.nanmean(self.scores):.3f}, "
            f"nested {np.nanmean(self.nested_scores):.3f}, {len(self.candidates)} candidates)"
        )


def tune_refinement(
    points: Float[np.ndarray, "points 2"],
    candidates: Sequence[Refinement],
    table: Float[np.ndarray, "points candidates landmarks"],
    folds: Sequence[np.ndarray],
    *,
    objective: Objective = "mutual_information",
) -> RefinementTuning:
    """Pick the point and the refinement with the highest J; then again without each fold.

    Args:
        points: alpha and beta.
        candidates: refinements.
        table: held-out scores of every candidate at every point; these three are what `refined_scores` gives.
        folds: landmark indices of each fold.
        objective: see `objective_terms`.
    """
    terms = np.asarray(objective_terms(table, objective), np.float64)
    total = terms.sum(axis=2)
    nested = np.zeros((table.shape[2], 2), np.int64)
    for fold in folds:
        nested[fold] = np.unravel_index((total - terms[:, :, fold].sum(axis=2)).argmax(), total.shape)
    point, candidate = np.unravel_index(total.argmax(), total.shape)
    return RefinementTuning(candidates, points, table, (int(point), int(candidate)), nested)


def refined_scores(
    fits: HeldOutFits,
    centre: tuple[float, float],
    candidates: Sequence[Refinement],
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    coordinates: Float[np.ndarray, "locations dimensions"] | None,
    *,
    covariance: Any = "fitted",
    landmark_covariance: Float[np.ndarray, "landmarks landmarks"] | None = None,
    evidence: CellEvidence | None = None,
    neighbours: Int[np.ndarray, "cells neighbours"] | None = None,
    tiles: Tiles | None = None,
    progress: Callable[[Any], Any] = iter,
) -> tuple[Float[np.ndarray, "points 2"], list, Float[np.ndarray, "points candidates landmarks"]]:
    """Held-out correlations of every candidate at a patch of weights.

    Args:
        fits: from `fit_held_out`.
        centre: alpha and beta in the middle of the patch.
        candidates: refinements to compare.
        cells: centred log2 landmark expression, as in the fits (host, float64).
        reference: centred log2 landmark expression, as in the fits (host, float64).
        coordinates: of the locations; may be None if nothing is smoothed.
        covariance: of the distance, "fitted" or "pooled".
        landmark_covariance: used in its place.
        evidence: what else is known of where each cell is from, as in the fits.
        neighbours: of each cell in expression (`expression_neighbours`), where a candidate pulls.
        tiles: tile sizes; None chooses them.
        progress: wraps the iterable of folds.

    Returns:
        Points, candidates and table. A landmark, like all of its fold, is in none of its own regressions.
    """
    points = patch(np.asarray(centre, np.float64))
    dtype = fits.cell_loadings.dtype
    weights = WeightParams(jnp.asarray(points[:, 0], dtype), jnp.asarray(points[:, 1], dtype))
    y, h = to_device(cells, dtype), to_device(reference, dtype)
    matrix = None if landmark_covariance is None else jnp.asarray(landmark_covariance, dtype)
    ridges = sorted({each.ridge for each in candidates if each.ridge is not None})
    pulls = list(dict.fromkeys(each.pull for each in candidates))
    smoothers = {each.smoothing: _smoother(coordinates, each.smoothing) for each in candidates}
    landmarks, places = standard_landmarks(cells), standard_landmarks(reference)
    table = np.full((len(points), len(candidates), cells.shape[1]), np.nan)
    for index in progress(range(len(fits.n_steps))):
        fit = jax.tree.map(lambda leaf, at=index: leaf[at], fits)
        genes = np.asarray(fit.genes)[np.asarray(fit.held)]
        kept = np.setdiff1d(np.arange(cells.shape[1]), genes)
        coefficients = {r: regression_coefficients(landmarks[:, kept], cells[:, genes], r) for r in ridges}
        columns = [cells[:, genes], *(landmarks[:, kept] @ each for each in coefficients.values())]
        values = to_device(np.concatenate(columns, axis=1), dtype)
        truth = standard_landmarks(reference[:, genes])
        for pull in pulls:
            known = evidence
            if pull is not None:
                assert neighbours is not None
                assert coordinates is not None
                known = pull_of_fold(fit, y, h, coordinates, neighbours, pull, evidence, tiles=tiles)
            means = _fold_means(fit, weights, y, h, values, covariance, matrix, known, tiles)
            means = np.asarray(means, np.float64).reshape(
                len(points), len(reference), len(columns), len(genes)
            )
            predicted: dict[float | None, np.ndarray] = {None: means[:, :, 0]}
            for at, ridge in enumerate(ridges, start=1):
                carried = places[:, kept] @ coefficients[ridge]
                predicted[ridge] = means[:, :, 0] - means[:, :, at] + carried
            for at, candidate in enumerate(candidates):
                if candidate.pull == pull:
                    smoothed = smoothers[candidate.smoothing](predicted[candidate.ridge])
                    table[:, at, genes] = _correlation(smoothed, truth)
    return points, list(candidates), table


@functools.partial(jax.jit, static_argnames=("covariance", "tiles"))
def _fold_means(
    fit: HeldOutFits,
    weights: WeightParams,
    cells: Array,
    reference: Array,
    values: Array,
    covariance: Covariance,
    landmark_covariance: Array | None,
    evidence: CellEvidence | None,
    tiles: Tiles | None,
) -> Float[Array, "points locations values"]:
    if landmark_covariance is not None:
        covariance = fit.cell_loadings.T @ landmark_covariance @ fit.cell_loadings
    x, r = cells @ fit.cell_loadings, fit.locations(reference)
    near, far = distance_space(fit.params, x, r, covariance)
    log_pi = fit.params.log_location_weights
    return weighted_means(weights, near, far, log_pi, values, evidence=evidence, votes=fit.votes, tiles=tiles)


def _smoother(coordinates: np.ndarray | None, length: float) -> Callable[[np.ndarray], np.ndarray]:
    """(points, locations, genes) -> the same, smoothed over locations."""
    if length == 0 or coordinates is None:
        return lambda values: values
    matrix = smoother(coordinates, length)

    def smooth(values: np.ndarray) -> np.ndarray:
        points, locations, genes = values.shape
        flat = matrix @ np.moveaxis(values, 1, 0).reshape(locations, -1)
        return np.moveaxis(flat.reshape(locations, points, genes), 0, 1)

    return smooth


def _correlation(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(points, genes) with standardised truth (locations, genes); zero where a prediction is constant."""
    deviation = predicted - predicted.mean(axis=1, keepdims=True)
    spread = np.sqrt((deviation**2).mean(axis=1))
    return np.einsum("plg,lg->pg", deviation, truth) / len(truth) / np.where(spread > 0, spread, 1.0)
