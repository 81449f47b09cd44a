"""The whole method on one screen: cells and a reference map in, a tuned fit out.

Read this, then `mixture.py` (the equations), `em.py` (how they are fitted) and `selection.py` (how cells come
to be weighted).
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perler_jax.choices import Missing
from perler_jax.em import fit_em, initial_params
from perler_jax.em_loop import EMResult
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.fitted_predictor import LevelledMapping, predictor_of_fit
from perler_jax.given import given_cells
from perler_jax.held_out.cross_validation import correlation, roc_auc
from perler_jax.idle_card import warn_of_idle_card
from perler_jax.inputs.interface import speaking
from perler_jax.inputs.scales import ReferenceNormalisation, Scale
from perler_jax.metagenes import MetageneMap
from perler_jax.problem import Problem, prepare_problem
from perler_jax.reconstruction import gene_block_size, reconstruct_blocks
from perler_jax.scale.plan import WorkPlan, plan_work
from perler_jax.scale.spread import shard_cells
from perler_jax.selection import Selection, choose_experts, choose_weights, fit_folds
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.streaming import Tiles
from perler_jax.validation import weight_point
from perler_jax.weights import WeightParams

logger = logging.getLogger("perler_jax")

__all__ = ["fit_perler"]


def fit_perler(
    cells: Any,
    reference: Any,
    *,
    settings: PerlerSettings | None = None,
    cells_scale: Scale = "auto",
    cells_layer: str | None = None,
    reference_scale: Scale = "auto",
    reference_layer: str | None = None,
    reference_normalisation: ReferenceNormalisation = "auto",
    cells_gene_key: str | None = None,
    reference_gene_key: str | None = None,
    cells_use_raw: bool = False,
    reference_use_raw: bool = False,
    coordinates: Any = None,
    location_weights: Any = None,
    evidence: CellEvidence | None = None,
    totals: Any = None,
    weights: tuple[float, float] | None = None,
    covariance: Any = None,
    missing: Missing = "refuse",
    section_key: str | None = None,
    batch_key: str | None = None,
    memory: Any = None,
    checkpoint: Any = None,
    progress: bool = True,
) -> PerlerFit:
    """Map a tissue's reference into the space of dissociated cells, tuned on held-out landmarks.

    Args:
        cells: AnnData (cells, genes), DataFrame or `CellExpression`; raw counts are preferred and normalised
            here.
        reference: AnnData (locations, landmarks) with coordinates in ``obsm["spatial"]``, DataFrame or
            `SpatialReference`.
        settings: choices of the method.
        cells_scale: what the values of the cells are: "counts" (whole or corrected), "linear" (normalised,
            not logged), "log1p" (natural), "log2", "centred", "binary", or "auto": the values tell, or are
            refused.
        cells_layer: layer of the AnnData of cells to use in place of X.
        reference_scale: the same of the reference.
        reference_layer: the same of the reference.
        reference_normalisation: of located counts: "none", or "median", which brings every location to the
            median total; "auto" is "none".
        cells_gene_key: column of ``var`` of the cells that names their genes, in place of the index.
        reference_gene_key: the same of the reference.
        cells_use_raw: take ``.raw`` of the cells in place of X and ``var``.
        reference_use_raw: the same of the reference.
        coordinates: positions of the locations where they are not in ``obsm["spatial"]``: an array, a
            DataFrame, another key of ``obsm``, or columns of ``obs`` such as ["x", "y"].
        location_weights: (locations,) how many cells come from each location, e.g. zone areas; None is
            uniform.
        evidence: what else is known of where each cell is from (`region_evidence`, `coordinate_evidence`).
        totals: (cells,) molecules per cell where they are known better than from the table.
        weights: alpha and beta; given, nothing is held out and nothing tuned.
        covariance: (landmarks, landmarks) of log2 expression, for the distance in place of the one that the
            settings name: a DataFrame with landmark names, or an array in the order of the landmarks.
        missing: what becomes of NaN in the reference, values that were not measured: "refuse"; "drop" leaves
            out landmarks that have any; "fill" fills them in from the other landmarks (`as_reference`), and
            scores each landmark where it was measured.
        section_key: column of the reference's ``obs`` that names the section of tissue that each location
            lies in. All sections share one mapping; smoothing and neighbours never cross from one to
            another, and their coordinates may repeat.
        batch_key: column of the cells' ``obs`` that names their batch (donor, run). Background and spread of
            every gene in every batch are brought to those of all, as far as batches differ by more than the
            places that their cells are from (`perler_jax.inputs.alignment`).
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
        point = None if weights is None else weight_point(weights)
        with speaking("fit"):
            problem = prepare_problem(
                cells,
                reference,
                settings,
                cells_scale=cells_scale,
                cells_layer=cells_layer,
                reference_scale=reference_scale,
                reference_layer=reference_layer,
                reference_normalisation=reference_normalisation,
                cells_gene_key=cells_gene_key,
                reference_gene_key=reference_gene_key,
                cells_use_raw=cells_use_raw,
                reference_use_raw=reference_use_raw,
                coordinates=coordinates,
                location_weights=location_weights,
                evidence=evidence,
                totals=totals,
                covariance=covariance,
                missing=missing,
                section_key=section_key,
                batch_key=batch_key,
            )
        kept = problem.checkpoint(checkpoint)
    warn_of_idle_card()
    with device_precision(settings.dtype):
        plan = _plan(problem, memory, tuned=point is None, progress=progress)
        tiles = None if plan is None else plan.tiles
        with _stage("em", seconds):
            em = _fit_mapping(problem, problem.metagenes, tiles)
        if point is not None:
            selection = Selection(point)
        else:
            with _stage("held_out", seconds):
                held_out = fit_folds(problem, tiles=tiles, checkpoint=kept, progress=progress)
            with _stage("tuning", seconds):
                choose = choose_experts if settings.predictor_used == "experts" else choose_weights
                selection = choose(problem, held_out, tiles=tiles, checkpoint=kept, progress=progress)
        with _stage("em", seconds):
            levelled = _fit_levelled(problem, selection, tiles)
        x, r = problem.device_metagenes()
        chosen = WeightParams.single(*selection.weights, x.dtype)
    fit = PerlerFit(
        settings=settings,
        cells=problem.expression,
        reference=problem.atlas,
        cell_names=problem.expression.cells,
        landmarks=problem.landmarks,
        preprocessing=problem.preprocessing,
        metagenes=problem.metagenes,
        em=em,
        cell_metagenes=np.asarray(x),
        reference_metagenes=np.asarray(r),
        weights=chosen,
        scores=selection.score_table(problem),
        held_out=selection.held_out,
        tuning=selection.tuning,
        seconds=seconds,
        covariance=problem.covariance,
        evidence=evidence,
        given=given_cells(problem.expression, problem.landmarks, problem.preprocessing),
        mixture=selection.mixture,
        levelled=levelled,
        levelled_held_out=selection.levelled,
        neighbours=selection.neighbours,
    )
    with _stage("reconstruction", seconds), device_precision(settings.dtype):
        return _with_reconstruction(fit, problem, plan)


def _plan(problem: Problem, memory: Any, *, tuned: bool, progress: bool) -> WorkPlan | None:
    """How to keep to a budget, if there is one; says what the job will take."""
    if memory is None and not progress:
        return None
    plan = plan_work(
        n_cells=len(problem.cells),
        n_locations=len(problem.reference),
        n_metagenes=problem.n_metagenes,
        n_genes=problem.expression.n_genes,
        n_folds=len(problem.folds) if tuned else 0,
        memory=memory,
        dtype=np.dtype(problem.settings.dtype),
    )
    logger.info("%s", plan)
    return plan if memory is not None else None


def _fit_mapping(problem: Problem, maps: MetageneMap, tiles: Tiles | None) -> EMResult:
    """EM on all landmarks, cells spread over the devices in use."""
    x, r = problem.device_metagenes(maps)
    start = initial_params(x, r, problem.device_location_weights(), **problem.start_options())
    spread_cells, present = shard_cells(x)
    em = fit_em(spread_cells, r, start, cell_weights=present, **problem.em_options(tiles))
    em = jax.block_until_ready(em)
    if not bool(em.converged):
        steps = problem.settings.max_steps
        logger.warning("EM did not converge in %d steps: raise max_steps or tolerance", steps)
    return em


def _fit_levelled(problem: Problem, selection: Selection, tiles: Tiles | None) -> LevelledMapping | None:
    """The mapping without levels, where an expert with a share asks for it."""
    if selection.mixture is None or not selection.mixture.choice.without_levels:
        return None
    maps = problem.reduced(levels=False)
    em = _fit_mapping(problem, maps, tiles)
    return LevelledMapping(em.params, maps)


def _with_reconstruction(fit: PerlerFit, problem: Problem, plan: WorkPlan | None) -> PerlerFit:
    """The fit with the scores of its own predictions of the landmarks, in which each took part."""
    predictor = predictor_of_fit(fit, problem.expression)
    # In blocks as wide as those of reconstruction, one program for both, unless the budget is narrower.
    usual = gene_block_size(*predictor.shape, problem.expression.n_genes)
    width, tiles = (usual, None) if plan is None else (min(usual, plan.gene_block), plan.tiles)
    blocks = (
        (problem.landmarks[start : start + width], problem.cells[:, start : start + width])
        for start in range(0, len(problem.landmarks), width)
    )
    made = reconstruct_blocks(predictor, blocks, preprocess=np.asarray, block_size=width, tiles=tiles)
    refitted = np.concatenate([block for _, block in made], axis=1)
    compare = roc_auc if problem.measure == "auc" else correlation
    sides = (problem.on_device(each.T) for each in (refitted, problem.reference))
    found = compare(*sides, None if problem.measured is None else jnp.asarray(problem.measured.T))
    scores = fit.scores.assign(reconstruction=np.asarray(found, np.float64))
    return dataclasses.replace(fit, scores=scores)


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
