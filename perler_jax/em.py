"""The primary fitter: expectation-maximisation in closed form (Eqs. 11-19 of Okochi et al. 2021)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perler_jax._typing import pytree
from perler_jax.acceleration import Step, secant_step
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams, SufficientStatistics, expected_statistics
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.streaming import Tiles

_ROUNDING = 8  # units in the last place below which a sum of squares is rounding

StopRule = Literal["relative", "released"]

__all__ = ["EMResult", "StopRule", "fit_em", "foreign_share_step", "initial_params", "m_step", "run_em"]


@pytree
class EMResult:
    """A fit by EM.

    Attributes:
        params: the fitted mapping.
        log_likelihoods: (max_steps,) log-likelihood before each M step and at the end; NaN where not run.
        n_steps: M steps made.
        converged: whether the stop rule, not max_steps, ended the run.
    """

    params: MappingParams
    log_likelihoods: Float[Array, " history"]
    n_steps: Int[Array, ""]
    converged: Bool[Array, ""]

    @property
    def history(self) -> np.ndarray:
        """(n_steps + 1,) the log-likelihood after 0, 1, ... M steps."""
        return np.asarray(self.log_likelihoods)[: int(self.n_steps) + 1]

    @property
    def log_likelihood(self) -> float:
        """The log-likelihood at the fitted parameters, in nats."""
        return float(self.history[-1])

    def __repr__(self) -> str:
        if np.ndim(self.n_steps):
            return f"EMResult({len(np.asarray(self.n_steps))} fits)"
        state = "converged" if bool(self.converged) else "NOT converged"
        return f"EMResult({state} in {int(self.n_steps)} steps, log-likelihood {self.log_likelihood:.2f})"


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


EStep = Callable[[MappingParams], SufficientStatistics]
MStep = Callable[[SufficientStatistics, MappingParams], MappingParams]


def run_em(
    start: MappingParams,
    e_step: EStep,
    m_step: MStep,
    *,
    tolerance: float | Array,
    max_steps: int,
    stop_rule: StopRule = "relative",
    accelerate: bool = True,
) -> EMResult:
    """The loop itself, for use inside jit: any E step, any M step.

    Args:
        start: initial parameters.
        e_step: params -> statistics, with ``log_likelihood``.
        m_step: (statistics, params) -> params.
        tolerance: for "relative", the gain of the mean log-likelihood relative to its size that ends the
            run, the last one or all that is still to come; for "released", the gain of the total in nats (the
            released program's 0.01).
        max_steps: most M steps (static: the history has this length plus one).
        stop_rule: "relative" or "released".
        accelerate: extrapolate from the last two M steps (`secant_step`). An extrapolation that lowers the
            log-likelihood is dropped for the plain M step, so the log-likelihood never falls.
    """

    def unfinished(state: tuple) -> Array:
        return ~state[-1] & (state[-2] < max_steps)

    def step(state: tuple) -> tuple:
        params, statistics, last, history, n_steps, _ = state
        plain = m_step(statistics, params)
        before = statistics.log_likelihood
        if accelerate:
            this = Step(params, plain, statistics)
            further = jax.lax.cond(n_steps > 0, secant_step, lambda _, this: this.after, last, this)
            gained = e_step(further)
            params, statistics = jax.lax.cond(
                gained.log_likelihood >= before,
                lambda: (further, gained),
                lambda: (plain, e_step(plain)),
            )
            last = this
        else:
            params, statistics = plain, e_step(plain)
        # An extrapolated step may gain next to nothing far from the optimum: two of them must.
        gain = statistics.log_likelihood - history[jnp.maximum(n_steps - int(accelerate), 0)]
        scale = jnp.abs(statistics.log_likelihood) if stop_rule == "relative" else 1.0
        n_steps = n_steps + 1
        history = history.at[n_steps].set(statistics.log_likelihood)
        least = tolerance * scale
        done = gain < least
        if stop_rule == "relative":
            done = done | (_still_to_gain(history, n_steps) < least)
        return params, statistics, last, history, n_steps, done

    statistics = e_step(start)
    history = jnp.full(max_steps + 1, jnp.nan, statistics.log_likelihood.dtype)
    history = history.at[0].set(statistics.log_likelihood)
    last = Step(start, start, statistics) if accelerate else None
    state = (start, statistics, last, history, jnp.array(0), jnp.array(False))
    params, _, _, history, n_steps, converged = jax.lax.while_loop(unfinished, step, state)
    return EMResult(params, history, n_steps, converged)


def _still_to_gain(history: Float[Array, " history"], n_steps: Int[Array, ""]) -> Float[Array, ""]:
    """All later gains together (Aitken), were each the same share of the one before; infinite if it is not.

    The share is the larger one of the last two, because one extrapolated step may gain little by accident.
    """
    gains = jnp.diff(history[jnp.maximum(n_steps - jnp.arange(4), 0)][::-1])
    falls = (gains[:-1] > 0) & (gains[1:] >= 0) & (gains[1:] < gains[:-1])
    share = jnp.where(falls, gains[1:], 0.0) / jnp.where(falls, gains[:-1], 1.0)
    largest = share.max()
    return jnp.where(falls.all() & (n_steps >= 3), gains[-1] * largest / (1 - largest), jnp.inf)


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
