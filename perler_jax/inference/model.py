"""The same model declared in NumPyro: cells from a mixture over tissue locations, with priors as arguments.

    a, b, sigma, pi ~ priors;   origin_n ~ pi;   x_n ~ N(a r_origin + b, diag sigma^2)   (Eqs. 2-3, 8)

Origins are summed out by the streamed kernel, so that nothing of cells x locations is ever held. The sites
are ``sensitivity``, ``background``, ``noise``, ``location_weights`` (where pi is learned), ``foreign_share``
(where there are foreign cells) and ``cells`` in the plate ``cell``; a simulation also has ``origin``, which
is the number of locations for a cell from elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from perler_jax.density import log_density
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, SitePrior, site_priors
from perler_jax.mixture import MappingParams, log_weights, map_locations
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.streaming import Tiles

__all__ = [
    "CellsFrom",
    "MappedCells",
    "mapping_model",
    "model_around",
    "params_from_sites",
    "sites_from_params",
]


class MappedCells(dist.Distribution):
    """Distribution of one cell's metagenes, its origin summed out (Eq. 8).

    Args:
        params: mapping, with (metagenes,) leaves; None as ln pi is uniform.
        reference: r, metagenes of the locations.
        evidence: what else is known of each of the cells that `log_prob` is asked about, in their order; the
            density is then that of the cell and of this knowledge. Nothing that a draw depends on.
        tiles: tile sizes; None chooses them.
    """

    support = constraints.real_vector
    pytree_data_fields = ("params", "reference", "evidence")
    pytree_aux_fields = ("tiles",)

    def __init__(
        self,
        params: MappingParams,
        reference: Float[Array, "locations metagenes"],
        *,
        evidence: CellEvidence | None = None,
        tiles: Tiles | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.params, self.reference, self.evidence, self.tiles = params, reference, evidence, tiles
        super().__init__(event_shape=(reference.shape[-1],), validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Ln p(x): (..., metagenes) -> (...), streamed."""
        cells = value.reshape(-1, value.shape[-1])
        found = log_density(self.params, cells, self.reference, self.evidence, self.tiles)
        return found.reshape(value.shape[:-1])

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw origins, then cells: (..., metagenes).

        Args:
            key: of JAX.
            sample_shape: how many cells, as a shape.

        Returns:
            x, metagenes of the cells.
        """
        return self.sample_with_origin(key, sample_shape)[0]

    def sample_with_origin(
        self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Cells (..., metagenes) and the location index that each came from (...).

        Args:
            key: of JAX.
            sample_shape: how many cells, as a shape.

        Returns:
            x, metagenes of the cells, and their locations.
        """
        assert key is not None
        of_origin, of_cells = jax.random.split(key)
        origin = jax.random.categorical(
            of_origin, _logits(self.params, len(self.reference)), shape=sample_shape
        )
        return CellsFrom(self.params, self.reference, origin).sample(of_cells), origin


class CellsFrom(dist.Distribution):
    """Distribution of the metagenes of cells whose origins are known.

    Args:
        params: mapping.
        reference: r, metagenes of the locations.
        origin: (...) indices of locations; the number of locations stands for elsewhere.
    """

    support = constraints.real_vector
    pytree_data_fields = ("params", "reference", "origin")

    def __init__(
        self,
        params: MappingParams,
        reference: Float[Array, "locations metagenes"],
        origin: Array,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.params, self.reference, self.origin = params, reference, origin
        super().__init__(origin.shape, (reference.shape[-1],), validate_args=validate_args)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Ln p(x | origin)."""
        centre, scale = self._around()
        family, n_metagenes = self.params.noise_family, value.shape[-1]
        shape, _ = family.log_shape(jnp.sum(((value - centre) / scale) ** 2, axis=-1), n_metagenes)
        return shape + family.log_constant(n_metagenes) - jnp.sum(jnp.log(scale), axis=-1)

    def sample(self, key: jax.Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw cells: (..., metagenes)."""
        assert key is not None
        of_noise, of_precision = jax.random.split(key)
        centre, scale = self._around()
        noise = jax.random.normal(of_noise, (*sample_shape, *centre.shape), centre.dtype)
        precision = self.params.noise_family.draw_precision(of_precision, noise.shape[:-1], centre.dtype)
        return centre + scale * noise / jnp.sqrt(precision)[..., None]

    def _around(self) -> tuple[Array, Array]:
        """Centre and scale of every cell."""
        mapped = map_locations(self.params, self.reference[self.origin.reshape(-1)])
        mapped = mapped.reshape(*self.origin.shape, -1)
        foreign = self.params.foreign
        if foreign is None:
            return mapped, jnp.broadcast_to(self.params.noise, mapped.shape)
        elsewhere = (self.origin == len(self.reference))[..., None]
        return jnp.where(elsewhere, foreign.mean, mapped), jnp.where(
            elsewhere, foreign.spread, self.params.noise
        )


def _logits(params: MappingParams, n_locations: int) -> Array:
    """Logits of the origin; where there are foreign cells, elsewhere comes last."""
    log_pi = jnp.broadcast_to(jnp.asarray(log_weights(params, n_locations), params.noise.dtype), n_locations)
    if params.foreign is None:
        return log_pi
    share = params.foreign.share
    return jnp.append(log_pi + jnp.log1p(-share), jnp.log(share))


def params_from_sites(
    sites: dict[str, Any],
    log_location_weights: Float[Array, " locations"] | None = None,
    *,
    foreign: ForeignCells | None = None,
    noise_family: NoiseFamily = GAUSSIAN,
) -> MappingParams:
    """The mapping in a dict of site values.

    Args:
        sites: values by name.
        log_location_weights: the fixed ln pi where it is no site.
        foreign: where foreign cells are; their share is a site.
        noise_family: how cells scatter.
    """
    weights = sites.get("location_weights")
    if weights is not None:
        log_location_weights = jnp.log(weights)
    if foreign is not None:
        foreign = dataclasses.replace(foreign, share=sites["foreign_share"])
    return MappingParams(
        sites["sensitivity"], sites["background"], sites["noise"], log_location_weights, foreign, noise_family
    )


def sites_from_params(params: MappingParams, *, location_weights: bool = False) -> dict[str, Array]:
    """The reverse: site values of a mapping, with pi where it is a site."""
    sites = {name: jnp.asarray(getattr(params, name)) for name in ("sensitivity", "background", "noise")}
    if location_weights:
        assert params.log_location_weights is not None
        sites["location_weights"] = jax.nn.softmax(params.log_location_weights)
    if params.foreign is not None:
        sites["foreign_share"] = jnp.asarray(params.foreign.share)
    return sites


def mapping_model(
    cells: Float[Array, "cells metagenes"] | None,
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    log_location_weights: Float[Array, " locations"] | None = None,
    *,
    foreign: ForeignCells | None = None,
    noise_family: NoiseFamily = GAUSSIAN,
    evidence: CellEvidence | None = None,
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
        foreign: where cells from elsewhere are; their share is a site with a flat prior. None: none are.
        noise_family: how cells scatter.
        evidence: what else is known of each cell.
        n_cells: how many cells to simulate.
        subsample_size: cells per minibatch; None is all of them.
        tiles: tile sizes of the kernel; None chooses them.

    Returns:
        The mapping, so that a model of one's own can go on from it.

    Raises:
        PerlerInputError: neither cells nor how many to simulate.
    """
    if cells is None and n_cells is None:
        raise PerlerInputError("expected cells, or how many to simulate; found neither: give n_cells")
    of_site = site_priors(priors, reference.shape[1], len(reference), reference.dtype)
    sites = {name: _site(name, getattr(of_site, name)) for name in ("sensitivity", "background", "noise")}
    if of_site.location_weights is not None:
        sites["location_weights"] = _site("location_weights", of_site.location_weights)
    if foreign is not None:
        sites["foreign_share"] = numpyro.sample("foreign_share", dist.Uniform(0.0, 1.0))
    params = params_from_sites(sites, log_location_weights, foreign=foreign, noise_family=noise_family)
    size = n_cells if cells is None else len(cells)
    assert size is not None
    with numpyro.plate("cell", size, subsample_size=subsample_size):
        if cells is None:
            origin = numpyro.sample("origin", dist.Categorical(logits=_logits(params, len(reference))))
            numpyro.sample("cells", CellsFrom(params, reference, origin))
        else:
            batch = numpyro.subsample(cells, event_dim=1)
            if evidence is not None:
                of_batch = numpyro.subsample(jnp.asarray(evidence.of_cells, batch.dtype), event_dim=1)
                evidence = CellEvidence(of_batch, jnp.asarray(evidence.of_locations, batch.dtype))
            mapped = MappedCells(params, reference, evidence=evidence, tiles=tiles)
            numpyro.sample("cells", mapped, obs=batch)
    return params


def model_around(
    start: MappingParams,
    evidence: CellEvidence | None,
    *,
    subsample_size: int | None = None,
    tiles: Tiles | None = None,
) -> functools.partial[MappingParams]:
    """`mapping_model` with the noise family and foreign cells of a mapping, as fits run it."""
    return functools.partial(
        mapping_model,
        foreign=start.foreign,
        noise_family=start.noise_family,
        evidence=evidence,
        subsample_size=subsample_size,
        tiles=tiles,
    )


def _site(name: str, prior: SitePrior) -> Array:
    if isinstance(prior, dist.Distribution):
        return numpyro.sample(name, prior)
    return numpyro.deterministic(name, prior())
