"""Labels as landmarks tell them: a softmax regression with a ridge, learned on cells, used at locations."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

__all__ = ["fit_softmax", "log_softmax"]

_STEPS = 200


def fit_softmax(
    features: Float[np.ndarray, "cells features"],
    codes: Int[np.ndarray, " cells"],
    n_categories: int,
    *,
    ridge: float = 1.0,
    weights: Float[np.ndarray, " cells"] | None = None,
) -> Float[np.ndarray, "features_and_one categories"]:
    """Coefficients B that maximise sum_n w_n ln softmax(x_n B)_label - ridge/2 |B|^2, intercept free.

    Args:
        features: x, standardised; no column of ones.
        codes: category of each cell; -1 takes no part.
        n_categories: how many there are.
        ridge: penalty, in cells.
        weights: of the cells; None: 1.
    """
    keep = codes >= 0 if weights is None else (codes >= 0) & (weights > 0)
    count = keep.astype(np.float32) if weights is None else np.where(keep, weights, 0).astype(np.float32)
    x = jnp.asarray(np.pad(features, ((0, 0), (0, 1)), constant_values=1.0), jnp.float32)
    arrays = (x, jnp.asarray(np.where(keep, codes, 0)), jnp.asarray(count), jnp.float32(ridge))
    shape = (x.shape[1], n_categories)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _loss(jnp.asarray(flat.reshape(shape), jnp.float32), *arrays)
        return float(value), np.asarray(slope, np.float64).ravel()

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-7}
    )
    return found.x.reshape(shape)


def log_softmax(
    features: Float[np.ndarray, "rows features"],
    coefficients: Float[np.ndarray, "features_and_one categories"],
) -> Float[np.ndarray, "rows categories"]:
    """Ln of the probabilities at rows."""
    scores = features @ coefficients[:-1] + coefficients[-1]
    scores -= scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@jax.jit
@functools.partial(jax.value_and_grad)
def _loss(coefficients: Array, x: Array, codes: Array, count: Array, ridge: Array) -> Array:
    logits = jnp.matmul(x, coefficients, precision="highest")
    own = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=1), codes[:, None], axis=1)[:, 0]
    # Divided by the number of cells: a tolerance then means the same for few and many.
    return (0.5 * ridge * jnp.sum(coefficients[:-1] ** 2) - jnp.sum(count * own)) / jnp.sum(count)
