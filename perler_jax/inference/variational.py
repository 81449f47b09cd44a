"""Variational fits of the NumPyro model, over minibatches of cells.

The guides are NumPyro's own, in coordinates whose unit is the standard error that a parameter would have if
the cells' origins were known: they begin at about the right width. The full-rank guide begins at the Laplace
covariance: the thousands of correlations of many metagenes are slow to learn from noisy gradients.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import (
    AutoGuide,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from numpyro.optim import optax_to_numpyro

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.coordinates import SITE, Coordinates, in_coordinates, make_coordinates, values_at
from perler_jax.inference.model import model_around, sites_from_params
from perler_jax.inference.posterior import MappingDraws, natural_widths, start_mapping, summarise_draws
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.inference.whitening import approximate, whiten
from perler_jax.mixture import MappingParams
from perler_jax.noise import ForeignCells
from perler_jax.streaming import Tiles

Guide = Literal["normal", "multivariate_normal", "low_rank"]

__all__ = ["Guide", "VariationalFit", "draws_at", "fit_svi"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VariationalFit:
    """A variational approximation of the posterior.

    Attributes:
        params: posterior means.
        standard_errors: posterior standard deviations of a, b and sigma.
        draws: draws from the guide, one chain.
        losses: (n_steps,) negative evidence lower bound, noisy.
        sites: draws of all latent sites, (draws, ...) each.
    """

    params: MappingParams
    standard_errors: MappingParams
    draws: MappingDraws
    losses: Float[np.ndarray, " steps"]
    sites: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"VariationalFit({len(self.losses)} steps, ELBO {-self.losses[-100:].mean():.1f}, {self.draws})"
        )


def fit_svi(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    guide: str = "multivariate_normal",
    rank: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 0.005,
    n_steps: int = 2000,
    n_draws: int = 1000,
    n_particles: int = 1,
    seed: int = 0,
    tiles: Tiles | None = None,
    progress: bool = True,
) -> VariationalFit:
    """Fit a variational approximation.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: any priors; None is flat.
        start: where the guide begins, which also carries a fixed pi,
            the noise family and foreign cells; None is the fit by EM.
        evidence: what else is known of where each cell is from.
        guide: "normal" (independent parameters), "low_rank", or "multivariate_normal" (full rank).
        rank: of "low_rank"; None is the square root of the number of parameters.
        batch_size: cells per step; None is all.
        learning_rate: of Adam, in standard errors; it falls to a hundredth as a cosine. A large one leaves
            noise in the guide, and with full rank standard errors that are too small.
        n_steps: steps.
        n_draws: draws from the fitted guide.
        n_particles: draws per step, for a less noisy gradient.
        seed: of minibatches and draws.
        tiles: tile sizes; None chooses them.
        progress: show a progress bar.

    Returns:
        Means, standard errors and draws of the parameters, and the loss (nats) of each step.

    Raises:
        PerlerInputError: on an unknown guide or another option that cannot be used, before any compilation.
    """
    if guide not in get_args(Guide):
        raise PerlerInputError(f"expected guide to be one of {', '.join(get_args(Guide))}; found {guide!r}")
    if rank is not None and guide != "low_rank":
        raise PerlerInputError(f"expected no rank with guide {guide!r}, found {rank}: it is of 'low_rank'")
    if batch_size is not None and not 1 <= batch_size <= len(cells):
        raise PerlerInputError(f"expected a batch_size of 1 to {len(cells)} cells, found {batch_size}")
    laplace = None
    if guide == "multivariate_normal":
        laplace = approximate(
            cells, reference, priors, start, evidence=evidence, tiles=tiles, progress=progress
        )
        start = laplace.params
    of_site, start = start_mapping(cells, reference, priors, start, evidence, by_em=True)
    of_start, of_run, of_draws = jax.random.split(jax.random.key(seed), 3)
    model = model_around(start, evidence, subsample_size=batch_size, tiles=tiles)
    arguments = (cells, reference, of_site, start.log_location_weights)
    learned = of_site.location_weights is not None
    coordinates = make_coordinates(
        model,
        sites_from_params(start, location_weights=learned),
        natural_widths(start, cells, reference),
        key=of_start,
        arguments=arguments,
    )
    if laplace is not None:
        coordinates = whiten(coordinates, laplace)
    rewritten = in_coordinates(model, coordinates)
    chosen = _make_guide(guide, coordinates, rank)
    schedule = optax.cosine_decay_schedule(learning_rate, n_steps, alpha=0.01)
    svi = SVI(rewritten, chosen, optax_to_numpyro(optax.adam(schedule)), Trace_ELBO(n_particles))
    begin = jax.jit(lambda key: svi.init(key, *arguments))(of_run)
    run = svi.run(of_run, n_steps, *arguments, progress_bar=progress, init_state=begin)
    z = chosen.sample_posterior(of_draws, run.params, sample_shape=(n_draws,))[SITE]
    draws, sites = draws_at(model, coordinates, z[None], arguments)
    mean, spread = summarise_draws(draws)
    return VariationalFit(mean, spread, draws, np.asarray(run.losses), sites)


def _make_guide(guide: str, coordinates: Coordinates, rank: int | None) -> AutoGuide:
    """NumPyro's guide of one flat site, set up on a model of that site alone: the real one is not run."""

    def flat(*_: Any) -> None:
        numpyro.sample(SITE, dist.Normal(jnp.zeros_like(coordinates.centre), 1.0).to_event(1))

    options = {"init_loc_fn": init_to_value(values={SITE: jnp.zeros_like(coordinates.centre)})}
    if guide == "low_rank":
        made = AutoLowRankMultivariateNormal(flat, init_scale=1.0, rank=rank, **options)
    else:
        kind = AutoNormal if guide == "normal" else AutoMultivariateNormal
        made = kind(flat, init_scale=1.0, **options)
    handlers.seed(made, jax.random.key(0))()
    return made


def draws_at(
    model: Any, coordinates: Coordinates, z: Float[Array, "chains draws size"], arguments: tuple
) -> tuple[MappingDraws, dict[str, Any]]:
    """Draws of the mapping, and of all latent sites (chains x draws, ...), from draws of coordinates."""
    chains, n_draws, size = z.shape

    def each(point: Array) -> Any:
        return values_at(model, coordinates, point, arguments)

    params, sites = jax.jit(lambda points: jax.lax.map(each, points))(z.reshape(-1, size))

    def by_chain(values: Array) -> Array:
        return values.reshape(chains, n_draws, *values.shape[1:])

    a, b, noise = (by_chain(each) for each in (params.sensitivity, params.background, params.noise))
    weights, foreign = arguments[3], params.foreign
    if arguments[2].location_weights is not None:
        weights = by_chain(params.log_location_weights)
    if foreign is not None:
        foreign = ForeignCells(by_chain(foreign.share), foreign.mean[0], foreign.spread[0])
    return MappingDraws(a, b, noise, weights, foreign, params.noise_family), sites
