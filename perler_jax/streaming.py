"""THE kernel: softmax over locations, streamed over tiles of cells and locations.

Everything that Perler computes on cells x locations is one operation. Each cell n has a logit for each
location k; gamma_nk = exp(logit_nk) / Z_n, Z_n = sum_k exp(logit_nk); and what is wanted is never gamma but

    log Z_n                        the marginal log density of a cell            (cells,)
    sum_k gamma_nk v_k             what a cell expects of the locations          (cells, V)
    sum_n gamma_nk u_n             what a location gathers from the cells        (U, locations)

so gamma lives only as one tile at a time, locations by cells: a sum over locations then adds whole vectors of
cells. Logits are cheap functions of something pairwise that is dear (a matrix product), so several parameter
points share each pairwise tile. The tile's body is rematerialised: reverse-mode derivatives of any order
stream as well. Two things may be added: a factor s_nk on gamma in the moments (heavy tails), and a logit of
being at no location (cells from elsewhere).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perler_jax.scale.spread import split_cells
from perler_jax.tile_arithmetic import column_maxima, column_sums, exp
from perler_jax.tiles import Tiles, choose_tiles

__all__ = ["Logits", "Moments", "Tiles", "choose_tiles", "softmax_moments"]

PyTree = Any


class Logits(NamedTuple):
    """A tile of logits."""

    values: jax.Array  # (tile of locations, tile of cells)
    largest: jax.Array | None = None  # (tile of cells,), where known more cheaply than by a search
    factor: jax.Array | None = None  # s_nk on gamma in the moments, not in the normaliser


class Moments(NamedTuple):
    """What `softmax_moments` returns; the leading axis is the parameter point."""

    log_normaliser: jax.Array  # (points, cells)
    of_cells: jax.Array | None  # (points, cells, V)
    of_locations: jax.Array | None  # (points, locations, U)


# Every rematerialised body sits inside a scan, where XLA cannot merge the two computations anyway.
_rematerialise = functools.partial(jax.checkpoint, prevent_cse=False)


def _split(tree: PyTree, n: int, tile: int) -> PyTree:
    """Fold the leading axis of length n into (tiles, tile), padded with zeros."""
    count = -(-n // tile)

    def fold(leaf: jax.Array) -> jax.Array:
        padding = [(0, count * tile - n)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding).reshape(count, tile, *leaf.shape[1:])

    return jax.tree.map(fold, tree)


def softmax_moments(
    pairwise: Callable[[PyTree, PyTree], PyTree],
    logits: Callable[[PyTree, PyTree], Logits],
    points: PyTree,
    cells: PyTree,
    locations: PyTree,
    *,
    location_values: jax.Array | None = None,
    cell_values: jax.Array | None = None,
    elsewhere: jax.Array | None = None,
    mix: jax.Array | None = None,
    squared: bool = False,
    tiles: Tiles | None = None,
) -> Moments:
    """Stream the moments of gamma over tiles.

    Args:
        pairwise: (tile of cells, tile of locations) -> what all points share, e.g. squared distances;
            matrices (locations, cells).
        logits: (pairwise, point) -> `Logits`.
        points: pytree whose leaves have a leading axis of parameter points.
        cells: pytree of arrays (cells, ...); given to `pairwise` tile by tile.
        locations: pytree of arrays (locations, ...).
        location_values: v (locations, V), or None to skip that moment.
        cell_values: u (cells, U), or None to skip that moment.
        elsewhere: (cells,) logit of being at none of the locations, one for all points: it takes part in the
            normaliser, so that gamma of a cell sums to less than one. None: every cell is somewhere.
        mix: (points, locations) c_pk: locations gather by the one matrix sum_p c_pk gamma^p_nk, so that the
            product with the cell values is made once, not once per point; the result has a single point.
            Nothing is then given of the cells.
        squared: with `mix`, gather by the squares of that matrix.
        tiles: tile sizes (static); None chooses them. They change no result but its rounding.

    Inside `scale.devices.use_devices` every device streams its own part of the cells.
    """

    def on_one_device(by_cell: PyTree, shared: PyTree) -> tuple[PyTree, PyTree]:
        found = _stream(pairwise, logits, by_cell, shared, squared, tiles)
        return (found.log_normaliser, found.of_cells), found.of_locations

    (log_normaliser, of_cells), of_locations = split_cells(
        on_one_device, (cells, cell_values, elsewhere), (points, locations, location_values, mix)
    )
    return Moments(log_normaliser, of_cells, of_locations)


def _stream(
    pairwise: Callable[[PyTree, PyTree], PyTree],
    logits: Callable[[PyTree, PyTree], Logits],
    by_cell: PyTree,
    shared: PyTree,
    squared: bool,
    tiles: Tiles | None,
) -> Moments:
    """`softmax_moments` of the cells of one device."""
    (cells, cell_values, elsewhere), (points, locations, location_values, mix) = by_cell, shared
    n_cells, n_locations = jax.tree.leaves(cells)[0].shape[0], jax.tree.leaves(locations)[0].shape[0]
    n_points = jax.tree.leaves(points)[0].shape[0]
    size = tiles or choose_tiles(n_cells, n_locations, 1 if cell_values is None else cell_values.shape[1])
    size = Tiles(min(size.cells, n_cells), min(size.locations, n_locations))
    cell_tiles = _split((cells, cell_values, elsewhere), n_cells, size.cells)
    valid = jnp.arange(-(-n_locations // size.locations) * size.locations) < n_locations
    by_location = (locations, location_values, None if mix is None else mix.T)
    location_tiles = _split(by_location, n_locations, size.locations)
    location_tiles = (*location_tiles, valid.reshape(-1, size.locations))
    n_gathered = n_points if mix is None else 1
    n_location_tiles = len(location_tiles[-1])
    padded = n_location_tiles * size.locations != n_locations

    def over_points(function: Callable[..., PyTree], *extra: PyTree) -> PyTree:
        if n_points == 1:
            first = jax.tree.map(lambda leaf: leaf[0], (points, extra))
            return jax.tree.map(lambda leaf: leaf[None], function(first[0], *first[1]))
        return jax.lax.map(lambda each: function(each[0], *each[1]), (points, extra))

    def point_logits(shared: PyTree, point: PyTree, mask: jax.Array) -> Logits:
        found = logits(shared, point)
        if not padded:
            return found
        return Logits(jnp.where(mask[:, None], found.values, -jnp.inf), None, found.factor)

    def shifted_sum(found: Logits, outside: Any = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Unnormalised weights, their sum and the shift that keeps them from over- and underflow."""
        shift = column_maxima(found.values) if found.largest is None else found.largest
        shift = jax.lax.stop_gradient(shift if outside is None else jnp.maximum(shift, outside))
        # A tile may hold no possible location for a cell; -inf - -inf would be nan.
        shift = jnp.where(jnp.isfinite(shift), shift, 0.0)
        weights = exp(found.values - shift)
        total = column_sums(weights)
        return weights, total if outside is None else total + exp(outside - shift), shift

    def gather(
        weights: jax.Array, factor: Any, scale: jax.Array, of_location: Any, of_cell: Any
    ) -> tuple[Any, Any]:
        """Both moments of one tile of weights, those of each cell scaled by `scale`."""
        weights = weights if factor is None else weights * factor
        by_cell = None if of_location is None else (of_location.T @ weights * scale).T
        by_location = None if of_cell is None else weights @ (of_cell * scale[:, None])
        return by_cell, by_location

    def gather_mixed(
        normalised: Callable[..., jax.Array], shares: jax.Array, of_cell: Any, *extra: PyTree
    ) -> Any:
        """What locations gather by the sum of the points' weights: one product for all points."""

        def add(running: jax.Array, item: PyTree) -> tuple[jax.Array, None]:
            share, point, more = item
            return running + share[:, None] * normalised(point, *more), None

        start = jnp.zeros((size.locations, size.cells), of_cell.dtype)
        mixed, _ = jax.lax.scan(add, start, (shares.T, points, extra))
        return ((mixed**2 if squared else mixed) @ of_cell)[None]

    @_rematerialise
    def all_locations(cell_tile: PyTree) -> tuple[Any, Any, Any]:
        """One location tile: weights are computed once."""
        cell, of_cell, outside = cell_tile
        location, of_location, shares, mask = jax.tree.map(lambda leaf: leaf[0], location_tiles)
        shared = pairwise(cell, location)

        def one(point: PyTree) -> tuple[Any, Any, Any]:
            found = point_logits(shared, point, mask)
            weights, total, shift = shifted_sum(found, outside)
            by_cell, by_location = gather(weights, found.factor, 1.0 / total, of_location, of_cell)
            return shift + jnp.log(total), by_cell, by_location

        def normalised(point: PyTree, _: Any = None) -> jax.Array:
            found = point_logits(shared, point, mask)
            weights, total, _ = shifted_sum(found, outside)
            return (weights if found.factor is None else weights * found.factor) / total

        if shares is not None:
            return (
                jnp.zeros((n_points, size.cells), of_cell.dtype),
                None,
                gather_mixed(normalised, shares, of_cell, jnp.zeros(n_points))[None],
            )
        log_normaliser, by_cell, by_location = over_points(one)
        return log_normaliser, by_cell, None if by_location is None else by_location[None]

    @_rematerialise
    def split_locations(cell_tile: PyTree) -> tuple[Any, Any, Any]:
        """Several location tiles: log Z first, then the weights again, now normalised."""
        cell, of_cell, outside = cell_tile

        @_rematerialise
        def add_normaliser(running: jax.Array, location_tile: PyTree) -> tuple[jax.Array, None]:
            shared = pairwise(cell, location_tile[0])

            def one(point: PyTree, before: jax.Array) -> jax.Array:
                _, total, shift = shifted_sum(point_logits(shared, point, location_tile[3]))
                return jnp.logaddexp(before, shift + jnp.log(total))

            return over_points(one, running), None

        @_rematerialise
        def add_moments(running: Any, location_tile: PyTree) -> tuple[Any, Any]:
            location, of_location, shares, mask = location_tile
            shared = pairwise(cell, location)

            def normalised(point: PyTree, normaliser: jax.Array) -> jax.Array:
                found = point_logits(shared, point, mask)
                weights = exp(found.values - normaliser)
                return weights if found.factor is None else weights * found.factor

            def one(point: PyTree, normaliser: jax.Array) -> tuple[Any, Any]:
                weights = normalised(point, normaliser)
                return gather(weights, None, jnp.ones_like(normaliser), of_location, of_cell)

            if shares is not None:
                return running, gather_mixed(normalised, shares, of_cell, log_normaliser)
            by_cell, by_location = over_points(one, log_normaliser)
            return (None if by_cell is None else running + by_cell), by_location

        dtype = jax.eval_shape(
            lambda: (
                logits(
                    pairwise(cell, jax.tree.map(lambda leaf: leaf[0], location_tiles[0])),
                    jax.tree.map(lambda leaf: leaf[0], points),
                ).values
            )
        ).dtype
        start = jnp.full((n_points, size.cells), -jnp.inf, dtype)
        if outside is not None:
            start = jnp.broadcast_to(outside.astype(dtype), start.shape)
        log_normaliser, _ = jax.lax.scan(add_normaliser, start, location_tiles)
        if location_values is None and cell_values is None:
            return log_normaliser, None, None
        zeros = None
        if location_values is not None:
            zeros = jnp.zeros((n_points, size.cells, location_values.shape[1]), dtype)
        by_cell, by_location = jax.lax.scan(add_moments, zeros, location_tiles)
        return log_normaliser, by_cell, by_location

    one_tile = all_locations if n_location_tiles == 1 else split_locations

    def add_tile(running: Any, cell_tile: PyTree) -> tuple[Any, tuple[Any, Any]]:
        log_normaliser, by_cell, by_location = one_tile(cell_tile)
        return (None if by_location is None else running + by_location), (log_normaliser, by_cell)

    gathered = None
    if cell_values is not None:
        shape = (n_location_tiles, n_gathered, size.locations, cell_values.shape[1])
        gathered = jnp.zeros(shape, cell_values.dtype)
    gathered, (log_normaliser, by_cell) = jax.lax.scan(add_tile, gathered, cell_tiles)

    def unfold(leaf: jax.Array) -> jax.Array:
        """(tiles, points, tile, ...) -> (points, cells, ...)."""
        leaf = jnp.moveaxis(leaf, 0, 1)
        return leaf.reshape(n_points, -1, *leaf.shape[3:])[:, :n_cells]

    if gathered is not None:  # (tiles, points, tile, U) -> (points, locations, U)
        gathered = jnp.moveaxis(gathered, 0, 1).reshape(n_gathered, -1, gathered.shape[3])[:, :n_locations]
    return Moments(unfold(log_normaliser), None if by_cell is None else unfold(by_cell), gathered)
