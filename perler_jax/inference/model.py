"""The same model declared in NumPyro: cells from a mixture over tissue locations, with priors as arguments.

    a, b, sigma, pi ~ priors;   origin_n ~ pi;   x_n ~ N(a r_origin + b, diag sigma^2)   (Eqs. 2-3, 8)

Origins are summed out by the streamed kernel, so that nothing of cells x locations is ever held. The sites
are ``sensitivity``, ``background``, ``noise``, ``location_weights`` (where pi is learned) and ``cells`` in
the plate ``cell``; a simulation also has ``origin``.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from perler_jax.errors import PerlerInputError
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, SitePrior, site_priors
from perler_jax.mixture import (
    MappingParams,
    SufficientStatistics,
    log_density,
    map_locations,
    posterior_moments,
    score,
)
from perler_jax.streaming import Tiles

__all__ = ["MappedCells", "cell_log_density", "mapping_model", "params_from_sites", "sites_from_params"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def cell_log_density(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    tiles: Tiles | None = None,
) -> Float[Array, " cells"]:
    """Ln p(x_n) like `mixture.log_density`, with the gradient gathered in the same pass.

    The posterior means of r and r^2 of every cell are all that the gradient of a, b and sigma needs, for any
    weighting of the cells. A gradient in pi or the reference, where it is asked for, takes a second pass.
    """
    return log_density(params, cells, reference, tiles)


def _forward(
    params: MappingParams, cells: Array, reference: Array, tiles: Tiles | None
) -> tuple[Array, tuple[MappingParams, Array, Array, Array]]:
    powers = jnp.concatenate([reference, reference**2], axis=1)
    moments = posterior_moments(params, cells, reference, location_values=powers, tiles=tiles)
    assert moments.of_cells is not None
    return moments.log_normaliser, (params, cells, reference, moments.of_cells)


def _backward(
    tiles: Tiles | None, saved: tuple[MappingParams, Array, Array, Array], cotangent: Array
) -> tuple[MappingParams, Array, Array]:
    params, cells, reference, expected = saved
    mean, squared = jnp.split(expected, 2, axis=1)
    statistics = SufficientStatistics(
        mass=cotangent.sum(),
        cells=cotangent @ cells,
        cells_squared=cotangent @ cells**2,
        locations=cotangent @ mean,
        locations_squared=cotangent @ squared,
        cross=cotangent @ (cells * mean),
        location_mass=jnp.zeros(len(reference), cells.dtype),
        log_likelihood=jnp.zeros((), cells.dtype),
    )
    # XLA drops this pass, and jit is where gradients are taken, unless pi or the reference are asked for.
    _, pullback = jax.vjp(lambda p, r: log_density(p, cells, r, tiles), params, reference)
    of_params, of_reference = pullback(cotangent)
    direct = score(params, statistics)
    toward = -cotangent[:, None] * params.noise**-2 * (cells - map_locations(params, mean))
    gradient = MappingParams(
        direct.sensitivity, direct.background, direct.noise, of_params.log_location_weights
    )
    return gradient, toward, of_reference


cell_log_density.defvjp(_forward, _backward)


class MappedCells(dist.Distribution):
    """Distribution of one cell's metagenes, its origin summed out (Eq. 8).

    Args:
        params: mapping, with (metagenes,) leaves; None as ln pi is uniform.
        reference: r, metagenes of the locations.
        tiles: tile sizes; None chooses them.
    """

    support = constraints.real_vector
    pytree_data_fields = ("params", "reference")
    pytree_aux_fields = ("tiles",)

    def __init__(
        self,
        params: MappingParams,
        reference: Float[Array, "locations metagenes"],
        *,
        tiles: Tiles | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.params, self.reference, self.tiles = params, reference, tiles
        super().__init__(event_shape=(reference.shape[-1],), validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Ln p(x): (..., metagenes) -> (...), streamed."""
        cells = value.reshape(-1, value.shape[-1])
        return cell_log_density(self.params, cells, self.reference, self.tiles).reshape(value.shape[:-1])

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw origins, then cells: (..., metagenes)."""
        return self.sample_with_origin(key, sample_shape)[0]

    def sample_with_origin(
        self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Cells (..., metagenes) and the location index that each came from (...)."""
        assert key is not None
        of_origin, of_noise = jax.random.split(key)
        origin = jax.random.categorical(
            of_origin, _logits(self.params, len(self.reference)), shape=sample_shape
        )
        noise = jax.random.normal(of_noise, (*sample_shape, *self.event_shape), self.reference.dtype)
        mapped = map_locations(self.params, self.reference[origin.reshape(-1)]).reshape(noise.shape)
        return mapped + self.params.noise * noise, origin


def _logits(params: MappingParams, n_locations: int) -> Array:
    if params.log_location_weights is None:
        return jnp.zeros(n_locations, params.noise.dtype)
    return params.log_location_weights


def params_from_sites(
    sites: dict[str, Any], log_location_weights: Float[Array, " locations"] | None = None
) -> MappingParams:
    """The mapping in a dict of site values; ``log_location_weights`` is the fixed pi where it is no site."""
    weights = sites.get("location_weights")
    if weights is not None:
        log_location_weights = jnp.log(weights)
    return MappingParams(sites["sensitivity"], sites["background"], sites["noise"], log_location_weights)


def sites_from_params(params: MappingParams, *, location_weights: bool = False) -> dict[str, Array]:
    """The reverse: site values of a mapping, with pi where it is a site."""
    sites = {name: jnp.asarray(getattr(params, name)) for name in ("sensitivity", "background", "noise")}
    if location_weights:
        assert params.log_location_weights is not None
        sites["location_weights"] = jax.nn.softmax(params.log_location_weights)
    return sites


def mapping_model(
    cells: Float[Array, "cells metagenes"] | None,
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    log_location_weights: Float[Array, " locations"] | None = None,
    *,
    n_cells: int | None = None,
    subsample_size: int | None = None,
    tiles: Tiles | None = None,
) -> MappingParams:
    """The NumPyro model.

    Args:
        cells: x, metagenes of the cells; None simulates them, with their ``origin``.
        reference: r, metagenes of the locations.
        priors: of the four parameters; flat where not given (a flat prior cannot be simulated from).
        log_location_weights: fixed ln pi; None is uniform. Not used where ``priors`` learn pi.
        n_cells: how many cells to simulate.
        subsample_size: cells per minibatch; None is all of them.
        tiles: tile sizes of the kernel; None chooses them.

    Returns:
        The mapping, so that a model of one's own can go on from it.
    """
    if cells is None and n_cells is None:
        raise PerlerInputError("expected cells, or how many to simulate; found neither: give n_cells")
    of_site = site_priors(priors, reference.shape[1], len(reference), reference.dtype)
    sites = {name: _site(name, getattr(of_site, name)) for name in ("sensitivity", "background", "noise")}
    if of_site.location_weights is not None:
        sites["location_weights"] = _site("location_weights", of_site.location_weights)
    params = params_from_sites(sites, log_location_weights)
    size = n_cells if cells is None else len(cells)
    assert size is not None
    with numpyro.plate("cell", size, subsample_size=subsample_size):
        if cells is None:
            logits = _logits(params, len(reference))
            origin = numpyro.sample("origin", dist.Categorical(logits=logits))
            mapped = map_locations(params, reference[origin])
            numpyro.sample("cells", dist.Normal(mapped, params.noise).to_event(1))
        else:
            batch = numpyro.subsample(cells, event_dim=1)
            numpyro.sample("cells", MappedCells(params, reference, tiles=tiles), obs=batch)
    return params


def _site(name: str, prior: SitePrior) -> Array:
    if isinstance(prior, dist.Distribution):
        return numpyro.sample(name, prior)
    return numpyro.deterministic(name, prior())
