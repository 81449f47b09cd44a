"""The weights of cells at locations as one value: all that makes them, without the weights themselves.

What is averaged over cells, and how much the cells behind an average disagree, start from this.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.evidence import CellEvidence
from perler_jax.streaming import Tiles
from perler_jax.weights import WeightParams, weighted_means

__all__ = ["CellWeights"]


@pytree
class CellWeights:
    """w_nk of Eq. 22 for every cell n and location k, to be streamed.

    Attributes:
        weights: one (alpha, beta) point.
        cells: (cells, metagenes) in `distance_space`.
        locations: (locations, metagenes) in `distance_space`.
        log_location_weights: (locations,) ln pi; None is uniform.
        evidence: what else is known of where each cell is from.
        votes: (cells,) how much each cell counts; None counts all alike.
    """

    weights: WeightParams
    cells: Float[Array, "cells metagenes"]
    locations: Float[Array, "locations metagenes"]
    log_location_weights: Float[Array, " locations"] | None = None
    evidence: CellEvidence | None = None
    votes: Float[Array, " cells"] | None = None

    def __repr__(self) -> str:
        if not hasattr(self.cells, "shape"):
            return "CellWeights(...)"
        return f"CellWeights({len(self.cells)} cells, {len(self.locations)} locations, {self.weights!r})"

    def mean(
        self, values: Float[Array, "cells values"], *, tiles: Tiles | None = None
    ) -> Float[Array, "locations values"]:
        """Weighted mean of per-cell values at every location (Eq. 21), see `weighted_means`."""
        sides = (self.weights, self.cells, self.locations, self.log_location_weights, values)
        return weighted_means(*sides, evidence=self.evidence, votes=self.votes, tiles=tiles)[0]
