"""The mode of the posterior under conjugate priors, by EM with pseudo-statistics.

The mode is that of the density in a, b, sigma (and pi) themselves: with flat priors it is the maximum of the
likelihood.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perler_jax.em import foreign_share_step
from perler_jax.em_loop import EMResult, run_em
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.model import sites_from_params
from perler_jax.inference.posterior import start_mapping
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, log_prior, site_priors
from perler_jax.mixture import MappingParams, SufficientStatistics, expected_statistics
from perler_jax.streaming import Tiles

__all__ = ["MapFit", "check_mode", "fit_map_em", "map_m_step", "run_map_em"]

_ROUNDING = 8  # units in the last place below which a sum of squares is rounding, as in `em.m_step`


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MapFit:
    """A mode of the posterior.

    Attributes:
        params: the mapping there.
        log_posteriors: (n_steps + 1,) log posterior up to a constant before each step and at the end; of the
            minibatches, scaled up, where there were any.
        n_steps: steps made.
        converged: whether the stop rule, not the number of steps, ended the run.
        sites: values of all latent sites of the model, those of the user's own priors too.
    """

    params: MappingParams
    log_posteriors: Float[np.ndarray, " history"]
    n_steps: int
    converged: bool
    sites: dict[str, Any]

    @property
    def log_posterior(self) -> float:
        """At the mode, in nats."""
        return float(self.log_posteriors[-1])

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        return f"MapFit({state} in {self.n_steps} steps, log posterior {self.log_posterior:.2f})"


@functools.partial(jax.jit, static_argnames=("max_steps", "tiles"))
def run_map_em(
    cells: Array,
    reference: Array,
    priors: ConjugatePriors,
    start: MappingParams,
    tolerance: float | Array,
    *,
    max_steps: int,
    evidence: CellEvidence | None = None,
    tiles: Tiles | None,
) -> EMResult:
    """The loop of `fit_map_em`, for use inside jit."""
    of_site = site_priors(priors, cells.shape[1], len(reference), cells.dtype)

    def e_step(params: MappingParams) -> SufficientStatistics:
        """The loop guards what stands in ``log_likelihood``: here the log posterior."""
        statistics = expected_statistics(params, cells, reference, evidence=evidence, tiles=tiles)
        log_posterior = statistics.log_likelihood + log_prior(params, of_site)
        return dataclasses.replace(statistics, log_likelihood=log_posterior)

    m_step = functools.partial(map_m_step, priors=priors)
    return run_em(start, e_step, m_step, tolerance=tolerance, max_steps=max_steps)


def fit_map_em(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    tolerance: float = 1e-8,
    max_steps: int = 500,
    tiles: Tiles | None = None,
) -> MapFit:
    """The mode under conjugate priors, by EM with pseudo-statistics.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: conjugate priors; None is flat, and then this is EM.
        start: initial parameters, which also carry a fixed pi, the noise family and foreign cells; None
            starts as EM does, with uniform pi.
        evidence: what else is known of where each cell is from.
        tolerance: gain of the log posterior relative to its size that ends the run.
        max_steps: most M steps.
        tiles: tile sizes; None chooses them.

    Returns:
        The mode with its history: log posterior in nats.

    Raises:
        PerlerInputError: on priors that are not conjugate, or have no mode.
    """
    priors = ConjugatePriors() if priors is None else priors
    if not isinstance(priors, ConjugatePriors):
        raise PerlerInputError(
            f"expected ConjugatePriors for EM, found {type(priors).__name__}: use fit_map for other priors"
        )
    check_mode(priors)
    _, start = start_mapping(cells, reference, priors, start, evidence, by_em=False)
    found = run_map_em(
        cells, reference, priors, start, tolerance, max_steps=max_steps, evidence=evidence, tiles=tiles
    )
    learned = priors.location_concentration is not None
    return MapFit(
        found.params,
        found.history,
        int(found.n_steps),
        bool(found.converged),
        sites_from_params(found.params, location_weights=learned),
    )


def check_mode(priors: MappingPriors | ConjugatePriors | None) -> None:
    """The density has a mode.

    Raises:
        PerlerInputError: if it grows without bound towards an edge of the simplex.
    """
    if isinstance(priors, ConjugatePriors) and priors.location_concentration is not None:
        least = float(np.min(np.asarray(priors.location_concentration)))
        if least < 1:
            raise PerlerInputError(
                f"expected a concentration >= 1 of the location weights, found {least:g}: below 1 the "
                "density has no mode inside; give 1 (flat) or more, or sample by NUTS"
            )


def map_m_step(
    statistics: SufficientStatistics, params: MappingParams, priors: ConjugatePriors
) -> MappingParams:
    """M step under conjugate priors: Eqs. 12-15 with pseudo-statistics.

    A normal prior on a with sd s counts as sigma^2 / s^2 added to omega, on b the same added to N; both at
    the present sigma, which is then given its own maximum (the log posterior climbs at every step).

    Args:
        statistics: from `expected_statistics`.
        params: present parameters; kept where neither data nor prior say anything.
        priors: conjugate priors.
    """
    s, variance = statistics, params.noise**2
    a_mean, a_weight = _pseudo(priors.sensitivity, variance)
    b_mean, b_weight = _pseudo(priors.background, variance)
    mass, phi = s.mass + b_weight, s.cells + b_weight * b_mean
    omega, psi = s.locations_squared + a_weight, s.cross + a_weight * a_mean
    determinant = mass * omega - s.locations**2
    rounding = _ROUNDING * jnp.finfo(s.cross.dtype).eps
    varies = s.cells_squared - s.cells**2 / s.mass > rounding * s.cells_squared
    informative = (determinant > rounding * mass * omega) & varies
    safe = jnp.where(informative, determinant, 1.0)
    a = jnp.where(informative, (mass * psi - s.locations * phi) / safe, params.sensitivity)
    b = jnp.where(informative, (omega * phi - psi * s.locations) / safe, params.background)
    squared = jnp.maximum(s.residual_squared(a, b), rounding * s.cells_squared)
    count = s.count
    if priors.noise_variance is not None:
        # The mode of sigma, not of sigma^2: the density of sigma has one power more.
        shape, scale = priors.noise_variance
        squared, count = squared + 2 * jnp.asarray(scale), count + 2 * jnp.asarray(shape) + 1
    # The root has no slope at zero, where a metagene that is constant lies.
    root = jnp.sqrt(jnp.where(informative, squared, 1.0) / count)
    noise = jnp.where(informative, root, params.noise)
    log_weights = params.log_location_weights
    if priors.location_concentration is not None:
        # The surplus first: a location that holds 1e-19 cells keeps them beside a flat prior.
        mass_of = s.location_mass + (jnp.asarray(priors.location_concentration) - 1)
        log_weights = jnp.log(mass_of / mass_of.sum())
    return dataclasses.replace(
        params,
        sensitivity=a,
        background=b,
        noise=noise,
        log_location_weights=log_weights,
        foreign=foreign_share_step(params.foreign, s),
    )


def _pseudo(pair: Any, variance: Array) -> tuple[Array | float, Array | float]:
    """Mean and worth in cells of a normal prior, at a given sigma^2."""
    if pair is None:
        return 0.0, 0.0
    mean, sd = (jnp.asarray(each, variance.dtype) for each in pair)
    return mean, variance / sd**2
