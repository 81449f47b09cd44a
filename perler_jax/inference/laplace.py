"""Standard errors from the exact curvature of the marginal log posterior at its mode.

The gradient is made of the E step's statistics (Fisher's identity); its derivative along each parameter is
one more streamed pass (forward mode), so that the Hessian of 3 x metagenes parameters never needs more than
a few tiles.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.map_em import fit_map_em
from perler_jax.inference.map_fit import fit_map
from perler_jax.inference.posterior import MappingDraws, start_mapping
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, check_distributions, log_prior
from perler_jax.mixture import MappingParams, expected_statistics, score
from perler_jax.streaming import Tiles

__all__ = ["LaplaceFit", "fit_laplace", "log_likelihood_hessian"]

_TOGETHER = 6  # directions that share one pass: its exp is taken once, the tile is held this often
_FARTHEST = 1.0  # standard errors that one Newton step may go: beyond, the curvature is that of elsewhere


@pytree
class LaplaceFit:
    """A normal approximation of the posterior around its mode, where pi and the foreign share are held.

    Attributes:
        params: the mode.
        standard_errors: of a, b and sigma.
        covariance: (3 metagenes, 3 metagenes), of a, then b, then sigma.
    """

    params: MappingParams
    standard_errors: MappingParams
    covariance: Float[Array, "parameters parameters"]

    def __repr__(self) -> str:
        return f"LaplaceFit({np.shape(self.covariance)[-1] // 3} metagenes)"

    def covariance_of_free(self) -> Float[Array, "parameters parameters"]:
        """Covariance of a, b and ln sigma.

        Returns:
            (parameters, parameters), all of a, then of b, then of ln sigma.
        """
        ones = jnp.ones_like(self.params.noise)
        slope = jnp.concatenate([ones, ones, 1 / self.params.noise])
        return self.covariance * slope * slope[:, None]

    def draw(self, key: Array, n_draws: int) -> MappingDraws:
        """One chain of independent draws, normal in a, b and ln sigma.

        Args:
            key: of JAX.
            n_draws: how many.

        Returns:
            (1, draws, metagenes) of each parameter.
        """
        p = self.params
        covariance = self.covariance_of_free()
        width = jnp.sqrt(jnp.diagonal(covariance))
        root = width[:, None] * jnp.linalg.cholesky(covariance / (width * width[:, None]))
        centre = jnp.concatenate([p.sensitivity, p.background, jnp.log(p.noise)])
        free = centre + jax.random.normal(key, (n_draws, len(centre)), centre.dtype) @ root.T
        a, b, log_noise = jnp.split(free[None], 3, axis=-1)
        return MappingDraws(a, b, jnp.exp(log_noise), p.log_location_weights, p.foreign, p.noise_family)


def _flat(params: MappingParams) -> Array:
    return jnp.concatenate([params.sensitivity, params.background, params.noise])


def _mapping(point: Array, like: MappingParams) -> MappingParams:
    a, b, noise = jnp.split(point, 3)
    return dataclasses.replace(like, sensitivity=a, background=b, noise=noise)


@functools.partial(jax.jit, static_argnames="tiles")
def log_likelihood_hessian(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    *,
    evidence: CellEvidence | None = None,
    tiles: Tiles | None = None,
) -> tuple[Float[Array, " parameters"], Float[Array, "parameters parameters"]]:
    """Gradient and Hessian of the log-likelihood (Eq. 10) in a, b and sigma, with pi held fixed."""

    def slope(point: Array) -> Array:
        at = _mapping(point, params)
        return _flat(score(at, expected_statistics(at, cells, reference, evidence=evidence, tiles=tiles)))

    point = _flat(params)

    def along(direction: Array) -> Array:
        return jax.jvp(slope, (point,), (direction,))[1]

    rows = jax.lax.map(along, jnp.eye(len(point), dtype=point.dtype), batch_size=_TOGETHER)
    return slope(point), 0.5 * (rows + rows.T)


def fit_laplace(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    max_steps: int = 1000,
    tiles: Tiles | None = None,
    progress: bool = True,
) -> LaplaceFit:
    """Mode and standard errors of sensitivity, background and noise.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: conjugate, or distributions; None is flat.
        start: where the search for the mode begins, which also carries a fixed pi, the noise family and
            foreign cells; None starts as EM does.
        evidence: what else is known of where each cell is from.
        max_steps: most steps of that search. One Newton step follows it.
        tiles: tile sizes; None chooses them.
        progress: show a progress bar.

    Returns:
        The mode, and the covariance of its parameters.

    Raises:
        PerlerInputError: on priors that are functions; where no mode was reached.
    """
    of_site, _ = start_mapping(cells, reference, priors, start, evidence, by_em=False)
    check_distributions(of_site)
    if priors is None or isinstance(priors, ConjugatePriors):
        found = fit_map_em(
            *(cells, reference, priors, start),
            evidence=evidence,
            tolerance=1e-12,
            max_steps=max_steps,
            tiles=tiles,
        )
    else:
        found = fit_map(
            *(cells, reference, priors, start),
            evidence=evidence,
            max_steps=max_steps,
            tiles=tiles,
            progress=progress,
        )
    mode = found.params
    slope, hessian = log_likelihood_hessian(mode, cells, reference, evidence=evidence, tiles=tiles)

    def prior_at(point: Array) -> Array:
        return log_prior(_mapping(point, mode), of_site)

    point = _flat(mode)
    prior_slope, prior_hessian = jax.jit(lambda at: (jax.grad(prior_at)(at), jax.hessian(prior_at)(at)))(
        point
    )
    slope = np.asarray(slope + prior_slope, np.float64)
    covariance = _invert(-np.asarray(hessian + prior_hessian, np.float64))
    errors = np.sqrt(np.diagonal(covariance))
    newton = covariance @ slope
    away = float(np.abs(newton / errors).max())
    if away > _FARTHEST:
        raise PerlerInputError(
            f"expected to reach the mode, found it {away:.1f} standard errors away: raise max_steps"
        )
    dtype = point.dtype
    return LaplaceFit(
        params=_mapping(jnp.asarray(np.asarray(point, np.float64) + newton, dtype), mode),
        standard_errors=_mapping(jnp.asarray(errors, dtype), MappingParams(point, point, point)),
        covariance=jnp.asarray(covariance, dtype),
    )


def _invert(information: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    """Inverse of a positive definite matrix whose rows differ in scale by orders of magnitude."""
    width = np.sqrt(np.maximum(np.diagonal(information), np.finfo(np.float64).tiny))
    scaled = information / (width * width[:, None])
    try:
        root = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        raise PerlerInputError(
            "expected a maximum of the log posterior, found a curvature that is not negative definite: "
            "raise max_steps, or, where a metagene is constant, leave it out or give it a prior"
        ) from None
    inverse_root = np.linalg.solve(root, np.eye(len(root)))
    return inverse_root.T @ inverse_root / (width * width[:, None])
