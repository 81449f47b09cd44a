"""The cells that speak for each location: those of largest weight, found tile by tile."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.settings import device_precision
from perler_jax.weights import WeightParams, weight_moments

__all__ = ["TopCells", "find_top_cells"]

_TILE_ELEMENTS = 1_400_000


class TopCells(NamedTuple):
    """The cells of largest weight at every location, the first one first.

    Attributes:
        cells: (locations, n) their positions among the cells of the fit.
        shares: (locations, n) their shares of all weights at the location.
    """

    cells: Int[np.ndarray, "locations n"]
    shares: Float[np.ndarray, "locations n"]


def find_top_cells(fit: PerlerFit, n: int = 8) -> TopCells:
    """The cells that count most in the weighted means of each location (Eq. 22), with how much they count.

    Args:
        fit: with its weights.
        n: cells per location; at most all.

    Raises:
        PerlerInputError: less than one cell.
    """
    if n < 1:
        raise PerlerInputError(f"expected at least one cell per location, found {n}")
    with device_precision(fit.settings.dtype):
        near, far = fit.distance_space()
        log_pi, evidence, votes = fit.em.params.log_location_weights, fit.evidence_on_device(), fit.votes()
        normaliser = weight_moments(fit.weights, near, far, log_pi, evidence=evidence).log_normaliser[0]
        log_votes = jnp.zeros(len(near), near.dtype) if votes is None else jnp.log(votes)
        tile = max(1, min(len(far), _TILE_ELEMENTS // len(near)))
        found = _largest(
            *(fit.weights, near, far, log_votes - normaliser, log_pi, evidence),
            n=min(n, len(near)),
            tile=tile,
        )
    return TopCells(*(np.asarray(each)[: len(far)] for each in found))


@functools.partial(jax.jit, static_argnames=("n", "tile"))
def _largest(
    weights: WeightParams,
    cells: Float[Array, "cells metagenes"],
    locations: Float[Array, "locations metagenes"],
    log_scale: Float[Array, " cells"],
    log_location_weights: Float[Array, " locations"] | None,
    evidence: CellEvidence | None,
    *,
    n: int,
    tile: int,
) -> tuple[Int[Array, "padded n"], Float[Array, "padded n"]]:
    """Weights as in `weights.weight_moments`; no more than cells x tile of them at once."""
    of_locations = (locations, log_location_weights, None if evidence is None else evidence.of_locations)
    padding = -len(locations) % tile

    def fold(leaf: Array) -> Array:
        padded = jnp.pad(leaf, [(0, padding)] + [(0, 0)] * (leaf.ndim - 1))
        return padded.reshape(-1, tile, *leaf.shape[1:])

    def one_tile(part: tuple[Array, Array | None, Array | None]) -> tuple[Array, Array]:
        mapped, log_pi, features = part
        squared = jnp.sum(mapped**2, axis=1)[:, None] + jnp.sum(cells**2, axis=1)
        squared = squared - 2 * jnp.matmul(mapped, cells.T, precision="highest")
        squared = jnp.maximum(squared, 1e-12)
        logits = log_scale - weights.alpha[0] * squared - weights.beta[0] * jnp.sqrt(squared)
        if log_pi is not None:  # the same for all cells of a location: it changes no share
            logits = logits + log_pi[:, None]
        if features is not None:
            assert evidence is not None
            logits = logits + jnp.matmul(features, evidence.of_cells.T, precision="highest")
        best, which = jax.lax.top_k(logits, n)
        return which, jnp.exp(best - jax.nn.logsumexp(logits, axis=1, keepdims=True))

    which, shares = jax.lax.map(one_tile, jax.tree.map(fold, of_locations))
    return which.reshape(-1, n), shares.reshape(-1, n)
