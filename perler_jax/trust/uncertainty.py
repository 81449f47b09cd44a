"""How much the cells behind a prediction disagree, streamed like the prediction itself.

With c_nk the weight of cell n at location k in the mixture of weighted means (votes in it), A their sum and
u_n what is averaged (expression, less what regressions explain of it),

    mean_k    = sum_n c_nk u_n / A                                          (Eq. 21)
    cells_k   = A^2 / sum_n c_nk^2                                          Kish's effective number of cells
    error_k^2 = sum_n c_nk^2 (u_n - mean_k)^2                               standard error of A mean_k

The last is the linearised variance of a ratio (Cochran, Sampling Techniques, ch. 6); to first order it is
also the variance under a Bayesian bootstrap of the cells. Several (alpha, beta) points count as one set of
weights: each point's own sum of weights is taken as it is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax.prediction.mixed_weights import MixedWeights
from perler_jax.streaming import Tiles

__all__ = ["effective_cells", "standard_error"]


def standard_error(
    source: MixedWeights,
    values: Float[Array, "cells values"],
    total: Float[Array, "locations values"] | None = None,
    *,
    tiles: Tiles | None = None,
) -> Float[Array, "locations values"]:
    """Standard error of the mixture of weighted means of per-cell values.

    Args:
        source: the weights.
        values: what is averaged, e.g. centred log2 expression of a block of genes. Centre them: a variance
            loses its digits where means are large against it.
        total: ``source.total(values)``, where it is known already.
        tiles: tile sizes; None chooses them.
    """
    squared = source.squared_total(_with_squares(values), tiles=tiles)
    return _error(source.shares, source.total(values, tiles=tiles) if total is None else total, squared)


def effective_cells(source: MixedWeights, *, tiles: Tiles | None = None) -> Float[Array, " locations"]:
    """Kish's effective number of cells behind every location; zero where no cell reaches one."""
    ones = jnp.ones((len(source.cells), 1), source.cells.dtype)
    return _kish(source.total(ones, tiles=tiles)[:, 0], source.squared_total(ones, tiles=tiles)[:, 0])


@jax.jit
def _with_squares(values: Array) -> Array:
    return jnp.concatenate([values, values**2, jnp.ones_like(values[:, :1])], axis=1)


@jax.jit
def _kish(total: Array, squared: Array) -> Array:
    return total**2 / jnp.maximum(squared, jnp.finfo(total.dtype).tiny)


@jax.jit
def _error(shares: Array, total: Array, squared: Array) -> Array:
    n = total.shape[1]
    mean = total / jnp.maximum(jnp.sum(shares), jnp.finfo(total.dtype).tiny)
    error = squared[:, n:-1] - 2 * mean * squared[:, :n] + mean**2 * squared[:, -1:]
    return jnp.sqrt(jnp.maximum(error, 0.0))  # rounding can leave it a hair below zero
