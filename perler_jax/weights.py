"""From distances to weights: how much each cell says about each location (Eqs. 21-23 of Okochi et al. 2021).

    w_nk ~ pi_k exp(-alpha D_nk^2 - beta D_nk), normalised over locations k for every cell n,
    y_k = sum_n w_nk y_n / sum_n w_nk.

The distance is Mahalanobis with an explicit covariance: "fitted" is the paper's Eq. 23 (the noise of the
model), "pooled" is what the released program computed, a matrix is the user's own. Every choice is a linear
map after which the distance is Euclidean, so one streamed kernel serves all.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams, map_locations, standardise
from perler_jax.streaming import Logits, Moments, Tiles, softmax_moments
from perler_jax.tile_arithmetic import column_maxima

Covariance = Literal["fitted", "pooled"] | Float[Array, "metagenes metagenes"]

__all__ = ["Covariance", "WeightParams", "distance_space", "mahalanobis", "weight_moments", "weighted_means"]


@pytree
class WeightParams:
    """The two weight parameters, or a stack of such points along a leading axis.

    Attributes:
        alpha: (points,) >= 0, weight of the squared distance. 1/2 with beta 0 is the posterior.
        beta: (points,) >= 0, weight of the distance.

    Held-out folds may each have points of their own: (folds, points).
    """

    alpha: Float[Array, "*folds points"]
    beta: Float[Array, "*folds points"]

    @classmethod
    def single(cls, alpha: float, beta: float, dtype: jnp.dtype | type = jnp.float32) -> WeightParams:
        """One point."""
        return cls(jnp.asarray([alpha], dtype), jnp.asarray([beta], dtype))

    def __repr__(self) -> str:
        if getattr(self.alpha, "shape", None) == (1,):
            return f"WeightParams(alpha={float(self.alpha[0]):.4g}, beta={float(self.beta[0]):.4g})"
        return f"WeightParams({getattr(self.alpha, 'shape', '...')} points)"


def distance_space(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    covariance: Covariance = "fitted",
) -> tuple[Float[Array, "cells metagenes"], Float[Array, "locations metagenes"]]:
    """Cells and mapped locations in coordinates whose Euclidean distance is the Mahalanobis distance D.

    Args:
        params: fitted mapping.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        covariance: "fitted", "pooled", or a positive definite matrix in the space of x.

    Note: "pooled" is the sample covariance of mapped locations and cells stacked. The released program
    asked for the fitted one by a misspelt keyword that its SciPy ignored, and so used this one.
    """
    if isinstance(covariance, str) and covariance == "fitted":
        return standardise(params, cells, reference)
    mapped = map_locations(params, reference)
    if isinstance(covariance, str) and covariance == "pooled":
        matrix = jnp.cov(jnp.concatenate([mapped, cells]), rowvar=False).reshape(cells.shape[1], -1)
    elif isinstance(covariance, str):
        raise ValueError(f"expected covariance 'fitted', 'pooled' or a matrix, found {covariance!r}")
    else:
        matrix = covariance
    # Metagenes differ in scale by orders of magnitude: factor the correlation, not the covariance. One
    # without any variance (held out under reduction "none") is zero on both sides and takes part in nothing.
    scale = jnp.sqrt(jnp.diagonal(matrix))
    scale = jnp.where(scale > 0, scale, 1.0)
    correlation = matrix / (scale * scale[:, None])
    correlation = jnp.where(jnp.diag(jnp.diagonal(correlation) == 0), 1.0, correlation)
    root = jnp.linalg.cholesky(correlation)

    def whiten(values: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(root, ((values - params.background) / scale).T, lower=True).T

    return whiten(cells), whiten(mapped)


_Pairwise = tuple[Array, Array, Array | None]


def _distances(
    cell: tuple[Array, Array | None], location: tuple[Array, Array | None, Array | None]
) -> _Pairwise:
    """D^2, D and the logarithm of the prior (ln pi, evidence) for a tile."""
    (near, of_cell), (mapped, log_prior, of_location) = cell, location
    log_prior = None if log_prior is None else log_prior[:, None]
    if of_cell is not None:
        assert of_location is not None
        evidence = jnp.matmul(of_location, of_cell.T, precision="highest")
        log_prior = evidence if log_prior is None else evidence + log_prior
    squared = jnp.sum(mapped**2, axis=1)[:, None] + jnp.sum(near**2, axis=1)
    squared = squared - 2 * jnp.matmul(mapped, near.T, precision="highest")
    # Rounding can make a distance of zero negative, and the square root has no slope at zero.
    squared = jnp.maximum(squared, 1e-12)
    return squared, jnp.sqrt(squared), log_prior


def _weight_logits(shared: _Pairwise, point: tuple[Array, Array]) -> Logits:
    """Exponent of Eq. 22 (delta cancels), and its largest value where the nearest location has it."""
    squared, plain, log_prior = shared
    exponent = -point[0] * squared - point[1] * plain
    if log_prior is not None:
        return Logits(exponent + log_prior)
    # The smallest distance of a cell is shared by all points: they need not search again.
    nearest = -column_maxima(-squared)
    return Logits(exponent, -point[0] * nearest - point[1] * jnp.sqrt(nearest))


def weight_moments(
    weights: WeightParams,
    cells: Float[Array, "cells metagenes"],
    locations: Float[Array, "locations metagenes"],
    log_location_weights: Float[Array, " locations"] | None,
    *,
    evidence: CellEvidence | None = None,
    cell_values: Float[Array, "cells values"] | None = None,
    location_values: Float[Array, "locations values"] | None = None,
    tiles: Tiles | None = None,
) -> Moments:
    """Streamed moments of w (Eq. 22) for sides already in `distance_space`, one per weight point."""
    of_cell, of_location = (None, None) if evidence is None else (evidence.of_cells, evidence.of_locations)
    return softmax_moments(
        _distances,
        _weight_logits,
        (weights.alpha, weights.beta),
        (cells, of_cell),
        (locations, log_location_weights, of_location),
        cell_values=cell_values,
        location_values=location_values,
        tiles=tiles,
    )


@functools.partial(jax.jit, static_argnames="tiles")
def weighted_means(
    weights: WeightParams,
    cells: Float[Array, "cells metagenes"],
    locations: Float[Array, "locations metagenes"],
    log_location_weights: Float[Array, " locations"] | None,
    values: Float[Array, "cells values"],
    *,
    evidence: CellEvidence | None = None,
    votes: Float[Array, " cells"] | None = None,
    tiles: Tiles | None = None,
) -> Float[Array, "points locations values"]:
    """Weighted mean of any per-cell values at every location (Eqs. 21-22).

    Args:
        weights: alpha, beta, one or several points.
        cells: cells in `distance_space`.
        locations: locations in `distance_space`.
        log_location_weights: ln pi; None is uniform, and faster.
        values: what to average, e.g. centred log2 expression of a block of genes.
        evidence: what else is known of where each cell is from.
        votes: how much each cell counts (`density.cell_votes`); None counts all alike.
        tiles: tile sizes; None chooses them.
    """
    augmented = jnp.concatenate([values, jnp.ones_like(values[:, :1])], axis=1)
    if votes is not None:
        augmented = augmented * votes[:, None]
    moments = weight_moments(
        weights,
        cells,
        locations,
        log_location_weights,
        evidence=evidence,
        cell_values=augmented,
        tiles=tiles,
    )
    assert moments.of_locations is not None
    # A location so far from every cell that all its weights underflow has no mean: zero over the smallest
    # number is zero, the gene's average, instead of nan. The mass is taken out as a constant first: the slope
    # of a quotient asks for its square, which underflows long before it does.
    mass, tiny = moments.of_locations[..., -1:], jnp.finfo(values.dtype).tiny
    scale = jax.lax.stop_gradient(jnp.maximum(mass, tiny))
    share = jnp.where(mass > tiny, mass / scale, 1.0)
    return moments.of_locations[..., :-1] / scale / share


def mahalanobis(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    covariance: Covariance = "fitted",
) -> Float[Array, "cells locations"]:
    """D_nk of Eq. 23: DENSE, for chosen cells only."""
    near, far = distance_space(params, cells, reference, covariance)
    return _distances((near, None), (far, None, None))[1].T
