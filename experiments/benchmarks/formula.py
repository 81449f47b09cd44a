"""The dense formula: the method as its equations stand on paper, every cells x locations array held.

This is what a competent array program would do without a streamed kernel; results agree to rounding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import logsumexp

from perler_jax.em import initial_params, m_step
from perler_jax.em_loop import EMResult, run_em
from perler_jax.mixture import MappingParams, SufficientStatistics, map_locations
from perler_jax.weights import WeightParams

__all__ = ["em", "gradient", "log_joint", "means", "statistics", "triple_gradient"]


def log_joint(params: MappingParams, x: Array, r: Array) -> Array:
    """(cells, locations) ln pi_k N(x_n | a r_k + b, diag sigma^2), with uniform pi."""
    near, far = x / params.noise, map_locations(params, r) / params.noise
    squared = jnp.sum(near**2, 1)[:, None] + jnp.sum(far**2, 1) - 2 * near @ far.T
    constant = jnp.log(len(r)) + jnp.sum(jnp.log(params.noise)) + 0.5 * x.shape[1] * jnp.log(2 * jnp.pi)
    return -0.5 * squared - constant


@jax.jit
def statistics(params: MappingParams, x: Array, r: Array) -> SufficientStatistics:
    """The E step with gamma held."""
    joint = log_joint(params, x, r)
    log_p = logsumexp(joint, axis=1)
    gamma = jnp.exp(joint - log_p[:, None])
    mass = gamma.sum(axis=0)
    return SufficientStatistics(
        count=jnp.asarray(len(x), x.dtype),
        mass=jnp.asarray(len(x), x.dtype),
        cells=x.sum(axis=0),
        cells_squared=(x**2).sum(axis=0),
        locations=mass @ r,
        locations_squared=mass @ r**2,
        cross=jnp.sum(x * (gamma @ r), axis=0),
        location_mass=mass,
        foreign_mass=jnp.zeros((), x.dtype),
        log_likelihood=log_p.sum(),
    )


@jax.jit
def em(x: Array, r: Array) -> EMResult:
    """EM with the dense E step, started and stopped as ours."""
    return run_em(
        initial_params(x, r), lambda params: statistics(params, x, r), m_step, tolerance=1e-6, max_steps=200
    )


@jax.jit
def gradient(params: MappingParams, x: Array, r: Array) -> MappingParams:
    """Gradient of the log-likelihood by reverse mode through cells x locations."""
    return jax.grad(lambda at: logsumexp(log_joint(at, x, r), axis=1).sum())(params)


@jax.jit
def triple_gradient(params: MappingParams, x: Array, r: Array) -> MappingParams:
    """The same of NumPyro's `MixtureSameFamily`, which holds cells x locations x metagenes."""

    def log_likelihood(at: MappingParams) -> Array:
        components = dist.Normal(map_locations(at, r), at.noise).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.full(len(r), 1 / len(r))), components)
        return mixture.log_prob(x).sum()

    return jax.grad(log_likelihood)(params)


@jax.jit
def means(weights: WeightParams, near: Array, far: Array, values: Array) -> Array:
    """(points, locations, values) weighted means with D and, point by point, w held."""
    squared = jnp.sum(near**2, 1)[:, None] + jnp.sum(far**2, 1) - 2 * near @ far.T
    squared = jnp.maximum(squared, 1e-12)
    distance = jnp.sqrt(squared)

    def one(point: tuple[Array, Array]) -> Array:
        w = jax.nn.softmax(-point[0] * squared - point[1] * distance, axis=1)
        return (w.T @ values) / w.sum(axis=0)[:, None]

    return jax.lax.map(functools.partial(one), (weights.alpha, weights.beta))
