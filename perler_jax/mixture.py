"""The equations of the model: cells as a Gaussian mixture with one component per tissue location.

A cell's metagenes x are those of its location r, mapped:  x = a r + b + sigma xi  (Eqs. 2-3), so over
unknown origins  p(x) = sum_k pi_k N(x | a r_k + b, diag sigma^2)  (Eqs. 8-9). `expected_statistics` is the
E step; the gradient of `log_density` is made of the same statistics (Fisher's identity), so that EM, MAP,
variational and sampling fits all stand on one streamed pass.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.streaming import Moments, Tiles, softmax_moments

__all__ = [
    "MappingParams",
    "SufficientStatistics",
    "expected_statistics",
    "log_density",
    "map_locations",
    "posterior_moments",
    "responsibilities",
    "score",
    "standardise",
]


@pytree
class MappingParams:
    """Parameters of the generative linear mapping.

    Attributes:
        sensitivity: (metagenes,) a, scale of a metagene in cells relative to the reference.
        background: (metagenes,) b, metagene level in cells where the reference has zero.
        noise: (metagenes,) sigma > 0, standard deviation around the mapped reference.
        log_location_weights: (locations,) log pi, normalised or not; None is uniform.

    The fits of several folds are stacked along a leading axis.
    """

    sensitivity: Float[Array, "*folds metagenes"]
    background: Float[Array, "*folds metagenes"]
    noise: Float[Array, "*folds metagenes"]
    log_location_weights: Float[Array, "*folds locations"] | None = None

    def __repr__(self) -> str:
        if not hasattr(self.noise, "shape"):
            return "MappingParams(...)"
        weights = "uniform" if self.log_location_weights is None else "given"
        return f"MappingParams({self.noise.shape[-1]} metagenes, {weights} location weights)"


@pytree
class SufficientStatistics:
    """All that the M step and the gradient need of gamma (Eqs. 16-19), per metagene unless said.

    Attributes:
        mass: scalar N, total weight of the cells.
        cells: phi = sum_n x_n.
        cells_squared: sum_n x_n^2.
        locations: chi = sum_nk gamma_nk r_k.
        locations_squared: omega = sum_nk gamma_nk r_k^2.
        cross: psi = sum_nk gamma_nk x_n r_k.
        location_mass: (locations,) G_k = sum_n gamma_nk.
        log_likelihood: scalar, sum over cells of ln p(x_n) (Eq. 10).
    """

    mass: Float[Array, ""]
    cells: Float[Array, " metagenes"]
    cells_squared: Float[Array, " metagenes"]
    locations: Float[Array, " metagenes"]
    locations_squared: Float[Array, " metagenes"]
    cross: Float[Array, " metagenes"]
    location_mass: Float[Array, " locations"]
    log_likelihood: Float[Array, ""]


def map_locations(
    params: MappingParams, reference: Float[Array, "locations metagenes"]
) -> Float[Array, "locations metagenes"]:
    """mu_k = a r_k + b: the reference carried into the space of cells (Eq. 20)."""
    return params.sensitivity * reference + params.background


def standardise(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
) -> tuple[Float[Array, "cells metagenes"], Float[Array, "locations metagenes"]]:
    """Both sides in units of the noise, where the distance of Eq. 23 is Euclidean."""
    return (cells - params.background) / params.noise, reference * (params.sensitivity / params.noise)


def log_weights(params: MappingParams, n_locations: int) -> Float[Array, " locations"] | float:
    """Normalised ln pi; a scalar where it is uniform."""
    if params.log_location_weights is None:
        return -math.log(n_locations)
    return jax.nn.log_softmax(params.log_location_weights)


def _log_joint(cell: Array, location: tuple[Array, Array]) -> Array:
    """Ln pi_k - D_nk^2 / 2 + |z_n|^2 / 2 for a tile, in one matrix product."""
    mapped, offset = location
    # On accelerators the default matmul precision (TF32, bfloat16) would cost three digits of D^2.
    return jnp.matmul(cell, mapped.T, precision="highest") + offset


def posterior_moments(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    *,
    location_values: Float[Array, "locations v"] | None = None,
    cell_values: Float[Array, "cells u"] | None = None,
    tiles: Tiles | None = None,
) -> Moments:
    """Ln p(x_n) (cells,), sum_k gamma_nk v_k (cells, v) and sum_n gamma_nk u_n (u, locations), streamed.

    With coordinates as ``location_values`` the second is the expected position of every cell.
    """
    standard, mapped = standardise(params, cells, reference)
    offset = log_weights(params, len(reference)) - 0.5 * jnp.sum(mapped**2, axis=1)
    moments = softmax_moments(
        _log_joint,
        lambda joint, _: (joint, None),
        jnp.zeros(1, cells.dtype),
        standard,
        (mapped, offset),
        location_values=location_values,
        cell_values=cell_values,
        tiles=tiles,
    )
    constant = jnp.sum(jnp.log(params.noise)) + 0.5 * math.log(2 * math.pi) * cells.shape[1]
    log_p = moments.log_normaliser[0] - 0.5 * jnp.sum(standard**2, axis=1) - constant
    of_cells, of_locations = (None if each is None else each[0] for each in moments[1:])
    return Moments(log_p, of_cells, of_locations)


@functools.partial(jax.jit, static_argnames="tiles")
def expected_statistics(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    cell_weights: Float[Array, " cells"] | None = None,
    *,
    tiles: Tiles | None = None,
) -> SufficientStatistics:
    """E step: one streamed pass over cells x locations (Eqs. 10-11, 16-19).

    Args:
        params: current parameters.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        cell_weights: how often each cell counts; None counts each once. May be negative in gradients.
        tiles: tile sizes; None chooses them.

    Note: Eqs. 17-19 of the paper print r_n where r_k is meant.
    """
    weights = jnp.ones(cells.shape[0], cells.dtype) if cell_weights is None else cell_weights
    moments = posterior_moments(
        params,
        cells,
        reference,
        location_values=reference,
        cell_values=weights[:, None],
        tiles=tiles,
    )
    assert moments.of_locations is not None
    assert moments.of_cells is not None
    location_mass = moments.of_locations[0]
    return SufficientStatistics(
        mass=weights.sum(),
        cells=weights @ cells,
        cells_squared=weights @ cells**2,
        locations=location_mass @ reference,
        locations_squared=location_mass @ reference**2,
        cross=jnp.sum(weights[:, None] * cells * moments.of_cells, axis=0),
        location_mass=location_mass,
        log_likelihood=weights @ moments.log_normaliser,
    )


def score(params: MappingParams, statistics: SufficientStatistics) -> MappingParams:
    """Gradient of the log-likelihood from the statistics at the same parameters (Fisher's identity)."""
    a, b, sigma = params.sensitivity, params.background, params.noise
    s = statistics
    residual = s.cross - a * s.locations_squared - b * s.locations
    squared = (
        s.cells_squared
        + a**2 * s.locations_squared
        + s.mass * b**2
        - 2 * (a * s.cross + b * s.cells - a * b * s.locations)
    )
    toward = None
    if params.log_location_weights is not None:
        toward = s.location_mass - s.mass * jax.nn.softmax(params.log_location_weights)
    return MappingParams(
        sensitivity=residual / sigma**2,
        background=(s.cells - a * s.locations - s.mass * b) / sigma**2,
        noise=squared / sigma**3 - s.mass / sigma,
        log_location_weights=toward,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def log_density(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    tiles: Tiles | None = None,
) -> Float[Array, " cells"]:
    """Ln p(x_n) of every cell (Eq. 8), streamed; gradients in all three arguments are streamed too."""
    return posterior_moments(params, cells, reference, tiles=tiles).log_normaliser


def _log_density_forward(
    params: MappingParams, cells: Array, reference: Array, tiles: Tiles | None
) -> tuple[Array, tuple[MappingParams, Array, Array]]:
    return log_density(params, cells, reference, tiles), (params, cells, reference)


def _log_density_backward(
    tiles: Tiles | None, saved: tuple[MappingParams, Array, Array], cotangent: Array
) -> tuple[MappingParams, Array, Array]:
    """One pass whose cells are weighted by the cotangent; XLA drops the parts that nobody asks for."""
    params, cells, reference = saved
    weighted = cotangent[:, None]
    moments = posterior_moments(
        params,
        cells,
        reference,
        location_values=reference,
        cell_values=jnp.concatenate([weighted, weighted * cells], axis=1),
        tiles=tiles,
    )
    assert moments.of_locations is not None
    assert moments.of_cells is not None
    expected, mass = moments.of_cells, moments.of_locations[0]
    statistics = SufficientStatistics(
        mass=cotangent.sum(),
        cells=cotangent @ cells,
        cells_squared=cotangent @ cells**2,
        locations=mass @ reference,
        locations_squared=mass @ reference**2,
        cross=jnp.sum(weighted * cells * expected, axis=0),
        location_mass=mass,
        log_likelihood=cotangent @ moments.log_normaliser,
    )
    precision = params.noise**-2
    toward = moments.of_locations[1:].T - mass[:, None] * map_locations(params, reference)
    return (
        score(params, statistics),
        -weighted * precision * (cells - map_locations(params, expected)),
        params.sensitivity * precision * toward,
    )


log_density.defvjp(_log_density_forward, _log_density_backward)


@jax.jit
def responsibilities(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
) -> Float[Array, "cells locations"]:
    """gamma_nk, the posterior that cell n came from location k (Eq. 11): DENSE, for chosen cells only."""
    standard, mapped = standardise(params, cells, reference)
    offset = log_weights(params, len(reference)) - 0.5 * jnp.sum(mapped**2, axis=1)
    return jax.nn.softmax(_log_joint(standard, (mapped, offset)), axis=1)
