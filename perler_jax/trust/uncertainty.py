"""How much the cells behind a weighted mean disagree, streamed like the mean itself.

For weights w_nk of cell n at location k (Eq. 22), normalised over locations, with t_n the vote of a cell,

    mean_k     = sum_n t_n w_nk y_n / m_k,  m_k = sum_n t_n w_nk             (Eq. 21)
    variance_k = sum_n t_n w_nk y_n^2 / m_k - mean_k^2                       how the cells behind k differ
    cells_k    = m_k^2 / sum_n (t_n w_nk)^2                                  Kish's effective number of cells
    error_k^2  = sum_n (t_n w_nk)^2 (y_n - mean_k)^2 / m_k^2                 standard error of the mean

The last is the linearised variance of a ratio (Cochran, Sampling Techniques, ch. 6); to first order it is
also the variance under a Bayesian bootstrap of the cells.

Squared weights need no kernel of their own: w_nk^2 = c_n v_nk, where v are the weights at twice the logits,
again normalised over locations, and c_n = sum_k w_nk^2 = exp(ln Z'_n - 2 ln Z_n) with Z and Z' the two
normalisers. So sum_n w_nk^2 u_n is the usual streamed moment of v for the cell values c_n u_n.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax.cell_weights import CellWeights
from perler_jax.evidence import CellEvidence
from perler_jax.streaming import Moments, Tiles
from perler_jax.weights import WeightParams, weight_moments

__all__ = [
    "Spread",
    "cell_concentration",
    "effective_cells",
    "weighted_spread",
    "weighted_totals",
]


class Spread(NamedTuple):
    """Weighted means with their spread.

    Attributes:
        mean: (locations, values) weighted mean.
        variance: (locations, values) weighted variance of the cells around it.
        standard_error: (locations, values) of the mean.
    """

    mean: Float[Array, "locations values"]
    variance: Float[Array, "locations values"]
    standard_error: Float[Array, "locations values"]


@functools.partial(jax.jit, static_argnames="tiles")
def weighted_totals(
    source: CellWeights, values: Float[Array, "cells values"], *, tiles: Tiles | None = None
) -> Float[Array, "locations values"]:
    """sum_n t_n w_nk u_n, not divided by anything: what weighted means of any subset of cells are made of."""
    return _gathered(_moments(source, _voted(source, values), tiles))


@functools.partial(jax.jit, static_argnames="tiles")
def cell_concentration(source: CellWeights, *, tiles: Tiles | None = None) -> Float[Array, " cells"]:
    """c_n = sum_k w_nk^2: one over the number of locations to which a cell speaks."""
    plain, doubled = (_moments(each, None, tiles).log_normaliser[0] for each in (source, _doubled(source)))
    return jnp.exp(doubled - 2 * plain)


@functools.partial(jax.jit, static_argnames="tiles")
def effective_cells(
    source: CellWeights, concentration: Float[Array, " cells"], *, tiles: Tiles | None = None
) -> Float[Array, " locations"]:
    """Kish's effective number of cells behind every location.

    Args:
        source: the weights.
        concentration: from `cell_concentration` of the same.
        tiles: tile sizes; None chooses them.
    """
    plain, squared = _both(source, concentration, jnp.ones((len(source.cells), 1), source.cells.dtype), tiles)
    # A location that no cell reaches has none.
    return plain[:, 0] ** 2 / jnp.maximum(squared[:, 0], jnp.finfo(plain.dtype).tiny)


@functools.partial(jax.jit, static_argnames="tiles")
def weighted_spread(
    source: CellWeights,
    concentration: Float[Array, " cells"],
    values: Float[Array, "cells values"],
    *,
    tiles: Tiles | None = None,
) -> Spread:
    """Weighted mean, variance and standard error of any per-cell values at every location.

    Args:
        source: the weights.
        concentration: from `cell_concentration` of the same.
        values: what to average, e.g. centred log2 expression of a block of genes. Centre them: a variance
            loses its digits where means are large against it.
        tiles: tile sizes; None chooses them.
    """
    augmented = jnp.concatenate([values, values**2, jnp.ones_like(values[:, :1])], axis=1)
    plain, squared = _both(source, concentration, augmented, tiles)
    n = values.shape[1]
    # As in `weighted_means`: where all weights underflow, zero over the smallest number is zero, not nan.
    mass = jnp.maximum(plain[:, -1:], jnp.finfo(values.dtype).tiny)
    mean = plain[:, :n] / mass
    variance = plain[:, n:-1] / mass - mean**2
    error = squared[:, n:-1] - 2 * mean * squared[:, :n] + mean**2 * squared[:, -1:]
    # Rounding can leave either a hair below zero.
    return Spread(mean, jnp.maximum(variance, 0.0), jnp.sqrt(jnp.maximum(error, 0.0)) / mass)


def _doubled(source: CellWeights) -> CellWeights:
    """The weights v, whose logits are twice those of w."""
    prior, evidence = source.log_location_weights, source.evidence
    if evidence is not None:
        evidence = CellEvidence(2 * evidence.of_cells, evidence.of_locations)
    return dataclasses.replace(
        source,
        weights=WeightParams(2 * source.weights.alpha, 2 * source.weights.beta),
        log_location_weights=None if prior is None else 2 * prior,
        evidence=evidence,
    )


def _moments(source: CellWeights, values: Array | None, tiles: Tiles | None) -> Moments:
    return weight_moments(
        source.weights,
        source.cells,
        source.locations,
        source.log_location_weights,
        evidence=source.evidence,
        cell_values=values,
        tiles=tiles,
    )


def _gathered(moments: Moments) -> Array:
    assert moments.of_locations is not None
    return moments.of_locations[0]


def _voted(source: CellWeights, values: Array) -> Array:
    return values if source.votes is None else values * source.votes[:, None]


def _both(
    source: CellWeights, concentration: Array, values: Array, tiles: Tiles | None
) -> tuple[Array, Array]:
    """(locations, values) sums with weights t w and with their squares, one after the other."""
    voted = _voted(source, values)
    plain = _gathered(_moments(source, voted, tiles))
    scaled = concentration[:, None] * _voted(source, voted)
    return plain, _gathered(_moments(_doubled(source), scaled, tiles))
