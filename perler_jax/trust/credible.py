"""Summaries of a tile of posterior rows: credible regions, radii, entropy, samples.

No row is sorted: the threshold above which locations hold a given mass is found by bisection over the bits of
the floating-point numbers (for numbers >= 0 their order is that of the integers with the same bits), which is
exact after as many steps as a number has bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams
from perler_jax.trust.rows import Tissue, expected_distances, posterior_rows, squared_distances

__all__ = [
    "Place",
    "RowSummary",
    "count_threshold",
    "credible_masks",
    "mass_radius",
    "mass_threshold",
    "summarise_rows",
]


class Place(NamedTuple):
    """Where a cell is in space; everything is (cells, ...)."""

    mean: Array  # (cells, axes)
    medoid: Array  # (cells,) index of a location
    radius: Array  # (cells, masses)
    within: Array  # (cells, distances)


class RowSummary(NamedTuple):
    """What is kept of a tile of rows; everything is (cells, ...)."""

    top: Array  # (cells,) index of a location
    top_probability: Array  # (cells,)
    entropy: Array  # (cells,) nats
    n_locations: Array  # (cells, masses)
    regions: Array  # (cells, regions)
    samples: Array  # (cells, samples) indices of locations
    place: Place | None  # None without coordinates


def _as_integers(values: Array) -> Array:
    """The integers with the same bits: in the order of the values where those are not negative."""
    return jax.lax.bitcast_convert_type(values, jnp.int64 if values.dtype == jnp.float64 else jnp.int32)


def _bisect(accept: Callable[[Array], Array], inside: Array, outside: Array) -> Array:
    """The last integer on the way from ``inside`` to ``outside`` that is accepted; ``inside`` is."""

    def halve(_: Array | int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        inside, outside = ends
        middle = inside + (outside - inside) // 2
        accepted = accept(middle)
        return jnp.where(accepted, middle, inside), jnp.where(accepted, outside, middle)

    bits = jnp.iinfo(inside.dtype).bits
    return jax.lax.fori_loop(0, bits, halve, (inside, outside))[0]


def mass_threshold(
    rows: Float[Array, "cells locations"], mass: float | Float[Array, "*cells"]
) -> Float[Array, " cells"]:
    """The probability of the last location taken into the highest-posterior region of this mass.

    Locations are taken from the most probable one on until they hold at least ``mass``; ties are all in.
    """
    order = _as_integers(rows)
    needed = mass * rows.sum(axis=1)

    def accept(threshold: Array) -> Array:
        return jnp.where(order >= threshold[:, None], rows, 0).sum(axis=1) >= needed

    least = jnp.zeros(len(rows), order.dtype)
    found = _bisect(accept, least, order.max(axis=1) + 1)
    return jax.lax.bitcast_convert_type(found, rows.dtype)


def count_threshold(rows: Float[Array, "cells locations"], count: int) -> Float[Array, " cells"]:
    """The value of the entry number ``count`` of each row, from the largest one on; none is negative."""
    order = _as_integers(rows)

    def accept(threshold: Array) -> Array:
        return jnp.sum(order >= threshold[:, None], axis=1) >= count

    least = jnp.zeros(len(rows), order.dtype)
    found = _bisect(accept, least, order.max(axis=1) + 1)
    return jax.lax.bitcast_convert_type(found, rows.dtype)


@jax.jit
def credible_masks(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    tissue: Tissue,
    masses: Float[Array, " cells"],
) -> Bool[Array, "cells locations"]:
    """Which locations are in the highest-posterior region of each cell, for a few cells."""
    rows = posterior_rows(params, cells, reference, evidence, tissue.blur)
    return rows >= mass_threshold(rows, masses)[:, None]


def mass_radius(
    rows: Float[Array, "cells locations"],
    squared: Float[Array, "cells locations"],
    mass: float | Float[Array, ""],
) -> Float[Array, " cells"]:
    """The smallest radius within which at least ``mass`` lies, given squared distances from a centre."""
    order = _as_integers(squared)
    needed = mass * rows.sum(axis=1)

    def accept(radius: Array) -> Array:
        return jnp.where(order <= radius[:, None], rows, 0).sum(axis=1) >= needed

    found = _bisect(accept, order.max(axis=1), jnp.full(len(rows), -1, order.dtype))
    return jnp.sqrt(jax.lax.bitcast_convert_type(found, squared.dtype))


def _draw(rows: Array, key: Array, indices: Array, n_samples: int) -> Array:
    """Locations drawn from each row, by inversion; a cell's draws depend on its index alone."""
    cumulative = jnp.cumsum(rows, axis=1)

    def one(row: Array, index: Array) -> Array:
        heights = jax.random.uniform(jax.random.fold_in(key, index), (n_samples,), row.dtype)
        return jnp.searchsorted(row, heights * row[-1], side="right")

    return jax.vmap(one)(cumulative, indices)


@functools.partial(jax.jit, static_argnames=("medoid", "n_samples"))
def summarise_rows(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    tissue: Tissue,
    masses: Float[Array, " masses"],
    distances: Float[Array, " distances"],
    key: Array,
    indices: Int[Array, " cells"],
    *,
    medoid: bool,
    n_samples: int,
) -> RowSummary:
    """Summaries of a tile of cells, small enough that its rows may live.

    Args:
        params: fitted mapping, tempered or not.
        cells: x of the tile.
        reference: r of all locations.
        evidence: of the tile.
        tissue: where the locations are.
        masses: of the credible regions.
        distances: within which the mass around the mode is asked.
        key: of the sampled locations.
        indices: number of each cell in the fit, which with the key fixes its samples.
        medoid: whether to search it; -1 if not.
        n_samples: per cell.
    """
    rows = posterior_rows(params, cells, reference, evidence, tissue.blur)
    top = jnp.argmax(rows, axis=1)
    thresholds = jax.lax.map(lambda mass: mass_threshold(rows, mass), masses)
    counts = jax.lax.map(lambda each: jnp.sum(rows >= each[:, None], axis=1), thresholds)
    place = None
    if tissue.coordinates is not None:
        z = tissue.coordinates
        squared = squared_distances(z[top], z)
        # A lattice has many neighbours at the very distance: rounding must not choose among them.
        reach = (distances * (1 + 1e-5)) ** 2
        within = jax.lax.map(lambda each: jnp.where(squared <= each, rows, 0).sum(axis=1), reach)
        middle = jnp.full(len(rows), -1)
        if medoid:
            middle = jnp.argmin(expected_distances(rows, z), axis=1)
        place = Place(
            mean=jnp.matmul(rows, z, precision="highest"),
            medoid=middle,
            radius=jax.lax.map(lambda mass: mass_radius(rows, squared, mass), masses).T,
            within=within.T,
        )
    return RowSummary(
        top=top,
        top_probability=rows.max(axis=1),
        entropy=-jax.scipy.special.xlogy(rows, rows).sum(axis=1),
        n_locations=counts.T,
        regions=jnp.matmul(rows, tissue.regions.T, precision="highest"),
        samples=_draw(rows, key, indices, n_samples),
        place=place,
    )
