"""The prediction of held-out genes as a differentiable function of everything that is worth tuning.

One pytree, `HeldOutParams`, names what may vary: the weights of the distance, the shares of several weighted
means and of the regression alone, a weight per metagene or per landmark, the smoothing over positions, the
ridge of the regression on landmarks, the strength of the priors.
What is None is off, and costs nothing. `objective.py` makes J of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import cKDTree

from perler_jax._typing import pytree
from perler_jax.density import cell_votes
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.inference.implicit import Solver, fit_implicit
from perler_jax.inference.priors import ConjugatePriors, data_scaled_priors
from perler_jax.mixture import MappingParams
from perler_jax.prediction.regression import standard_landmarks
from perler_jax.scale.spread import to_device
from perler_jax.weights import WeightParams, distance_space, weighted_means

Number: TypeAlias = Any  # a scalar, of Python or of JAX; with a leading axis where each fold has its own

__all__ = [
    "Fold",
    "HeldOutData",
    "HeldOutParams",
    "check_params",
    "landmark_axes",
    "make_held_out_data",
    "predict_fold",
]

_NEIGHBOURS = 128


@pytree
class HeldOutParams:
    """What may be tuned; all positive. None: off.

    Attributes:
        alpha: weight of the squared distance; (points,) for several weighted means.
        beta: weight of the distance; likewise.
        shares: (points,) share of each weighted mean; with a ridge (points + 1,), the last that of the
            regression alone. Only ratios count. None: there is one weighted mean.
        metagene_weights: (metagenes,) share of each metagene in the squared distance, by its rank in its
            fold; only ratios count. Folds agree on the leading metagenes, not on the last ones.
        landmark_weights: (landmarks,) share of each landmark in the squared distance; only ratios count. A
            landmark is the same in all folds, which a metagene is not; of the gene held out none takes part.
        smoothing: standard deviation of the Gaussian over positions, in the unit of the coordinates.
        smoothed: share of the smoothed prediction against the plain one, from 0 to 1; None: all of it.
        ridge: penalty of the regression on landmarks, in units of a landmark's variance.
        prior_strengths: (3,) worth in cells of the priors on sensitivity, background and noise
            (`data_scaled_priors`). The mapping of every fold is then fitted again, and J differentiated
            through its EM; a learned pi stays as the fold has it.
    """

    alpha: Number
    beta: Number
    shares: Any = None
    metagene_weights: Any = None
    landmark_weights: Any = None
    smoothing: Number = None
    smoothed: Number = None
    ridge: Number = None
    prior_strengths: Any = None


@pytree
class HeldOutData:
    """What predictions and their scores are made of, beside the fits.

    Attributes:
        cells: (cells, landmarks) centred log2 expression, as in the fits.
        reference: (locations, landmarks) likewise.
        standard_cells: (cells, landmarks) the same with variance one.
        standard_reference: (locations, landmarks) likewise.
        neighbours: (locations, neighbours) the nearest locations, each itself first; None without positions.
        squared_distances: (locations, neighbours) between them.
        landmark_covariance: (landmarks, landmarks) for the distance, in place of the fitted noise; or None.
        evidence: what else is known of where each cell is from, as in the fits; or None.
        measured: (locations, landmarks) whether each value of the reference was measured; None: all were.
    """

    cells: Float[Array, "cells landmarks"]
    reference: Float[Array, "locations landmarks"]
    standard_cells: Float[Array, "cells landmarks"]
    standard_reference: Float[Array, "locations landmarks"]
    neighbours: Int[Array, "locations neighbours"] | None = None
    squared_distances: Float[Array, "locations neighbours"] | None = None
    landmark_covariance: Float[Array, "landmarks landmarks"] | None = None
    evidence: CellEvidence | None = None
    measured: Bool[Array, "locations landmarks"] | None = None


def make_held_out_data(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    coordinates: Float[np.ndarray, "locations dimensions"] | None = None,
    *,
    landmark_covariance: Float[np.ndarray, "landmarks landmarks"] | None = None,
    evidence: CellEvidence | None = None,
    measured: Bool[np.ndarray, "locations landmarks"] | None = None,
    n_neighbours: int = _NEIGHBOURS,
    dtype: np.dtype | type = np.float32,
) -> HeldOutData:
    """Arrays on the device, with the neighbourhoods over which predictions may be smoothed.

    Args:
        cells: centred log2 landmark expression, as in the fits (host, float64).
        reference: centred log2 landmark expression, as in the fits (host, float64).
        coordinates: of the locations; None: nothing can be smoothed.
        landmark_covariance: for the distance, in place of the fitted noise.
        evidence: what else is known of where each cell is from, as in the fits.
        measured: whether each value of the reference was measured: the others are not scored. None: all.
        n_neighbours: where the Gaussian is cut, itself counted: a fixed number, so that the pattern does not
            change with the length. 128 reach four lengths on a surface while a length is below 1.6 spacings.
        dtype: as of the fits.
    """
    data = HeldOutData(
        cells=to_device(cells, dtype),
        reference=to_device(reference, dtype),
        standard_cells=to_device(standard_landmarks(cells), dtype),
        standard_reference=to_device(standard_landmarks(reference), dtype),
        landmark_covariance=None if landmark_covariance is None else jnp.asarray(landmark_covariance, dtype),
        evidence=None if evidence is None else evidence.astype(dtype),
        measured=None if measured is None else jnp.asarray(measured),
    )
    if coordinates is None:
        return data
    distances, neighbours = cKDTree(coordinates).query(coordinates, k=min(n_neighbours, len(coordinates)))
    return dataclasses.replace(
        data,
        neighbours=jnp.asarray(neighbours.reshape(len(coordinates), -1), jnp.int32),
        squared_distances=jnp.asarray(distances.reshape(len(coordinates), -1) ** 2, dtype),
    )


class Fold(NamedTuple):
    """A fold, or all of them stacked."""

    fit: HeldOutFits
    axes: Array | None  # of `landmark_axes`


def predict_fold(
    params: HeldOutParams, fold: Fold, data: HeldOutData, covariance: Any, solver: Solver
) -> Float[Array, "locations width"]:
    """Centred log2 expression of the genes of one fold.

    Args:
        params: where.
        fold: one fold; its axes may be None where landmarks are not weighted.
        data: all landmarks; what is held out is not looked at on the side of the reference.
        covariance: of the distance, "fitted" or "pooled".
        solver: of the implicit derivative, see `implicit_fixed_point`.
    """
    fit = fold.fit
    cells, reference = data.cells @ fit.cell_loadings, fit.locations(data.reference, data.measured)
    mapping, votes = fit.params, fit.votes
    if params.prior_strengths is not None:
        mapping = _fit_again(params.prior_strengths, mapping, cells, reference, data.evidence, solver)
        votes = cell_votes(mapping, cells, reference, data.evidence)
    if data.landmark_covariance is not None:
        covariance = fit.cell_loadings.T @ data.landmark_covariance @ fit.cell_loadings
    near, far = _weighted(params, fold.axes, *distance_space(mapping, cells, reference, covariance))
    values, carried = data.cells[:, fit.genes], jnp.zeros((), cells.dtype)
    if params.ridge is not None:
        coefficients = _coefficients(params.ridge, fit, data)
        values, carried = values - data.standard_cells @ coefficients, data.standard_reference @ coefficients
    weights = WeightParams(jnp.reshape(params.alpha, -1), jnp.reshape(params.beta, -1))
    means = weighted_means(
        *(weights, near, far, mapping.log_location_weights, values),
        evidence=data.evidence,
        votes=votes,
    )
    if params.shares is None:
        prediction = carried + means[0]
    else:
        shares = params.shares / jnp.sum(params.shares)
        prediction = carried + jnp.einsum("p,plw->lw", shares[: len(means)], means)
    if params.smoothing is None:
        return prediction
    assert data.neighbours is not None  # `check_params`
    assert data.squared_distances is not None
    near_by = jax.nn.softmax(-0.5 * data.squared_distances / params.smoothing**2, axis=1)
    smooth = jnp.einsum("ln,lnw->lw", near_by, prediction[data.neighbours])
    return smooth if params.smoothed is None else prediction + params.smoothed * (smooth - prediction)


def _weighted(params: HeldOutParams, axes: Array | None, near: Array, far: Array) -> tuple[Array, Array]:
    """Sides whose coordinates are stretched by the roots of the weights."""
    if params.metagene_weights is not None:
        stretch = jnp.sqrt(params.metagene_weights / jnp.mean(params.metagene_weights))
        near, far = near * stretch, far * stretch
    if params.landmark_weights is not None:
        assert axes is not None
        turn = axes.T * jnp.sqrt(params.landmark_weights / jnp.mean(params.landmark_weights))
        near, far = (jnp.matmul(each, turn, precision="highest") for each in (near, far))
    return near, far


def landmark_axes(fits: HeldOutFits) -> Float[Array, "folds landmarks metagenes"]:
    """How the squared distance is shared out among landmarks: the orthonormal part of the loadings.

    With L the loadings in units of the noise, D^2 = d'LL'd for a difference d between a cell and a location
    in landmarks: the sum over landmarks of the squares of (LL')^{1/2} d = P L'd, with L = P S, P'P = 1.
    """

    def one(fit: HeldOutFits) -> Array:
        left, _, right = jnp.linalg.svd(fit.cell_loadings / fit.params.noise, full_matrices=False)
        return left @ right

    return jax.lax.map(one, fits)


def _coefficients(ridge: Array, fit: HeldOutFits, data: HeldOutData) -> Float[Array, "landmarks width"]:
    """`regression_coefficients` of the fold's genes; a landmark held out is zeroed, as good as deleted."""
    n_cells, n_landmarks = data.cells.shape
    kept = jnp.ones(n_landmarks, bool).at[jnp.where(fit.held, fit.genes, n_landmarks)].set(False, mode="drop")
    landmarks = jnp.where(kept, data.standard_cells, 0.0)
    gram = landmarks.T @ landmarks / n_cells + ridge * jnp.eye(n_landmarks, dtype=landmarks.dtype)
    cross = landmarks.T @ data.cells[:, fit.genes] / n_cells
    return jax.scipy.linalg.solve(gram, cross, assume_a="pos")


def _fit_again(
    strengths: Array,
    mapping: MappingParams,
    cells: Array,
    reference: Array,
    evidence: CellEvidence | None,
    solver: Solver,
) -> MappingParams:
    """The mode under priors of these strengths, from the fit without any."""
    whole = data_scaled_priors(cells, reference)
    of_a, of_b, of_noise = strengths
    priors = ConjugatePriors(
        sensitivity=(whole.sensitivity[0], whole.sensitivity[1] / jnp.sqrt(of_a)),
        background=(whole.background[0], whole.background[1] / jnp.sqrt(of_b)),
        noise_variance=(whole.noise_variance[0] * of_noise, whole.noise_variance[1] * of_noise),
    )
    tolerance = max(1e-12, float(jnp.finfo(cells.dtype).eps))  # float32 sees no smaller gain
    return fit_implicit(
        cells, reference, priors, mapping, evidence=evidence, tolerance=tolerance, solver=solver
    )


def check_params(params: HeldOutParams, fits: HeldOutFits, data: HeldOutData) -> None:
    """Parameters fit the fits and the data.

    Raises:
        PerlerInputError: if they do not.
    """
    if params.smoothing is not None and data.neighbours is None:
        raise PerlerInputError(
            "expected positions for smoothing, found none: give make_held_out_data the coordinates"
        )
    if params.ridge is not None and fits.filled is not None:
        raise PerlerInputError(
            "expected no regression on landmarks (ridge=None) with a reference that has gaps: what is filled "
            "in differs from fold to fold; found a ridge; leave it out, or leave out landmarks with gaps "
            "(missing='drop')"
        )
    if params.smoothed is not None and params.smoothing is None:
        raise PerlerInputError(
            "expected smoothing where a share is smoothed, found none: give it, or no share"
        )
    points = np.shape(params.alpha)[-1:] or (1,)
    shares = np.shape(params.shares)[-1:]
    if params.shares is not None and shares != (points[0] + (params.ridge is not None),):
        raise PerlerInputError(
            f"expected a share for each of {points[0]} weighted means, and with a ridge one more for the "
            f"regression alone; found shape {np.shape(params.shares)}"
        )
    _, landmarks, metagenes = fits.cell_loadings.shape
    expected = {"metagene_weights": metagenes, "landmark_weights": landmarks, "prior_strengths": 3}
    for name, size in expected.items():
        leaf = getattr(params, name)
        if leaf is not None and np.shape(leaf)[-1:] != (size,):
            raise PerlerInputError(f"expected {size} {name}, found shape {np.shape(leaf)}")
