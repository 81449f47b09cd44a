"""Choosing how a fit predicts: held-out fits made once, then alpha, beta or the shares of experts on them.

A landmark is in none of the fits by which it is predicted, and its term is not among those by which its
nested prediction was chosen. The other folds' fits have seen it; to take a landmark away from everything,
leave it out of the reference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm import tqdm

from perler_jax.held_out.expert_choice import ExpertTuning, tune_experts
from perler_jax.held_out.expert_grams import ExpertScorer
from perler_jax.held_out.folds import HeldOutFits, fit_held_out
from perler_jax.held_out.resume import KeptScorer
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import Scorer, usual_points
from perler_jax.held_out.tuning import Tuning, tune_weights
from perler_jax.prediction.choice import ExpertMixture
from perler_jax.prediction.experts import usable_experts, usable_polishes
from perler_jax.problem import Problem
from perler_jax.scale.checkpoint import Checkpoint
from perler_jax.streaming import Tiles

__all__ = ["Selection", "choose_experts", "choose_weights", "expert_scorer", "fit_folds"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """How cells are weighted, and what that choice rests on.

    Attributes:
        weights: alpha and beta of the plain weighted mean.
        held_out: the held-out fits; None, like the next, if the weights were given.
        tuning: the search for alpha and beta.
        experts: the shares of experts, where they predict.
        levelled: the held-out fits without levels, where experts predict.
        neighbours: of each cell in expression, where an expert uses them.
    """

    weights: tuple[float, float]
    held_out: HeldOutFits | None = None
    tuning: Tuning | None = None
    experts: ExpertTuning | None = None
    levelled: HeldOutFits | None = None
    neighbours: np.ndarray | None = None

    @property
    def mixture(self) -> ExpertMixture | None:
        """Experts with their shares."""
        return None if self.experts is None else self.experts.mixture

    def score_table(self, problem: Problem) -> pd.DataFrame:
        """One row per landmark, see `PerlerFit.scores`; what was not tuned has no score."""
        fold_of = np.zeros(len(problem.landmarks), int)
        for index, fold in enumerate(problem.folds):
            fold_of[fold] = index
        plain, found = self.tuning, self.experts or self.tuning
        unknown = np.full(len(problem.landmarks), np.nan)
        columns = {
            "fold": fold_of,
            "held_out": unknown if found is None else found.scores,
            "nested": unknown if found is None else found.nested_scores,
            "nested_paper": unknown if plain is None else plain.nested_scores,
            "reconstruction": unknown,
            "alpha": unknown if plain is None else plain.nested_alpha,
            "beta": unknown if plain is None else plain.nested_beta,
        }
        return pd.DataFrame(columns, index=pd.Index(problem.landmarks.astype(str), name="landmark"))


def fit_folds(
    problem: Problem,
    *,
    levels: bool = True,
    tiles: Tiles | None,
    checkpoint: Checkpoint | None,
    progress: bool,
) -> HeldOutFits:
    """The mapping once per fold of landmarks, without any trace of the fold's genes."""
    return fit_held_out(
        problem.cells,
        problem.reference,
        problem.folds,
        n_metagenes=problem.n_metagenes,
        reduction=problem.settings.reduction,
        levels=levels,
        grams=problem.grams,
        log_location_weights=problem.device_location_weights(),
        checkpoint=checkpoint,
        dtype=np.dtype(problem.settings.dtype),
        measured=problem.measured,
        refill=problem.refill,
        progress=_bar("held-out fits" if levels else "held-out fits without levels", progress),
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


def choose_experts(
    problem: Problem,
    held_out: HeldOutFits,
    *,
    tiles: Tiles | None,
    checkpoint: Checkpoint | None,
    progress: bool,
) -> Selection:
    """Shares of experts and of polishes, and alpha and beta of the best plain weighted mean among them."""
    levelled = fit_folds(problem, levels=False, tiles=tiles, checkpoint=checkpoint, progress=progress)
    scorer = expert_scorer(problem, held_out, levelled, tiles=tiles, checkpoint=checkpoint)
    grams = scorer.grams_of_genes(_bar("experts", progress))
    tuned = tune_experts(
        grams, scorer.experts, scorer.polishes, problem.folds, objective=problem.settings.objective
    )
    plain = tuned.plain
    assert plain is not None  # `EXPERTS` has some
    return Selection((plain.alpha, plain.beta), held_out, plain, tuned, levelled, scorer.neighbours)


def expert_scorer(
    problem: Problem,
    held_out: HeldOutFits,
    levelled: HeldOutFits,
    *,
    tiles: Tiles | None = None,
    checkpoint: Checkpoint | None = None,
) -> ExpertScorer:
    """What compares all experts that the data allow, on the held-out fits with and without levels."""
    neighbours, coordinates = problem.neighbours, problem.atlas.places
    covariance = problem.settings.covariance
    return ExpertScorer(
        {True: held_out, False: levelled},
        problem.cells,
        problem.reference,
        problem.grams,
        usable_experts(neighbours=neighbours is not None, covariance=covariance),
        usable_polishes(positions=coordinates is not None),
        coordinates,
        neighbours,
        problem.evidence,
        problem.covariance,
        problem.measured,
        None if problem.measured is None else problem.refill,
        checkpoint,
        tiles,
    )


def _bar(name: str, progress: bool) -> Callable[[Any], Any]:
    """A counter of folds."""
    return functools.partial(tqdm, desc=name, unit="fold", disable=not progress, leave=False)
