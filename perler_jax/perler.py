"""The whole method on one screen: cells and a reference map in, a tuned fit out.

Read this, then `mixture.py` (the equations) and `em.py` (how they are fitted).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm import tqdm

from perler_jax.density import cell_votes
from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence, check_evidence
from perler_jax.fit import PerlerFit
from perler_jax.held_out.cross_validation import Score, correlation, roc_auc
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.held_out.neighbours import pull_folds
from perler_jax.held_out.refinement_tuning import RefinementTuning, refined_scores, tune_refinement
from perler_jax.held_out.resume import KeptScorer
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.tuning import Scorer, Tuning, tune_weights, usual_points
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.landmarks import align_landmarks
from perler_jax.metagenes import clip_n_metagenes, fit_metagenes
from perler_jax.neighbourhood import neighbour_evidence, neighbours_without
from perler_jax.noise import FOREIGN_SHARE
from perler_jax.preprocessing import centre, preprocess_cells, reference_landmarks
from perler_jax.refinement import Refinement, Refiner, candidate_refinements, standard_landmarks
from perler_jax.scale.checkpoint import fingerprint, open_checkpoint
from perler_jax.scale.plan import plan_work
from perler_jax.scale.spread import shard_cells
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.validation import landmark_covariance, log_location_prior, weight_point
from perler_jax.weights import Covariance, WeightParams, distance_space, weighted_means

logger = logging.getLogger("perler_jax")

__all__ = ["fit_perler"]

# Above this many landmarks one fit per landmark is not worth its time: ten folds, as the paper for its 1020.
_MOST_SINGLE_FOLDS = 200


def fit_perler(
    cells: Any,
    reference: Any,
    *,
    settings: PerlerSettings | None = None,
    location_weights: Any = None,
    evidence: CellEvidence | None = None,
    totals: Any = None,
    weights: tuple[float, float] | None = None,
    covariance: Any = None,
    memory: Any = None,
    checkpoint: Any = None,
    progress: bool = True,
) -> PerlerFit:
    """Map a tissue's reference into the space of dissociated cells, tuned on held-out landmarks.

    Args:
        cells: AnnData (cells, genes), DataFrame or `CellExpression`; raw counts are preferred and normalised
            here, anything else is taken as log expression.
        reference: AnnData (locations, landmarks) with coordinates in ``obsm["spatial"]``, DataFrame or
            `SpatialReference`.
        settings: choices of the method.
        location_weights: (locations,) how many cells come from each location, e.g. zone areas; None is
            uniform.
        evidence: what else is known of where each cell is from (`region_evidence`, `coordinate_evidence`).
        totals: (cells,) molecules per cell where they are known better than from the table.
        weights: alpha and beta; given, nothing is held out and nothing tuned.
        covariance: (landmarks, landmarks) of log2 expression, for the distance in place of the one that the
            settings name: a DataFrame with landmark names, or an array in the order of the landmarks.
        memory: budget for what is held beyond the inputs, e.g. "1GB"; None takes what is fastest, which is
            little: cells x locations are never held.
        checkpoint: folder that keeps finished held-out fits and scores, so that the same call goes on from
            there after a kill; delete it when the fit is saved.
        progress: show progress bars, and what the job will take.

    Returns:
        An immutable `PerlerFit`.

    Raises:
        PerlerInputError: on inputs that cannot be used, before anything is computed.
    """
    settings = settings or PerlerSettings()
    seconds: dict[str, float] = {}
    with _stage("inputs", seconds):
        expression, atlas = as_cells(cells), as_reference(reference)
        landmarks = align_landmarks(expression, atlas)
        preprocessing = preprocess_cells(expression, settings.normalisation, totals)
        y, _ = centre(np.asarray(preprocessing.apply(expression.dense(landmarks)), np.float64))
        h = reference_landmarks(atlas, landmarks)
        n_folds = settings.folds or (None if len(landmarks) <= _MOST_SINGLE_FOLDS else 10)
        folds = make_folds(len(landmarks), n_folds, seed=settings.seed)
        n_metagenes = clip_n_metagenes(
            len(landmarks) if settings.reduction == "none" else settings.n_metagenes,
            landmarks=len(landmarks),
            locations=len(h),
            cells=len(y),
            held_out=max(map(len, folds)),
        )
        log_weights = log_location_prior(location_weights, len(h))
        check_evidence(evidence, len(y), len(h))
        matrix = landmark_covariance(covariance, landmarks)
        point = None if weights is None else weight_point(weights)
        metagenes = fit_metagenes(y, h, n_metagenes=n_metagenes, reduction=settings.reduction)
        kept = None
        if checkpoint is not None:
            if jax.process_count() > 1:
                raise PerlerInputError("expected no checkpoint with several processes: folders may differ")
            kept = open_checkpoint(checkpoint, fingerprint(y, h, settings, log_weights, matrix, evidence))

    with device_precision(settings.dtype):
        dtype = np.dtype(settings.dtype)
        log_pi = None if log_weights is None else jnp.asarray(log_weights, dtype)
        tiles = None
        if memory is not None or progress:
            plan = plan_work(
                n_cells=len(y),
                n_locations=len(h),
                n_metagenes=n_metagenes,
                n_genes=expression.n_genes,
                n_folds=0 if point is not None else len(folds),
                memory=memory,
                dtype=dtype,
            )
            tiles = plan.tiles if memory is not None else None
            logger.info("%s", plan)
        known = None if evidence is None else evidence.astype(dtype)
        model: dict[str, Any] = {
            "noise_family": settings.noise_family,
            "foreign_share": FOREIGN_SHARE if settings.foreign_cells else None,
        }
        em_options: dict[str, Any] = {
            "evidence": known,
            "learn_location_weights": settings.learn_location_weights,
            "tolerance": settings.tolerance,
            "max_steps": settings.max_steps,
            "stop_rule": settings.stop_rule,
            "accelerate": settings.stop_rule == "relative",
            "tiles": tiles,
        }
        with _stage("em", seconds):
            x = jnp.asarray(y @ metagenes.cell_loadings, dtype)
            r = jnp.asarray(h @ metagenes.reference_loadings, dtype)
            start = initial_params(x, r, log_pi, **model)
            spread_cells, present = shard_cells(x)
            em = fit_em(spread_cells, r, start, cell_weights=present, **em_options)
            em = jax.block_until_ready(em)
        if not bool(em.converged):
            logger.warning(
                "EM did not converge in %d steps: raise max_steps or tolerance", settings.max_steps
            )

        held_out, tuning, refined, pull = None, None, None, None
        measure: Score = "auc" if settings.objective == "roc" else "pearson"
        matrix_device = None if matrix is None else jnp.asarray(matrix, dtype)
        y_device, h_device = jnp.asarray(y, dtype), jnp.asarray(h, dtype)
        if point is None:
            with _stage("held_out", seconds):
                held_out = fit_held_out(
                    y,
                    h,
                    folds,
                    n_metagenes=n_metagenes,
                    reduction=settings.reduction,
                    log_location_weights=log_pi,
                    checkpoint=kept,
                    dtype=dtype,
                    progress=functools.partial(
                        tqdm, desc="held-out fits", unit="fold", disable=not progress, leave=False
                    ),
                    **model,
                    **em_options,
                )
            with (
                _stage("tuning", seconds),
                _bar("tuning", usual_points(settings.search_used), progress) as report,
            ):
                scorer: Scorer = HeldOutScorer(
                    held_out, y_device, h_device, settings.covariance, matrix_device, measure, known, tiles
                )
                tuning = tune_weights(
                    scorer if kept is None else KeptScorer(scorer, kept),
                    folds,
                    objective=settings.objective,
                    search=settings.search_used,
                    report=report,
                )
            point = (tuning.alpha, tuning.beta)
            if settings.refine:
                with _stage("refinement", seconds):
                    neighbours = neighbours_without(expression, landmarks, preprocessing.apply)
                    refined = tune_refinement(
                        *refined_scores(
                            held_out,
                            point,
                            candidate_refinements(atlas.coordinates, neighbours=neighbours is not None),
                            y,
                            h,
                            atlas.coordinates,
                            covariance=settings.covariance,
                            landmark_covariance=matrix,
                            evidence=known,
                            neighbours=neighbours,
                            progress=functools.partial(
                                tqdm, desc="refinement", unit="fold", disable=not progress, leave=False
                            ),
                        ),
                        folds,
                        objective=settings.objective,
                    )
                point = refined.weights
                sd = refined.refinement.pull
                if sd is not None:
                    assert neighbours is not None
                    assert atlas.coordinates is not None
                    sides = (y_device, h_device, atlas.coordinates, neighbours, sd, known)
                    held_out = pull_folds(held_out, *sides)
                    places = jnp.asarray(atlas.coordinates, dtype)
                    pull = neighbour_evidence(em.params, x, r, places, jnp.asarray(neighbours), sd, known)
        chosen = WeightParams.single(*point, dtype)
        spread: Covariance = settings.covariance
        if matrix is not None:
            spread = jnp.asarray(metagenes.cell_loadings.T @ matrix @ metagenes.cell_loadings, dtype)
        near, far = distance_space(em.params, x, r, spread)
        refiner = Refiner(
            Refinement() if refined is None else refined.refinement,
            landmarks,
            standard_landmarks(y),
            standard_landmarks(h),
            atlas.coordinates,
        )
        rest, carried = refiner.split(landmarks, y)
        means = weighted_means(
            *(chosen, near, far, em.params.log_location_weights, jnp.asarray(rest, dtype)),
            evidence=known if pull is None else pull,
            votes=cell_votes(em.params, x, r, known),
        )[0]
        refitted = jnp.asarray(refiner.smooth(np.asarray(means) + carried), dtype)
        compare = roc_auc if measure == "auc" else correlation
        table = _score_table(landmarks, folds, tuning, refined, np.asarray(compare(refitted.T, h_device.T)))
    return PerlerFit(
        settings=settings,
        cells=expression,
        reference=atlas,
        cell_names=expression.cells,
        landmarks=landmarks,
        preprocessing=preprocessing,
        metagenes=metagenes,
        em=em,
        cell_metagenes=np.asarray(x),
        reference_metagenes=np.asarray(r),
        weights=chosen,
        scores=table,
        held_out=held_out,
        tuning=tuning,
        seconds=seconds,
        covariance=matrix,
        evidence=evidence,
        pull=None if pull is None else jax.tree.map(np.asarray, pull),
        refinement=None if refined is None else refined.refinement,
    )


def _score_table(
    landmarks: np.ndarray,
    folds: list[np.ndarray],
    tuning: Tuning | None,
    refined: RefinementTuning | None,
    reconstruction: np.ndarray,
) -> pd.DataFrame:
    """One row per landmark."""
    fold_of = np.zeros(len(landmarks), int)
    for index, fold in enumerate(folds):
        fold_of[fold] = index
    unknown = np.full(len(landmarks), np.nan)
    found: Tuning | RefinementTuning | None = tuning if refined is None else refined
    columns = {
        "fold": fold_of,
        "held_out": unknown if found is None else found.scores,
        "nested": unknown if found is None else found.nested_scores,
        "reconstruction": reconstruction.astype(np.float64),
        "alpha": unknown if found is None else found.nested_alpha,
        "beta": unknown if found is None else found.nested_beta,
    }
    if refined is not None and tuning is not None:
        columns["unrefined"] = tuning.nested_scores
    return pd.DataFrame(columns, index=pd.Index(landmarks.astype(str), name="landmark"))


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def _bar(name: str, total: int, progress: bool) -> Iterator[Any]:
    """A counter of evaluated weight points."""
    with tqdm(desc=name, unit="point", total=total, disable=not progress, leave=False) as bar:
        yield bar.update
