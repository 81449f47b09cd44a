"""What is known of a label at a location: averages of cells of several sharpness, and what landmarks say.

How far to trust each is learned on cells. Some play locations: their metagenes are brought to the mean and
the spread of the locations', they stand among these, and their own labels vote nowhere while the others'
labels are carried to them. The labels of locations, where there are any, are never looked at.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from perler_jax.labelling.cell_labels import CellLabels
from perler_jax.labelling.regression import fit_softmax, log_softmax
from perler_jax.prediction.mixed_weights import MixedWeights, Points
from perler_jax.preprocessing import cell_landmarks, reference_landmarks

__all__ = ["NAMES", "Sides", "held_out_opinions", "opinions_at_locations", "sides_of"]

# Weights w ~ pi exp(-alpha D^2 - beta D): sharp ones, near the posterior (1/2, 0), to broad ones.
_POINTS = ((0.25, 0.0), (0.0, 3.6), (0.0, 2.4), (0.0, 1.6))
NAMES = (*(f"average of cells (alpha {a:g}, beta {b:g})" for a, b in _POINTS), "regression on landmarks")
_PLAYERS, _FOLDS = 2000, 5
_ONE_FOLD = 50_000_000  # cells x locations above which only one group of cells plays locations
_FLOOR = 1e-3  # of the labels' shares among the cells: no average rules a label out


@dataclasses.dataclass(frozen=True, eq=False)
class Sides:
    """Both sides of a fit, as far as labels need them.

    Attributes:
        fit: a `PerlerFit`.
        cells: (cells, landmarks) standardised.
        locations: (locations, landmarks) standardised.
    """

    fit: Any
    cells: Float[np.ndarray, "cells landmarks"]
    locations: Float[np.ndarray, "locations landmarks"]


def sides_of(fit: Any, expression: Any) -> Sides:
    """Landmarks of both sides, each with mean zero and variance one."""
    cells = cell_landmarks(expression, fit.landmarks, fit.preprocessing)
    return Sides(fit, *map(_standard, (cells, reference_landmarks(fit.reference, fit.landmarks))))


def opinions_at_locations(
    sides: Sides, labels: CellLabels
) -> Float[np.ndarray, "opinions locations categories"]:
    """Ln of what each opinion says at every location."""
    codes, n_categories = _known(labels)
    averages = _averages(sides.fit, labels, np.ones(len(codes), bool), None)
    coefficients = fit_softmax(sides.cells, codes, n_categories)
    return np.concatenate([averages, log_softmax(sides.locations, coefficients)[None]])


def held_out_opinions(
    sides: Sides, labels: CellLabels, *, seed: int = 0
) -> tuple[Float[np.ndarray, "opinions players categories"], Int[np.ndarray, " players"]]:
    """Ln of what each opinion says of cells that play locations, and their own labels.

    Args:
        sides: of the fit.
        labels: categories of its cells.
        seed: of the choice of the cells.
    """
    codes, n_categories = _known(labels)
    labelled = np.random.default_rng(seed).permutation(np.flatnonzero(codes >= 0))
    size = len(codes) * len(sides.locations)
    n_folds = _FOLDS if size <= _ONE_FOLD else 1
    # At least half of the labelled cells keep their vote.
    players = labelled[: min(_PLAYERS, len(labelled) if n_folds > 1 else len(labelled) // 2)]
    count = len(players) // n_folds * n_folds  # folds of one size: one program serves all
    found = []
    for fold in players[:count].reshape(n_folds, -1):
        votes = np.ones(len(codes), bool)
        votes[fold] = False
        averages = _averages(sides.fit, labels, votes, fold)
        coefficients = fit_softmax(sides.cells, codes, n_categories, weights=votes.astype(np.float64))
        found.append(np.concatenate([averages, log_softmax(sides.cells[fold], coefficients)[None]]))
    return np.concatenate(found, axis=1), codes[players[:count]]


def _averages(
    fit: Any,
    labels: CellLabels,
    votes: Bool[np.ndarray, " cells"],
    players: Int[np.ndarray, " players"] | None,
) -> Float[np.ndarray, "points rows categories"]:
    """Ln of averaged labels at the locations, or at cells that play some of them."""
    codes, n_categories = _known(labels)
    evidence, log_pi = fit.evidence_on_device(), fit.em.params.log_location_weights
    n_locations = len(fit.reference_metagenes)
    if players is not None:
        fit, evidence = _with_players(fit, players), None
        if log_pi is not None:
            log_pi = jnp.concatenate([log_pi, jnp.full(len(players), jnp.mean(log_pi))])
    near, far = fit.distance_space()
    alpha, beta = (jnp.asarray(each, near.dtype) for each in zip(*_POINTS, strict=True))
    points = Points(alpha, beta, jnp.zeros(len(_POINTS), jnp.int32))
    counts = votes & (codes >= 0)
    of_cells = fit.votes()
    of_cells = jnp.asarray(counts, near.dtype) * (1.0 if of_cells is None else of_cells)
    shares = jnp.ones(len(_POINTS), near.dtype)
    source = MixedWeights(points, shares, near[:, None], far[:, None], log_pi, evidence, of_cells)
    own = (codes[:, None] == np.arange(n_categories)).astype(near.dtype)
    found = np.asarray(source.each_mean(jnp.asarray(own)), np.float64)
    prior = own[counts].mean(axis=0)
    found = found[:, slice(n_locations, None) if players is not None else slice(n_locations)]
    # A location that no cell reaches has the labels' shares among the cells.
    return np.log(found + _FLOOR * (prior + 1.0 / len(own)))


def _with_players(fit: Any, players: Int[np.ndarray, " players"]) -> Any:
    """The fit with cells among its locations, their metagenes brought to the mean and spread of these."""
    x, r = np.asarray(fit.cell_metagenes), np.asarray(fit.reference_metagenes)
    spread = x.std(axis=0)
    scaled = (x[players] - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0) * r.std(axis=0) + r.mean(
        axis=0
    )
    return dataclasses.replace(fit, reference_metagenes=np.concatenate([r, scaled.astype(r.dtype)]))


def _known(labels: CellLabels) -> tuple[np.ndarray, int]:
    assert labels.codes is not None
    assert labels.categories is not None
    return labels.codes, len(labels.categories)


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
