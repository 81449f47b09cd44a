"""Rows of the posterior, a tile of cells at a time: what needs a cell's whole distribution over locations.

Means and normalisers stream over both axes (`streaming.py`); a credible region does not, as it asks which
locations are the most probable of all. Here the full rows of a few cells live while they are summarised
(`credible.py`). What needs the distances of all pairs of locations takes them block by block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perler_jax._typing import pytree
from perler_jax.density import responsibilities
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams, log_weights

__all__ = [
    "Blur",
    "Tissue",
    "credible_levels",
    "expected_distances",
    "make_blur",
    "posterior_rows",
    "squared_distances",
]

# Locations x locations numbers that are held at once: as many as of a tile of cells x locations.
BLOCK_ELEMENTS = 1_400_000


@pytree
class Blur:
    """How a cell's place is spread around the location that it looks like.

    Attributes:
        coordinates: (locations, axes), both sides of the midline apart.
        spread: scalar, standard deviation in the unit of the coordinates.
        normaliser: (locations,) sum over places k' of pi_k' exp(-|z_k - z_k'|^2 / (2 spread^2)).
    """

    coordinates: Float[Array, "locations axes"]
    spread: Float[Array, ""]
    normaliser: Float[Array, " locations"]


@pytree
class Tissue:
    """Where the locations are.

    Attributes:
        coordinates: (locations, axes), on the folded side if there is a midline; None where nobody knows.
        regions: (regions, locations) 0 or 1.
        blur: None for places that are exactly the locations.
    """

    coordinates: Float[Array, "locations axes"] | None
    regions: Float[Array, "regions locations"]
    blur: Blur | None = None


def squared_distances(one: Array, other: Array) -> Array:
    """Squared distances of all pairs, axis by axis: exactly zero between a place and itself."""
    axes = zip(one.T, other.T, strict=True)
    return functools.reduce(jnp.add, [(a[:, None] - b[None, :]) ** 2 for a, b in axes])


def _over_blocks(function: Callable[[Array], Array], coordinates: Array) -> Array:
    """(rows, locations) from `function`(squared distances to a block of locations) -> (rows, block)."""
    n = len(coordinates)
    size = max(1, min(n, BLOCK_ELEMENTS // n))
    count = -(-n // size)
    blocks = jnp.pad(coordinates, [(0, count * size - n), (0, 0)]).reshape(count, size, -1)
    found = jax.lax.map(lambda block: function(squared_distances(coordinates, block)), blocks)
    return jnp.moveaxis(found, 0, 1).reshape(found.shape[1], -1)[:, :n]


def expected_distances(
    rows: Float[Array, "cells locations"], coordinates: Float[Array, "locations axes"]
) -> Float[Array, "cells locations"]:
    """Expected distance of each cell's origin to each location; the work grows with locations squared."""
    product = functools.partial(jnp.matmul, precision="highest")
    return _over_blocks(lambda squared: product(rows, jnp.sqrt(squared)), coordinates)


@jax.jit
def make_blur(
    params: MappingParams, coordinates: Float[Array, "locations axes"], spread: Float[Array, ""]
) -> Blur:
    """A spread with its normaliser."""
    prior = _prior(params, len(coordinates), coordinates.dtype)[None, :]
    sums = _over_blocks(lambda squared: prior @ _gaussian(squared, spread), coordinates)
    return Blur(coordinates, spread, sums[0])


def posterior_rows(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    blur: Blur | None,
) -> Float[Array, "cells locations"]:
    """Full rows of the posterior of a few cells, each spread over the surroundings of its locations.

    With a spread s, a cell that looks like location k is at place k' with probability proportional to
    pi_k' exp(-|z_k - z_k'|^2 / (2 s^2)): neighbours in tissue are alike, or, where every location of the map
    is a single cell, stand for each other. The work of it grows with locations squared.
    """
    rows = responsibilities(params, cells, reference, evidence)
    if blur is None:
        return rows
    # A location without any possible place near it has no probability to spread either.
    scaled = jnp.where(blur.normaliser > 0, rows / blur.normaliser, 0)
    spread = _over_blocks(
        lambda squared: jnp.matmul(scaled, _gaussian(squared, blur.spread), precision="highest"),
        blur.coordinates,
    )
    return spread * _prior(params, len(reference), rows.dtype)


def _gaussian(squared: Array, spread: Array) -> Array:
    return jnp.exp(-0.5 * squared / spread**2)


def _prior(params: MappingParams, n_locations: int, dtype: jnp.dtype) -> Array:
    return jnp.broadcast_to(jnp.exp(jnp.asarray(log_weights(params, n_locations), dtype)), n_locations)


@jax.jit
def credible_levels(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    tissue: Tissue,
    locations: Int[Array, " cells"],
) -> tuple[Float[Array, " cells"], Float[Array, " cells"]]:
    """How much probability is more probable than one location per cell, and that location's own.

    A location lies in the highest-posterior region of mass q exactly if the first is below q.
    """
    rows = posterior_rows(params, cells, reference, evidence, tissue.blur)
    own = jnp.take_along_axis(rows, locations[:, None], axis=1)
    return jnp.where(rows > own, rows, 0).sum(axis=1), own[:, 0]
