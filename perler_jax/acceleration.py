"""Fewer passes over the data: an EM step extrapolated from the last two (Anderson's method of depth one).

EM approaches its optimum along a slow direction, by a constant factor per step. From how much the last two
steps differ that factor is read off, and the rest of the way is taken at once. The caller guards the
log-likelihood.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from perler_jax._typing import pytree
from perler_jax.mixture import MappingParams, SufficientStatistics

__all__ = ["Step", "secant_step"]


@pytree
class Step:
    """One M step.

    Attributes:
        before: parameters that it started from.
        after: parameters that it gave.
        statistics: at ``before``.
    """

    before: MappingParams
    after: MappingParams
    statistics: SufficientStatistics


def secant_step(last: Step, this: Step) -> MappingParams:
    """Parameters where the change made by an M step would vanish, if it were linear along the last two.

    With f the change and g the result of an M step:  g - t (g - g_last),  t = <df, f> / <df, df>,
    df = f - f_last. Positive parameters (noise, location weights) are extrapolated in
    logarithms, the share of foreign cells in its logit.
    """
    metric = _metric(this)
    change, change_last = (jax.tree.map(jnp.subtract, *map(_free, (s.after, s.before))) for s in (this, last))
    difference = jax.tree.map(jnp.subtract, change, change_last)
    squared = _inner(difference, difference, metric)
    share = jnp.where(squared > 0, _inner(difference, change, metric), 0.0) / jnp.where(
        squared > 0, squared, 1.0
    )

    def extrapolate(after: Array, after_last: Array) -> Array:
        # Locations without any weight have ln pi = -inf on both sides: they stay.
        moved = after - share * (after - after_last)
        return jnp.where(jnp.isfinite(moved), moved, after)

    a, b, log_noise, log_weights, share = jax.tree.map(extrapolate, _free(this.after), _free(last.after))
    if log_weights is not None:
        log_weights = jax.nn.log_softmax(log_weights)
    foreign = this.after.foreign
    if foreign is not None:
        foreign = dataclasses.replace(foreign, share=jax.nn.sigmoid(share))
    return dataclasses.replace(
        this.after,
        sensitivity=a,
        background=b,
        noise=jnp.exp(log_noise),
        log_location_weights=log_weights,
        foreign=foreign,
    )


_Free = tuple[Array, Array, Array | float, Array | None, Array | None]


def _free(params: MappingParams) -> _Free:
    share = None if params.foreign is None else jax.scipy.special.logit(params.foreign.share)
    return params.sensitivity, params.background, jnp.log(params.noise), params.log_location_weights, share


def _metric(step: Step) -> _Free:
    """How much each parameter matters: its change of the mapped locations in units of noise, squared."""
    s = step.statistics
    precision = step.before.noise**-2
    spread = s.locations_squared / s.mass - (s.locations / s.mass) ** 2
    share = None if step.before.log_location_weights is None else s.location_mass / s.count
    odds = None if step.before.foreign is None else step.before.foreign.share
    return spread * precision, precision, 1.0, share, odds


def _inner(left: tuple, right: tuple, metric: tuple) -> Array:
    products = jax.tree.map(
        lambda one, other, weight: jnp.sum(jnp.nan_to_num(one * other) * weight), left, right, metric
    )
    return functools.reduce(jnp.add, jax.tree.leaves(products))
