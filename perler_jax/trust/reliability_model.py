"""From signals of a gene to the score that its prediction would get: a small ridge with conformal intervals.

Scores are correlations (or AUC, carried to -1..1). The regression is of atanh(score) on standardised signals,
with coefficients that cannot be negative: more of a signal never means less trust, also for genes unlike any
landmark. With some eighty landmarks to learn from, no richer model is worth its variance.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
from jaxtyping import Float

from perler_jax.errors import PerlerInputError

__all__ = ["ReliabilityModel", "fit_reliability"]

_PENALTY = 0.1  # of a coefficient, in units of a signal's variance
_LARGEST = 0.999  # a score of one would be infinite

Scores = Float[np.ndarray, " genes"]
Signals = Float[np.ndarray, "genes signals"]


@dataclasses.dataclass(frozen=True, eq=False)
class ReliabilityModel:
    """A regression of scores on signals.

    Attributes:
        centre: (signals,) mean of each signal over the landmarks.
        spread: (signals,) its standard deviation.
        coefficients: (signals,) of the standardised signals, >= 0.
        intercept: mean of atanh(score).
        left_out: (landmarks,) atanh(score) of each landmark as predicted by a model that never saw it.
        residuals: (landmarks,) atanh(score) minus that.
    """

    centre: Float[np.ndarray, " signals"]
    spread: Float[np.ndarray, " signals"]
    coefficients: Float[np.ndarray, " signals"]
    intercept: float
    left_out: Float[np.ndarray, " landmarks"]
    residuals: Float[np.ndarray, " landmarks"]

    def __repr__(self) -> str:
        return f"ReliabilityModel({len(self.coefficients)} signals, {len(self.residuals)} landmarks)"

    def predict(self, signals: Signals, *, level: float = 0.9) -> tuple[Scores, Scores, Scores]:
        """Score of each gene, and the ends of the interval that holds it with probability ``level``.

        The interval is conformal, from the residuals of the landmarks left out. NaN where a signal is NaN; -1
        to 1 where landmarks are fewer than level / (1 - level).
        """
        predicted = self.intercept + (signals - self.centre) / self.spread @ self.coefficients
        half = _conformal_quantile(np.abs(self.residuals), level)
        return np.tanh(predicted), np.tanh(predicted - half), np.tanh(predicted + half)

    def predict_landmarks(self, *, level: float = 0.9) -> tuple[Scores, Scores, Scores]:
        """The same for the landmarks themselves, each by a model and by residuals without it."""
        size = np.abs(self.residuals)
        halves = np.array([_conformal_quantile(np.delete(size, own), level) for own in range(len(size))])
        return np.tanh(self.left_out), np.tanh(self.left_out - halves), np.tanh(self.left_out + halves)


def fit_reliability(
    signals: Float[np.ndarray, "landmarks signals"], scores: Float[np.ndarray, " landmarks"]
) -> ReliabilityModel:
    """Learn from landmarks what score their signals promise.

    Args:
        signals: of the landmarks, each as of a gene that the fit has not seen.
        scores: their held-out scores, -1 to 1.

    Raises:
        PerlerInputError: fewer than 3 landmarks, or values that are not finite.
    """
    n = len(scores)
    if n < 3 or len(signals) != n:
        raise PerlerInputError(
            f"expected signals and scores of at least 3 landmarks, found {len(signals)} and {n}: with fewer "
            "no reliability can be learned"
        )
    if not (np.isfinite(signals).all() and np.isfinite(scores).all()):
        raise PerlerInputError("expected finite signals and scores of landmarks, found nan or infinity")
    target = np.arctanh(np.clip(scores, -_LARGEST, _LARGEST))
    left_out = np.empty(n)
    for own in range(n):
        others = np.arange(n) != own
        centre, spread, coefficients, intercept = _ridge(signals[others], target[others])
        left_out[own] = intercept + (signals[own] - centre) / spread @ coefficients
    return ReliabilityModel(*_ridge(signals, target), left_out, target - left_out)


def _ridge(
    signals: Float[np.ndarray, "landmarks signals"], target: Float[np.ndarray, " landmarks"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Centre, spread, coefficients >= 0 and intercept (free of penalty)."""
    centre, spread = signals.mean(axis=0), signals.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (signals - centre) / spread
    intercept = float(target.mean())
    ridge = np.sqrt(_PENALTY * len(target)) * np.eye(signals.shape[1])
    coefficients, _ = scipy.optimize.nnls(
        np.concatenate([standard, ridge]), np.concatenate([target - intercept, np.zeros(len(ridge))])
    )
    return centre, spread, coefficients, intercept


def _conformal_quantile(size: Float[np.ndarray, " landmarks"], level: float) -> float:
    """What covers a new one with probability ``level``; infinite where there are too few."""
    rank = int(np.ceil((len(size) + 1) * level))
    return float(np.sort(size)[rank - 1]) if rank <= len(size) else float("inf")
