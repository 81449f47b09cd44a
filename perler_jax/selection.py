"""Choosing how cells are weighted: held-out fits made once, then alpha, beta and a refinement tuned on them.

No gene has a say in its own nested score: it is in none of the fits that predict it, and not among the genes
by which the weights were tuned.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.em_loop import EMResult
from perler_jax.evidence import CellEvidence
from perler_jax.held_out.folds import HeldOutFits, fit_held_out
from perler_jax.held_out.neighbours import pull_folds
from perler_jax.held_out.refinement_tuning import RefinementTuning, refined_scores, tune_refinement
from perler_jax.held_out.resume import KeptScorer
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import Scorer, usual_points
from perler_jax.held_out.tuning import Tuning, tune_weights
from perler_jax.neighbourhood import neighbour_evidence
from perler_jax.problem import Problem
from perler_jax.refinement import Refinement, candidate_refinements
from perler_jax.scale.checkpoint import Checkpoint
from perler_jax.streaming import Tiles

__all__ = ["Selection", "choose_refinement", "choose_weights", "fit_folds"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """How cells are weighted, and what that choice rests on.

    Attributes:
        weights: alpha and beta.
        held_out: the held-out fits; None, like the next two, if the weights were given.
        tuning: the search for alpha and beta.
        refined: the choice of a refinement, where one was asked for.
        pull: evidence of where a cell's neighbours are, where the refinement has a pull.
    """

    weights: tuple[float, float]
    held_out: HeldOutFits | None = None
    tuning: Tuning | None = None
    refined: RefinementTuning | None = None
    pull: CellEvidence | None = None

    @property
    def refinement(self) -> Refinement | None:
        """Of the weighted means."""
        return None if self.refined is None else self.refined.refinement

    def score_table(self, problem: Problem, reconstruction: Float[np.ndarray, " landmarks"]) -> pd.DataFrame:
        """One row per landmark, see `PerlerFit.scores`."""
        fold_of = np.zeros(len(problem.landmarks), int)
        for index, fold in enumerate(problem.folds):
            fold_of[fold] = index
        unknown = np.full(len(problem.landmarks), np.nan)
        found: Tuning | RefinementTuning | None = self.tuning if self.refined is None else self.refined
        columns = {
            "fold": fold_of,
            "held_out": unknown if found is None else found.scores,
            "nested": unknown if found is None else found.nested_scores,
            "reconstruction": reconstruction.astype(np.float64),
            "alpha": unknown if found is None else found.nested_alpha,
            "beta": unknown if found is None else found.nested_beta,
        }
        if self.refined is not None and self.tuning is not None:
            columns["unrefined"] = self.tuning.nested_scores
        return pd.DataFrame(columns, index=pd.Index(problem.landmarks.astype(str), name="landmark"))


def fit_folds(
    problem: Problem, *, tiles: Tiles | None, checkpoint: Checkpoint | None, progress: bool
) -> HeldOutFits:
    """The mapping once per fold of landmarks, without any trace of the fold's genes."""
    return fit_held_out(
        problem.cells,
        problem.reference,
        problem.folds,
        n_metagenes=problem.n_metagenes,
        reduction=problem.settings.reduction,
        grams=problem.grams,
        log_location_weights=problem.device_location_weights(),
        checkpoint=checkpoint,
        dtype=np.dtype(problem.settings.dtype),
        measured=problem.measured,
        refill=problem.refill,
        progress=_bar("held-out fits", progress),
        **problem.start_options(),
        **problem.em_options(tiles),
    )


def choose_weights(
    problem: Problem,
    held_out: HeldOutFits,
    *,
    tiles: Tiles | None,
    checkpoint: Checkpoint | None,
    progress: bool,
) -> Selection:
    """Alpha and beta with the highest objective over held-out genes (Eqs. 24-26)."""
    settings = problem.settings
    matrix = None if problem.covariance is None else problem.on_device(problem.covariance)
    scorer: Scorer = HeldOutScorer(
        held_out,
        *problem.device_landmarks(),
        settings.covariance,
        matrix,
        problem.measure,
        problem.device_evidence(),
        None if problem.measured is None else jnp.asarray(problem.measured),
        tiles,
    )
    points = usual_points(settings.search_used)
    with tqdm(desc="tuning", unit="point", total=points, disable=not progress, leave=False) as bar:
        tuning = tune_weights(
            scorer if checkpoint is None else KeptScorer(scorer, checkpoint),
            problem.folds,
            objective=settings.objective,
            search=settings.search_used,
            report=bar.update,
        )
    return Selection((tuning.alpha, tuning.beta), held_out, tuning)


def choose_refinement(
    problem: Problem, selection: Selection, em: EMResult, *, tiles: Tiles | None, progress: bool
) -> Selection:
    """Regression, smoothing and pull, with alpha and beta anew, by the same objective over held-out genes."""
    held_out = selection.held_out
    assert held_out is not None
    coordinates, known = problem.atlas.coordinates, problem.device_evidence()
    neighbours = problem.neighbours
    compared = refined_scores(
        held_out,
        selection.weights,
        candidate_refinements(coordinates, neighbours=neighbours is not None),
        problem.cells,
        problem.reference,
        coordinates,
        covariance=problem.settings.covariance,
        landmark_covariance=problem.covariance,
        evidence=known,
        neighbours=neighbours,
        tiles=tiles,
        progress=_bar("refinement", progress),
    )
    refined = tune_refinement(*compared, problem.folds, objective=problem.settings.objective)
    selection = dataclasses.replace(selection, weights=refined.weights, refined=refined)
    sd = refined.refinement.pull
    if sd is None:
        return selection
    assert neighbours is not None
    assert coordinates is not None
    y, h = problem.device_landmarks()
    near = (problem.on_device(coordinates), jnp.asarray(neighbours), sd, known)
    return dataclasses.replace(
        selection,
        held_out=pull_folds(held_out, y, h, coordinates, neighbours, sd, known, tiles=tiles),
        pull=neighbour_evidence(em.params, *problem.device_metagenes(), *near, tiles=tiles),
    )


def _bar(name: str, progress: bool) -> Callable[[Any], Any]:
    """A counter of folds."""
    return functools.partial(tqdm, desc=name, unit="fold", disable=not progress, leave=False)
