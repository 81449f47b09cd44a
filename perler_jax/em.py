"""The primary fitter: expectation-maximisation in closed form (Eqs. 11-19 of Okochi et al. 2021)."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax.em_loop import EMResult, StopRule, run_em
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams, SufficientStatistics, expected_statistics
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.streaming import Tiles

_ROUNDING = 8  # units in the last place below which a sum of squares is rounding

__all__ = ["fit_em", "foreign_share_step", "initial_params", "m_step"]


@functools.partial(jax.jit, static_argnames=("noise_family", "foreign_share"))
def initial_params(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    log_location_weights: Float[Array, " locations"] | None = None,
    *,
    noise_family: NoiseFamily = GAUSSIAN,
    foreign_share: float | None = None,
) -> MappingParams:
    """A r + b with the mean and variance of x; noise as large as x itself (Methods, after Eq. 20).

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        log_location_weights: ln pi; None is uniform.
        noise_family: how cells scatter.
        foreign_share: share of cells from elsewhere to begin with; None leaves that component out.
    """
    spread, mapped_spread = _spread(cells), _spread(reference)
    informative = (spread > 0) & (mapped_spread > 0)
    a = jnp.where(informative, spread / jnp.where(informative, mapped_spread, 1.0), 0.0)
    return MappingParams(
        sensitivity=a,
        background=cells.mean(axis=0) - a * reference.mean(axis=0),
        # A metagene without variance (a landmark held out under reduction "none") says nothing about any
        # location: unit noise keeps it out of every distance.
        noise=jnp.where(spread > 0, spread, 1.0),
        log_location_weights=log_location_weights,
        foreign=None if foreign_share is None else ForeignCells.of_cells(cells, foreign_share),
        noise_family=noise_family,
    )


def _spread(values: Float[Array, "rows metagenes"]) -> Float[Array, " metagenes"]:
    """Standard deviation; exactly zero where what varies is rounding."""
    spread = values.std(axis=0)
    return jnp.where(
        spread > _ROUNDING * jnp.finfo(values.dtype).eps * jnp.abs(values).max(axis=0), spread, 0.0
    )


def m_step(
    statistics: SufficientStatistics, params: MappingParams, *, learn_location_weights: bool = False
) -> MappingParams:
    """Closed-form M step (Eqs. 12-15): a weighted least-squares line of x on r, per metagene.

    Args:
        statistics: from `expected_statistics`.
        params: what to keep where the statistics say nothing (and pi unless it is learned).
        learn_location_weights: also update pi.

    Note: Eq. 12 sums over the wrong index in print; pi_k = sum_n gamma_nk / N.
    """
    s = statistics
    determinant = s.mass * s.locations_squared - s.locations**2
    # Not informative: a metagene that is constant over the locations that hold cells, or over cells.
    rounding = _ROUNDING * jnp.finfo(s.cross.dtype).eps
    varies = s.cells_squared - s.cells**2 / s.mass > rounding * s.cells_squared
    informative = (determinant > rounding * s.mass * s.locations_squared) & varies
    safe = jnp.where(informative, determinant, 1.0)
    b = (s.locations_squared * s.cells - s.cross * s.locations) / safe
    a = (s.mass * s.cross - s.locations * s.cells) / safe
    squared = s.cells_squared - a * s.cross - b * s.cells
    # In exact arithmetic 0 <= squared <= cells_squared; the floor is what float32 can resolve of it.
    floor = rounding * s.cells_squared
    noise = jnp.sqrt(jnp.maximum(squared, floor) / s.count)
    log_weights = params.log_location_weights
    if learn_location_weights:
        log_weights = jnp.log(s.location_mass / s.count)
    return dataclasses.replace(
        params,
        sensitivity=jnp.where(informative, a, params.sensitivity),
        background=jnp.where(informative, b, params.background),
        noise=jnp.where(informative, noise, params.noise),
        log_location_weights=log_weights,
        foreign=foreign_share_step(params.foreign, s),
    )


def foreign_share_step(foreign: ForeignCells | None, statistics: SufficientStatistics) -> ForeignCells | None:
    """The share of foreign cells that the posterior counts; never zero or one, whose logit is infinite."""
    if foreign is None:
        return None
    share = statistics.foreign_mass / (statistics.count + statistics.foreign_mass)
    return dataclasses.replace(foreign, share=jnp.clip(share, 1e-10, 1 - 1e-6))


@functools.partial(
    jax.jit, static_argnames=("learn_location_weights", "max_steps", "stop_rule", "accelerate", "tiles")
)
def fit_em(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    cell_weights: Float[Array, " cells"] | None = None,
    learn_location_weights: bool = False,
    tolerance: float | Array = 1e-6,
    max_steps: int = 200,
    stop_rule: StopRule = "relative",
    accelerate: bool = True,
    tiles: Tiles | None = None,
) -> EMResult:
    """Fit the mapping by EM.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        start: initial parameters, which also carry pi, the noise family and foreign cells; None starts as the
            paper does with uniform pi.
        evidence: what else is known of where each cell is from.
        cell_weights: how often each cell counts, zero for padding (`shard_cells`); None counts each once.
            The start of None looks at all cells alike.
        learn_location_weights: update pi as well (slower to converge; the paper fixes it).
        tolerance: see `run_em`.
        max_steps: most M steps.
        stop_rule: "relative" (default) or the "released" program's.
        accelerate: extrapolate guardedly (`run_em`): the same optimum in about two thirds of the passes.
        tiles: tile sizes; None chooses them.
    """
    start = initial_params(cells, reference) if start is None else start
    if learn_location_weights and start.log_location_weights is None:
        uniform = jnp.full(len(reference), -jnp.log(len(reference)), start.noise.dtype)
        start = dataclasses.replace(start, log_location_weights=uniform)
    run = functools.partial(
        run_em,
        e_step=lambda params: expected_statistics(
            params, cells, reference, cell_weights, evidence=evidence, tiles=tiles
        ),
        m_step=functools.partial(m_step, learn_location_weights=learn_location_weights),
        tolerance=tolerance,
        max_steps=max_steps,
        stop_rule=stop_rule,
        accelerate=accelerate,
    )
    if start.foreign is not None:
        # Beside the broad noise of a start every cell looks foreign: they are judged against a fitted map.
        fitted = run(dataclasses.replace(start, foreign=None)).params
        start = dataclasses.replace(fitted, foreign=start.foreign)
    return run(start)
