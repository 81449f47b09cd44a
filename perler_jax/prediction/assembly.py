"""From mappings and a choice to what predicts: coordinates of every space, points, shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams
from perler_jax.prediction.choice import Choice
from perler_jax.prediction.experts import Space
from perler_jax.prediction.mixed_weights import MixedWeights, space_of, stack_spaces
from perler_jax.prediction.predictor import Predictor, mix_points, spaces_of

__all__ = ["Mapped", "make_predictor"]


class Mapped(NamedTuple):
    """One fitted mapping with both sides in its metagenes.

    Attributes:
        params: the mapping.
        cells: x.
        reference: r.
        covariance: in metagenes, for the distance in place of the fitted one; None: the fitted one.
    """

    params: MappingParams
    cells: Float[Array, "cells metagenes"]
    reference: Float[Array, "locations metagenes"]
    covariance: Float[Array, "metagenes metagenes"] | None = None

    def space(self, space: Space, neighbours: Int[Array, "cells neighbours"] | None) -> tuple[Array, Array]:
        """Both sides in a space of this mapping, see `space_of`."""
        return space_of(space, self.params, self.cells, self.reference, neighbours, self.covariance)


def make_predictor(
    choice: Choice,
    mapped: Mapping[bool, Mapped],
    landmarks: tuple[Shaped[np.ndarray, " landmarks"], np.ndarray, np.ndarray],
    *,
    kept: Bool[np.ndarray, " landmarks"] | None = None,
    coordinates: Float[np.ndarray, "locations dimensions"] | None = None,
    neighbours: Int[np.ndarray, "cells neighbours"] | None = None,
    evidence: CellEvidence | None = None,
    votes: Float[Array, " cells"] | None = None,
) -> Predictor:
    """Put a choice to work.

    Args:
        choice: experts and polishes with their shares.
        mapped: mappings fitted with levels (True) and, where the choice asks for it, without (False).
        landmarks: names, and centred log2 expression of cells and of locations.
        kept: landmarks that may be looked at; None: all.
        coordinates: of the locations.
        neighbours: of each cell in expression.
        evidence: what else is known of where each cell is from.
        votes: (cells,) how much each cell counts.
    """
    names, cells, reference = landmarks
    used = [(e.average, e.ridge, share) for e, share in choice.used() if e.average is not None]
    source, regressed = None, np.zeros(0)
    if used:
        averages = list(dict.fromkeys(average for average, _, _ in used))
        shares, regressed = np.zeros(len(averages)), np.zeros(len(averages))
        for average, ridge, share in used:
            at = averages.index(average)
            shares[at] += share
            regressed[at] += share if ridge is not None else 0.0
        near_by = None if neighbours is None else jnp.asarray(neighbours)
        near, far = stack_spaces([mapped[each.levels].space(each, near_by) for each in spaces_of(averages)])
        log_pi = mapped[True].params.log_location_weights
        points = mix_points(averages, near.dtype)
        source = MixedWeights(points, jnp.asarray(shares, near.dtype), near, far, log_pi, evidence, votes)
    mask = np.ones(len(names), bool) if kept is None else kept
    dtype = np.dtype(mapped[True].cells.dtype)
    return Predictor(
        *(choice, source, regressed, names, cells * mask, reference * mask, mask, coordinates, dtype)
    )
