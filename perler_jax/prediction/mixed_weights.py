"""Weights of cells at locations at several (alpha, beta) and in several spaces, one pass for all of them.

Every space is a pair of coordinates for cells and locations whose Euclidean distance is the distance there. A
distance that a cell shares with its neighbours in expression,

    D~_nk^2 = (1 - s) D_nk^2 + s mean_j D_jk^2 = |far_k|^2 - 2 far_k . m_n + q_n,

m_n the same mean of the cells' coordinates and q_n that of their squares, is Euclidean as well, with one
coordinate more that holds sqrt(q_n - |m_n|^2) for cells and zero for locations.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax._typing import pytree
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams
from perler_jax.prediction.experts import Space
from perler_jax.streaming import Logits, Moments, Tiles, softmax_moments
from perler_jax.tile_arithmetic import column_maxima
from perler_jax.weights import WeightParams, distance_space

__all__ = ["MixedWeights", "Points", "space_of", "stack_spaces"]


@pytree
class Points:
    """Points of (alpha, beta), each in a space.

    Attributes:
        alpha: (points,) weight of the squared distance.
        beta: (points,) weight of the distance.
        space: (points,) index of the space.
    """

    alpha: Float[Array, " points"]
    beta: Float[Array, " points"]
    space: Int[Array, " points"]


@functools.partial(jax.jit, static_argnums=0)
def space_of(
    space: Space,
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    neighbours: Int[Array, "cells neighbours"] | None,
    covariance: Any = None,
) -> tuple[Float[Array, "cells coordinates"], Float[Array, "locations coordinates"]]:
    """Cells and locations in a space, with one coordinate more than there are metagenes.

    Args:
        space: which.
        params: of the mapping fitted with or without levels, as the space asks for.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        neighbours: of each cell in expression.
        covariance: in metagenes, in place of the fitted one.
    """
    given = covariance is not None and space.covariance == "fitted"
    near, far = distance_space(params, cells, reference, covariance if given else space.covariance)
    extra = jnp.zeros_like(near[:, :1])
    if space.neighbours:
        assert neighbours is not None
        share = space.neighbours
        # Neighbour by neighbour: (cells, neighbours, metagenes) would be the largest array of all.
        mean = jnp.zeros_like(near)
        squares = jnp.zeros_like(extra)
        own = jnp.sum(near**2, axis=1, keepdims=True)
        for column in range(neighbours.shape[1]):
            mean, squares = mean + near[neighbours[:, column]], squares + own[neighbours[:, column]]
        count = neighbours.shape[1]
        near, squares = (1 - share) * near + share * mean / count, (1 - share) * own + share * squares / count
        extra = jnp.sqrt(jnp.maximum(squares - jnp.sum(near**2, axis=1, keepdims=True), 0.0))
    return jnp.concatenate([near, extra], axis=1), jnp.pad(far, [(0, 0), (0, 1)])


def stack_spaces(
    spaces: list[tuple[Float[Array, "cells _m"], Float[Array, "locations _m"]]],
) -> tuple[Float[Array, "cells spaces coordinates"], Float[Array, "locations spaces coordinates"]]:
    """Spaces side by side, as wide as the widest."""
    width = max(near.shape[1] for near, _ in spaces)
    sides = (
        [jnp.pad(side, [(0, 0), (0, width - side.shape[1])]) for side in each]
        for each in zip(*spaces, strict=True)
    )
    near, far = (jnp.stack(side, axis=1) for side in sides)
    return near, far


def _distances(cell: tuple[Array, Array | None], location: tuple[Array, Array | None, Array | None]) -> tuple:
    """D^2, D and the smallest D^2 of every cell in every space, and the logarithm of the prior."""
    (near, of_cell), (far, log_prior, of_location) = cell, location
    log_prior = None if log_prior is None else log_prior[:, None]
    if of_cell is not None:
        assert of_location is not None
        evidence = jnp.matmul(of_location, of_cell.T, precision="highest")
        log_prior = evidence if log_prior is None else evidence + log_prior
    squares = []
    for space in range(near.shape[1]):
        one, other = near[:, space], far[:, space]
        squared = jnp.sum(other**2, axis=1)[:, None] + jnp.sum(one**2, axis=1)
        squared = squared - 2 * jnp.matmul(other, one.T, precision="highest")
        squares.append(jnp.maximum(squared, 1e-12))  # as in `weights`
    squared = jnp.stack(squares)
    nearest = jnp.stack([-column_maxima(-each) for each in squares])
    return squared, jnp.sqrt(squared), nearest, log_prior


def _logits(shared: tuple, point: tuple[Array, Array, Array]) -> Logits:
    squared, plain, nearest, log_prior = shared
    alpha, beta, space = point
    pick = functools.partial(jax.lax.dynamic_index_in_dim, index=space, keepdims=False)
    exponent = -alpha * pick(squared) - beta * pick(plain)
    if log_prior is not None:
        return Logits(exponent + log_prior)
    least = pick(nearest)
    return Logits(exponent, -alpha * least - beta * jnp.sqrt(least))


@pytree
class MixedWeights:
    """Weights c_nk = sum_p share_p w_nk^p / m_k^p, to be streamed; m_k^p is what a location gathers at p.

    For every location they sum to the shares' sum.

    Attributes:
        points: (alpha, beta) and space of every point.
        shares: (points,) of the mixture.
        cells: (cells, spaces, coordinates).
        locations: (locations, spaces, coordinates).
        log_location_weights: (locations,) ln pi; None is uniform.
        evidence: what else is known of where each cell is from.
        votes: (cells,) how much each cell counts; None counts all alike.
    """

    points: Points
    shares: Float[Array, " points"]
    cells: Float[Array, "cells spaces coordinates"]
    locations: Float[Array, "locations spaces coordinates"]
    log_location_weights: Float[Array, " locations"] | None = None
    evidence: CellEvidence | None = None
    votes: Float[Array, " cells"] | None = None

    def __repr__(self) -> str:
        if not hasattr(self.cells, "shape"):
            return "MixedWeights(...)"
        n_points, n_spaces = len(self.shares), self.cells.shape[1]
        sizes = f"{len(self.cells)} cells, {len(self.locations)} locations"
        return f"MixedWeights({sizes}, {n_points} points in {n_spaces} spaces)"

    @classmethod
    def of_point(
        cls,
        weights: WeightParams,
        cells: Float[Array, "cells metagenes"],
        locations: Float[Array, "locations metagenes"],
        log_location_weights: Float[Array, " locations"] | None = None,
        **options: Any,
    ) -> MixedWeights:
        """The paper's weights: one (alpha, beta) point in one space.

        Args:
            weights: the point.
            cells: in `distance_space`.
            locations: in `distance_space`.
            log_location_weights: ln pi; None is uniform.
            **options: ``evidence`` and ``votes``.
        """
        points = Points(weights.alpha, weights.beta, jnp.zeros(1, jnp.int32))
        one = jnp.ones(1, cells.dtype)
        return cls(points, one, cells[:, None], locations[:, None], log_location_weights, **options)

    def take(self, rows: Int[np.ndarray, " some"]) -> MixedWeights:
        """The same of some of the cells."""
        evidence, votes = self.evidence, self.votes
        return dataclasses.replace(
            self,
            cells=jnp.asarray(np.asarray(self.cells)[rows]),
            evidence=None if evidence is None else evidence.sample(rows, slice(None)),
            votes=None if votes is None else jnp.asarray(np.asarray(votes)[rows]),
        )

    @functools.cached_property
    def mix(self) -> Float[Array, "points locations"]:
        """share_p / m_k^p; zero where no cell reaches a location."""
        return _mix(self)

    def each_mean(
        self, values: Float[Array, "cells values"], *, tiles: Tiles | None = None
    ) -> Float[Array, "points locations values"]:
        """Weighted means of per-cell values at every location, for every point apart (Eq. 21)."""
        present = jnp.ones((len(values), 1), values.dtype)
        return _part_means(self, values[:, None], present, tiles)[:, :, 0]

    def part_means(
        self,
        values: Float[Array, "cells parts values"],
        present: Float[Array, "cells parts"],
        *,
        tiles: Tiles | None = None,
    ) -> Float[Array, "points locations parts values"]:
        """Weighted means over several sets of cells in one pass, for every point apart.

        Args:
            values: what each set averages.
            present: one where a cell is in a set, zero where it is not.
            tiles: tile sizes; None chooses them.
        """
        return _part_means(self, values, present, tiles)

    def total(
        self, values: Float[Array, "cells values"], *, tiles: Tiles | None = None
    ) -> Float[Array, "locations values"]:
        """sum_n c_nk u_n: the mixture of the weighted means."""
        return _gathered(self, self.mix, values, False, tiles)

    def squared_total(
        self, values: Float[Array, "cells values"], *, tiles: Tiles | None = None
    ) -> Float[Array, "locations values"]:
        """sum_n c_nk^2 u_n."""
        return _gathered(self, self.mix, values, True, tiles)


def _moments(
    source: MixedWeights, values: Array | None, mix: Array | None, squared: bool, tiles: Tiles | None
) -> Moments:
    of_cell, of_location = (None, None)
    if source.evidence is not None:
        of_cell, of_location = source.evidence.of_cells, source.evidence.of_locations
    return softmax_moments(
        _distances,
        _logits,
        (source.points.alpha, source.points.beta, source.points.space),
        (source.cells, of_cell),
        (source.locations, source.log_location_weights, of_location),
        cell_values=values,
        mix=mix,
        squared=squared,
        tiles=tiles,
    )


def _voted(source: MixedWeights, values: Array, power: int = 1) -> Array:
    return values if source.votes is None else values * (source.votes**power)[:, None]


@jax.jit
def _mix(source: MixedWeights) -> Array:
    ones = jnp.ones((len(source.cells), 1), source.cells.dtype)
    mass = _moments(source, _voted(source, ones), None, False, None).of_locations
    assert mass is not None
    mass, tiny = mass[..., 0], jnp.finfo(ones.dtype).tiny
    return jnp.where(mass > tiny, source.shares[:, None] / jnp.maximum(mass, tiny), 0.0)


@functools.partial(jax.jit, static_argnames="tiles")
def _part_means(source: MixedWeights, values: Array, present: Array, tiles: Tiles | None) -> Array:
    cells, parts, width = values.shape
    sums = (values * present[..., None]).reshape(cells, parts * width)
    found = _moments(source, _voted(source, jnp.concatenate([sums, present], axis=1)), None, False, tiles)
    assert found.of_locations is not None
    totals, mass = found.of_locations[..., :-parts], found.of_locations[..., -parts:]
    tiny = jnp.finfo(values.dtype).tiny
    return totals.reshape(*mass.shape, width) / jnp.maximum(mass, tiny)[..., None]


@functools.partial(jax.jit, static_argnames=("squared", "tiles"))
def _gathered(source: MixedWeights, mix: Array, values: Array, squared: bool, tiles: Tiles | None) -> Array:
    found = _moments(source, _voted(source, values, 2 if squared else 1), mix, squared, tiles).of_locations
    assert found is not None
    return found[0]
