"""The loop of expectation-maximisation: any E step, any M step, guarded extrapolation, a rule to stop by."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perler_jax._typing import pytree
from perler_jax.acceleration import Step, secant_step
from perler_jax.choices import StopRule
from perler_jax.mixture import MappingParams, SufficientStatistics

__all__ = ["EMResult", "EStep", "MStep", "StopRule", "run_em"]


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


EStep = Callable[[MappingParams], SufficientStatistics]
MStep = Callable[[SufficientStatistics, MappingParams], MappingParams]


class _State(NamedTuple):
    """Between two E steps.

    Attributes:
        step: where the run stands, its statistics and the M step from there.
        candidate: parameters to be judged next.
        extrapolated: whether the candidate is more than an M step, and must not lower the log-likelihood.
        history: (max_steps + 1,) log-likelihoods.
        n_steps: M steps made; -1 before the start itself is judged.
        ended: by the stop rule.
    """

    step: Step
    candidate: MappingParams
    extrapolated: Bool[Array, ""]
    history: Float[Array, " history"]
    n_steps: Int[Array, ""]
    ended: Bool[Array, ""]


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

    The body holds one E step, so that a program of it is compiled once.
    """
    extrapolate = jnp.array(accelerate)

    def unfinished(state: _State) -> Array:
        return ~state.ended & (state.n_steps < max_steps)

    def judge(state: _State) -> _State:
        found = e_step(state.candidate)
        risen = found.log_likelihood >= state.step.statistics.log_likelihood
        return jax.lax.cond(risen | ~state.extrapolated, advance, retreat, state, found)

    def retreat(state: _State, _: SufficientStatistics) -> _State:
        return state._replace(candidate=state.step.after, extrapolated=jnp.array(False))

    def advance(state: _State, found: SufficientStatistics) -> _State:
        n_steps = state.n_steps + 1
        history = state.history.at[n_steps].set(found.log_likelihood)
        # An extrapolated step may gain next to nothing far from the optimum: two of them must.
        gain = found.log_likelihood - history[jnp.maximum(n_steps - 1 - int(accelerate), 0)]
        least = tolerance * (jnp.abs(found.log_likelihood) if stop_rule == "relative" else 1.0)
        small = gain < least
        if stop_rule == "relative":
            small = small | (_still_to_gain(history, n_steps) < least)
        after = m_step(found, state.candidate)
        step = Step(state.candidate, after, found)
        second = n_steps > 0
        if accelerate:
            after = jax.lax.cond(second, secant_step, lambda _, this: this.after, state.step, step)
        return _State(step, after, extrapolate & second, history, n_steps, small & second)

    # Nothing is known before the first pass: it judges the start, which is step zero.
    nothing = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(e_step, start))
    history = jnp.full(max_steps + 1, jnp.nan, nothing.log_likelihood.dtype)
    false = jnp.array(False)
    state = _State(Step(start, start, nothing), start, false, history, jnp.array(-1), false)
    state = jax.lax.while_loop(unfinished, judge, state)
    return EMResult(state.step.before, state.history, state.n_steps, state.ended)


def _still_to_gain(history: Float[Array, " history"], n_steps: Int[Array, ""]) -> Float[Array, ""]:
    """All later gains together (Aitken), were each the same share of the one before; infinite if it is not.

    The share is the larger one of the last two, because one extrapolated step may gain little by accident.
    """
    gains = jnp.diff(history[jnp.maximum(n_steps - jnp.arange(4), 0)][::-1])
    falls = (gains[:-1] > 0) & (gains[1:] >= 0) & (gains[1:] < gains[:-1])
    share = jnp.where(falls, gains[1:], 0.0) / jnp.where(falls, gains[:-1], 1.0)
    largest = share.max()
    return jnp.where(falls.all() & (n_steps >= 3), gains[-1] * largest / (1 - largest), jnp.inf)
