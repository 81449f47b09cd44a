"""Several opinions about a label, pooled: p ~ prod_i p_i^s_i, the exponents learned on cells of known label.

A logarithmic pool (Genest and Zidek 1986): exponents say which opinion to follow and, together, how sure to
be; one opinion with an exponent is the usual scaling by a temperature (Guo et al. 2017). Its log score is
concave in the exponents.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

__all__ = ["calibration_error", "fit_pool", "pool"]

_MOST = 8.0  # an exponent: surer by that much no opinion can be made in good faith
_BINS = 10


def fit_pool(
    opinions: Float[np.ndarray, "opinions rows categories"], codes: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " opinions"]:
    """Exponents, none negative, with the highest log score of the known labels.

    Args:
        opinions: ln of each opinion's probabilities, finite.
        codes: category of each row.
    """
    given = jnp.asarray(opinions, jnp.float32), jnp.asarray(codes)

    def loss(exponents: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _loss(jnp.asarray(exponents, jnp.float32), *given)
        return float(value), np.asarray(slope, np.float64)

    start = np.full(len(opinions), 1.0 / len(opinions))
    bounds = [(0.0, _MOST)] * len(opinions)
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x


def pool(
    opinions: Float[np.ndarray, "opinions rows categories"], exponents: Float[np.ndarray, " opinions"]
) -> Float[np.ndarray, "rows categories"]:
    """The pooled probabilities; rows sum to one."""
    scores = np.tensordot(exponents, opinions, axes=1)
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)


def calibration_error(
    probabilities: Float[np.ndarray, "rows categories"], codes: Int[np.ndarray, " rows"]
) -> float:
    """How far, on average, the likeliest label's probability is from the share in which it is right.

    Args:
        probabilities: of every category; rows sum to one.
        codes: the true categories; -1 for one that is not among them.

    Returns:
        Expected calibration error over ten bins of equal width.
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == codes
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    shares = ((bins == each, sure[bins == each], right[bins == each]) for each in np.unique(bins))
    return float(sum(abs(a.mean() - b.mean()) * inside.mean() for inside, a, b in shares))


@jax.jit
@jax.value_and_grad
def _loss(exponents: Array, opinions: Array, codes: Array) -> Array:
    pooled = jnp.tensordot(exponents, opinions, axes=1, precision="highest")
    own = jnp.take_along_axis(jax.nn.log_softmax(pooled, axis=1), codes[:, None], axis=1)
    return -jnp.mean(own)
