"""The order of segment-polarity stripes inside a parasegment, and its error from the cells caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from perler_jax import PerlerFit
from perler_jax.scores.stripes import StripeAxis, axis_profile
from perler_jax.trust.bootstrap import bootstrap_patterns

__all__ = ["parasegment_width", "stripe_lag", "stripe_lags", "stripe_profile"]


def parasegment_width(striped: pd.DataFrame, coordinates: np.ndarray, axis: StripeAxis) -> float:
    """Half the distance of neighbouring stripes of measured pair-rule genes, micrometres."""
    apart = []
    for gene in striped:
        grid, profile = axis_profile(striped[gene].to_numpy(np.float64), coordinates, axis)
        peaks = find_peaks(profile, prominence=0.08 * np.ptp(profile))[0]
        apart.append(np.diff(grid[peaks]).mean() / 2)
    return float(np.mean(apart))


def stripe_profile(
    values: np.ndarray, coordinates: np.ndarray, axis: StripeAxis, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lateral profile along the trunk less its slow part (a Gaussian of `width`, micrometres), to unit sd."""
    grid, profile = axis_profile(values, coordinates, axis)
    fast = profile - gaussian_filter1d(profile, width / (grid[1] - grid[0]))
    return grid, fast / fast.std()


def stripe_lag(anchor: np.ndarray, other: np.ndarray, step: float, reach: float) -> tuple[float, float]:
    """By how much the stripes of one gene lie behind (posterior to) those of another.

    Args:
        anchor: profile on a regular grid.
        other: the same of the gene that is asked about.
        step: of the grid, micrometres.
        reach: the largest lag that is looked at; half a period, beyond which behind is before.

    Returns:
        The lag of the highest cross-correlation (to a fraction of a step, by a parabola), and its height.
    """
    most = int(np.ceil(reach / step))
    heights = []
    for lag in range(-most, most + 1):
        one = anchor[max(0, -lag) : len(anchor) - max(0, lag)]
        two = other[max(0, lag) : len(other) - max(0, -lag)]
        heights.append(np.corrcoef(one, two)[0, 1])
    best = int(np.argmax(heights))
    shift = 0.0
    if 0 < best < 2 * most:
        left, middle, right = heights[best - 1 : best + 2]
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return (best - most + shift) * step, float(heights[best])


def stripe_lags(
    fit: PerlerFit, coordinates: np.ndarray, axis: StripeAxis, width: float, config: dict[str, Any], seed: int
) -> pd.DataFrame:
    """Lag of each gene behind the anchor, with a Bayesian bootstrap over cells.

    Returns:
        A row per gene: `lag_um` of the prediction, `correlation` there, the quantiles 2.5 and 97.5 % of the
        lag over draws, the expected side, and the share of draws on that side (for 0: within a third of a
        parasegment).
    """
    genes = [config["anchor"], *config["order"], *config["reported"]]
    predicted = np.asarray(fit.reconstruct(genes).X, np.float64)
    draws = bootstrap_patterns(fit, genes, seed=seed, draws=config["draws"])
    sd = config["detrend"] * width

    def lags(patterns: np.ndarray) -> list[tuple[float, float]]:
        profiles = [stripe_profile(column, coordinates, axis, sd) for column in patterns.T]
        step = float(profiles[0][0][1] - profiles[0][0][0])
        anchor = profiles[0][1]
        return [stripe_lag(anchor, other, step, width / 2) for _, other in profiles[1:]]

    whole = lags(predicted)
    drawn = np.array([[lag for lag, _ in lags(np.asarray(each, np.float64))] for each in draws])
    rows = []
    for i, gene in enumerate(genes[1:]):
        side = config["order"].get(gene)
        low, high = np.quantile(drawn[:, i], (0.025, 0.975))
        row = {
            "gene": gene,
            "lag_um": whole[i][0],
            "correlation": whole[i][1],
            "low_um": low,
            "high_um": high,
        }
        row["expected"] = np.nan if side is None else float(side)
        if side is not None:
            right = np.abs(drawn[:, i]) < width / 3 if side == 0 else np.sign(drawn[:, i]) == side
            row["draws_as_expected"] = float(right.mean())
        rows.append(row)
    return pd.DataFrame(rows)
