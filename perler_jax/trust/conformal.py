"""Intervals for a gene that nobody measured in place, learned on landmarks that were held out.

A reference is in other units than the cells (in situ intensity against log2 molecules), so truth and
prediction meet as standardised patterns: each gene with mean 0 and variance 1 over locations, T for the
reference, Z for the prediction. On held-out landmarks

    T_kg = slope Z_kg + residual_kg,        |residual_kg| / scale_kg  is the nonconformity,
    scale_kg = c0 + c1 slope error_kg / sd_g + c2 max(Z_kg, 0),         c >= 0, by least squares on |residual|

with error the standard error of the weighted mean and sd the spread of the gene's prediction over locations.
The last term is there because patterns are on in few places, and what is on is predicted less well. The
quantile of the nonconformity at level (1 + 1/G), G genes, over all locations of the held-out genes covers a
new gene that is exchangeable with them (hierarchical conformal prediction: Dunn, Wasserman and Ramdas 2023;
Lee, Barber and Willett 2023): on average over genes and locations, not gene by gene.

Truth is shown on the scale on which the prediction is its regression: mean_g + sd_g T / slope. There the
interval is prediction +- sd_g scale quantile / slope.

Note: slope and c are learned on the landmarks that give the quantile as well: four numbers from as many
values as the reference holds.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
from jaxtyping import Bool, Float

from perler_jax.errors import PerlerInputError
from perler_jax.reconstruction import zscore

__all__ = [
    "Intervals",
    "calibration_error",
    "coverage_by_gene",
    "learn_intervals",
    "scale_terms",
]

Patterns = Float[np.ndarray, "locations genes"]

# A location with no error and a prediction below average would have scale zero if c0 were zero.
_LEAST_SCALE = 0.05  # of the mean residual


@dataclasses.dataclass(frozen=True, eq=False)
class Intervals:
    """How wrong predictions of unseen genes are.

    Attributes:
        slope: of the standardised truth on the standardised prediction; the mean held-out correlation.
        scale: (3,) c of the scale.
        nonconformity: (locations, landmarks) of the held-out landmarks; NaN where one was not measured.
    """

    slope: float
    scale: Float[np.ndarray, " 3"]
    nonconformity: Patterns

    def __repr__(self) -> str:
        return (
            f"Intervals(slope {self.slope:.3f}, scale {np.array2string(self.scale, precision=3)}, "
            f"from {self.nonconformity.shape[1]} held-out landmarks)"
        )

    def quantile(self, level: float) -> float:
        """Nonconformity that covers a share ``level`` of a new gene; infinite with too few landmarks."""
        n = self.nonconformity.shape[1]
        corrected = level * (1 + 1 / n)
        # Rounding may lift exactly one above one.
        if corrected > 1 + 1e-9:
            return float("inf")
        known = self.nonconformity[~np.isnan(self.nonconformity)]
        return float(np.quantile(known, min(corrected, 1.0)))

    def half_width(self, prediction: Patterns, standard_error: Patterns, level: float) -> Patterns:
        """Half the width of the interval around every prediction, in the units of the prediction.

        Args:
            prediction: log2 expression of each gene at all locations; its spread over them matters.
            standard_error: of the prediction.
            level: share of values that the interval should hold.

        Returns:
            (locations, genes); NaN for a gene that is predicted to be the same everywhere.

        Raises:
            PerlerInputError: level outside of (0, 1), or above what so few landmarks can promise.
        """
        if not 0 < level < 1:
            raise PerlerInputError(f"expected a level between 0 and 1, found {level}")
        quantile, n = self.quantile(level), self.nonconformity.shape[1]
        if not np.isfinite(quantile):
            raise PerlerInputError(
                f"expected at least {int(np.ceil(level / (1 - level) - 1e-9))} held-out landmarks for level "
                f"{level:g}, found {n}: give more landmarks or ask for level <= {n / (n + 1):.3f}"
            )
        spread = prediction.std(axis=0)
        spread = np.where(spread > 0, spread, np.nan)
        scale = _scale(prediction, standard_error, self.slope, self.scale)
        return (scale * (quantile / self.slope * spread)).astype(prediction.dtype)

    def place(self, truth: Patterns, prediction: Patterns) -> Patterns:
        """A reference pattern on the scale of its prediction, where an interval can be held against it."""
        return prediction.mean(axis=0) + prediction.std(axis=0) / self.slope * zscore(truth)


def learn_intervals(
    prediction: Patterns,
    standard_error: Patterns,
    truth: Patterns,
    measured: Bool[np.ndarray, "locations genes"] | None = None,
) -> Intervals:
    """Learn how wrong predictions are from genes whose truth is known and was not used.

    Args:
        prediction: of held-out landmarks, any units.
        standard_error: of the prediction, in its units.
        truth: reference pattern of the same genes, any other units.
        measured: whether each value of it was measured: others teach nothing. None: all were.

    Raises:
        PerlerInputError: predictions that do not correlate with the truth on average: no interval can be
            centred on them.
    """
    known = np.ones(truth.shape, bool) if measured is None else measured
    standard, target = (_standard(each, measured)[0] for each in (prediction, truth))
    slope = float((standard * target).sum() / max((standard**2).sum(), 1.0))
    if not slope > 0:
        raise PerlerInputError(
            "expected held-out landmarks that are predicted better than by chance, found a mean correlation "
            f"of {slope:.3f}: no interval can be centred on such predictions"
        )
    size = np.abs(target - slope * standard)
    features = np.where(known, scale_terms(prediction, standard_error, slope, measured), 0.0)
    gram = np.einsum("ikg,jkg->ij", features, features)
    # Least squares with c >= 0 through the root of the 3 x 3 Gram matrix: no copy of the features.
    root = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(3)).T
    cross = np.linalg.solve(root.T, np.einsum("ikg,kg->i", features, size))
    scale, _ = scipy.optimize.nnls(root, cross)
    scale[0] = max(scale[0], _LEAST_SCALE * size[known].mean())
    expected = np.einsum("i,ikg->kg", scale, features)
    return Intervals(slope, scale, np.where(known, size / np.where(known, expected, 1.0), np.nan))


def coverage_by_gene(
    truth: Patterns,
    lower: Patterns,
    upper: Patterns,
    keep: Bool[np.ndarray, "locations genes"] | None = None,
) -> Float[np.ndarray, " genes"]:
    """Share of each gene's values inside its interval.

    Args:
        truth: on the scale of the intervals, see `Intervals.place`.
        lower: lower ends.
        upper: upper ends.
        keep: values that count, e.g. those that are not zero in the reference; None counts all.

    NaN for a gene of which no value counts.
    """
    counted = np.ones(truth.shape, bool) if keep is None else keep
    inside = (truth >= lower) & (truth <= upper) & counted
    number = counted.sum(axis=0)
    return np.divide(inside.sum(axis=0), number, out=np.full(number.shape, np.nan), where=number > 0)


def calibration_error(levels: Float[np.ndarray, " levels"], coverage: Float[np.ndarray, " levels"]) -> float:
    """Integral of |coverage - nominal| over nominal levels from 0 to 1 (TISSUE: Sun et al. 2024).

    Args:
        levels: increasing nominal levels inside (0, 1); 0 and 1, where coverage is nominal, are added.
        coverage: share of values inside at each level.
    """
    gap = np.abs(np.concatenate([[0.0], coverage - levels, [0.0]]))
    return float(np.trapezoid(gap, np.concatenate([[0.0], levels, [1.0]])))


def scale_terms(
    prediction: Patterns,
    standard_error: Patterns,
    slope: float,
    measured: Bool[np.ndarray, "locations genes"] | None = None,
) -> Float[np.ndarray, "3 locations genes"]:
    """What c of the scale multiplies: one, the standard error, how far a gene is on."""
    standard, spread = _standard(prediction, measured)
    error = slope * standard_error / np.where(spread > 0, spread, 1.0)
    return np.stack([np.ones_like(standard), error, np.maximum(standard, 0.0)])


def _standard(
    values: Patterns, measured: Bool[np.ndarray, "locations genes"] | None
) -> tuple[Patterns, Float[np.ndarray, " genes"]]:
    """Each gene's z-scores and spread; one with gaps counts as a gene of fewer locations, 0 in its gaps."""
    if measured is None:
        return zscore(values), values.std(axis=0)
    number = np.maximum(measured.sum(axis=0), 1)
    deviation = np.where(measured, values - np.where(measured, values, 0.0).sum(axis=0) / number, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=0) / number)
    return deviation / np.where(spread > 0, spread, 1.0), spread


def _scale(
    prediction: Patterns, standard_error: Patterns, slope: float, scale: Float[np.ndarray, " 3"]
) -> Patterns:
    return np.einsum("i,ikg->kg", scale, scale_terms(prediction, standard_error, slope))
