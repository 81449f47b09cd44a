"""Draws from the exact posterior by NUTS, in coordinates whitened by the Laplace approximation.

Near its mode the posterior is close to normal. After a linear change of variables by a root of the Laplace
covariance every direction is about as wide as any other, and a trajectory takes a handful of gradients.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Array, Float
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.coordinates import log_density_at, make_coordinates
from perler_jax.inference.model import model_around, sites_from_params
from perler_jax.inference.posterior import MappingDraws, natural_widths, start_mapping, summarise_draws
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.inference.variational import draws_at
from perler_jax.inference.whitening import approximate, whiten
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles

Preconditioner = Literal["laplace", "dense", "diagonal"]

__all__ = ["NutsFit", "Preconditioner", "sample_nuts"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NutsFit:
    """Draws from the posterior.

    Attributes:
        params: posterior means.
        standard_errors: posterior standard deviations of a, b and sigma.
        draws: draws of the mapping by chain.
        effective_draws: (3 metagenes,) effective sample sizes of a, b and sigma.
        r_hat: (3 metagenes,) split R-hat of the same.
        statistics: of the sampler, (chains, draws) each: ``diverging``, ``n_steps``, ``acceptance_rate``,
            ``lp`` (log density of the coordinates).
        seconds: wall time of warm-up and draws, compilation included.
        sites: draws of all latent sites, (chains x draws, ...) each.
    """

    params: MappingParams
    standard_errors: MappingParams
    draws: MappingDraws
    effective_draws: Float[np.ndarray, " parameters"]
    r_hat: Float[np.ndarray, " parameters"]
    statistics: dict[str, np.ndarray]
    seconds: float
    sites: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"NutsFit({self.draws}, least ESS {self.effective_draws.min():.0f}, largest R-hat "
            f"{self.r_hat.max():.3f}, {int(self.statistics['diverging'].sum())} divergences)"
        )


def sample_nuts(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    n_warmup: int = 200,
    n_draws: int = 500,
    n_chains: int = 2,
    preconditioner: str = "laplace",
    target_acceptance: float = 0.8,
    max_tree_depth: int = 8,
    seed: int = 0,
    tiles: Tiles | None = None,
    progress: bool = True,
) -> NutsFit:
    """Sample the posterior; chains run one after the other.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: any priors; None is flat.
        start: where the search for the mode begins, which also carries a fixed pi,
            the noise family and foreign cells; None starts as EM does.
        evidence: what else is known of where each cell is from.
        n_warmup: draws per chain to adapt the step, thrown away.
        n_draws: draws per chain.
        n_chains: chains, each begun at a draw of the approximation twice as wide as it is.
        preconditioner: "laplace" whitens by the Laplace covariance; "dense" and "diagonal" begin with the
            standard errors known origins would give, and adapt a dense or diagonal mass matrix in warm-up.
        target_acceptance: of the step size.
        max_tree_depth: most doublings of a trajectory.
        seed: of everything random.
        tiles: tile sizes; None chooses them.
        progress: show progress bars.

    Returns:
        Draws (chains, draws, metagenes) of each parameter, their means, R-hat and effective number.

    Raises:
        PerlerInputError: on options that cannot be used, before anything is compiled.
    """
    if preconditioner not in get_args(Preconditioner):
        raise PerlerInputError(
            f"expected preconditioner to be one of {', '.join(get_args(Preconditioner))}; "
            f"found {preconditioner!r}"
        )
    for name, value, least in (("n_warmup", n_warmup, 1), ("n_draws", n_draws, 4), ("n_chains", n_chains, 1)):
        if value < least:
            raise PerlerInputError(f"expected {name} >= {least}, found {value}")
    laplace = None
    if preconditioner == "laplace":
        laplace = approximate(
            cells, reference, priors, start, evidence=evidence, tiles=tiles, progress=progress
        )
        start = laplace.params
    of_site, start = start_mapping(cells, reference, priors, start, evidence, by_em=True)
    of_start, of_chains, of_run = jax.random.split(jax.random.key(seed), 3)
    model = model_around(start, evidence, tiles=tiles)
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

    def potential(z: Array) -> Array:
        return -log_density_at(model, coordinates, z, arguments, change_of_variables=True)

    kernel = NUTS(
        potential_fn=jax.jit(potential),
        dense_mass=preconditioner == "dense",
        adapt_mass_matrix=preconditioner != "laplace",
        step_size=0.5,
        target_accept_prob=target_acceptance,
        max_tree_depth=max_tree_depth,
    )
    mcmc = MCMC(
        kernel,
        num_warmup=n_warmup,
        num_samples=n_draws,
        num_chains=n_chains,
        chain_method="sequential",
        progress_bar=progress,
    )
    begin = 2.0 * jax.random.normal(of_chains, (n_chains, coordinates.size), coordinates.centre.dtype)
    fields = ("diverging", "num_steps", "accept_prob", "potential_energy")
    clock = time.perf_counter()
    mcmc.run(of_run, extra_fields=fields, init_params=begin if n_chains > 1 else begin[0])
    z = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    seconds = time.perf_counter() - clock
    draws, sites = draws_at(model, coordinates, z, arguments)
    mean, spread = summarise_draws(draws)
    extra = {name: np.asarray(value) for name, value in mcmc.get_extra_fields(group_by_chain=True).items()}
    values = np.concatenate([draws.sensitivity, draws.background, draws.noise], axis=-1).astype(np.float64)
    return NutsFit(
        params=mean,
        standard_errors=spread,
        draws=draws,
        effective_draws=np.asarray(effective_sample_size(values)),
        r_hat=np.asarray(split_gelman_rubin(values)),
        statistics={
            "diverging": extra["diverging"],
            "n_steps": extra["num_steps"],
            "acceptance_rate": extra["accept_prob"],
            "lp": -extra["potential_energy"],
        },
        seconds=seconds,
        sites=sites,
    )
