"""Genes that are no landmark: do their predicted domains stand in the known order along both axes?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from perler_jax.scores.stripes import StripeAxis, axis_profile, dorsoventral_angle

__all__ = ["domain_order", "ventral_stripes"]

_BAND = (20.0, 160.0)  # angles at which the axis was straightened


def domain_order(
    patterns: pd.DataFrame, coordinates: np.ndarray, axis: StripeAxis, expected: dict[str, dict[str, int]]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Where each gene's expression is centred, and the rank correlation with the known order.

    Args:
        patterns: (locations, genes) of one method.
        coordinates: micrometres.
        axis: straightened, for the centres along it.
        expected: for each direction the place of each gene in the known order; equal numbers are ties.

    Returns:
        A row per gene: centre along the axis (micrometres) or around it (degrees, 0 ventral), weighted by
        what the expression is above its median; and Spearman's correlation per direction.
    """
    angle = dorsoventral_angle(coordinates)
    where = {"anteroposterior": axis.position(coordinates), "dorsoventral": angle}
    inside = {
        "anteroposterior": (angle >= _BAND[0]) & (angle <= _BAND[1]),
        # The ends of the egg have domains of their own.
        "dorsoventral": np.abs(coordinates[:, 0] - axis.centre) < 0.5 * axis.half_length,
    }
    rows, found = [], {}
    for direction, genes in expected.items():
        some = inside[direction]
        for gene, place in genes.items():
            values = patterns[gene].to_numpy(np.float64)[some]
            above = np.maximum(values - np.median(values), 0.0)
            centre = float(above @ where[direction][some] / above.sum())
            rows.append({"direction": direction, "gene": gene, "expected": place, "centre": centre})
        of = [row for row in rows if row["direction"] == direction]
        found[direction] = float(
            spearmanr([row["expected"] for row in of], [row["centre"] for row in of]).statistic
        )
    return pd.DataFrame(rows), found


def ventral_stripes(
    values: np.ndarray, coordinates: np.ndarray, axis: StripeAxis, *, ventral: float = 45.0
) -> dict[str, Any]:
    """Is a pattern along the axis as strong, and the same, in the ventral part as at the side?

    Args:
        values: (locations,) one gene.
        coordinates: micrometres.
        axis: straightened.
        ventral: angles below it are ventral, degrees.

    Returns:
        Range of the ventral profile over that of the lateral one, and the correlation of the two.
    """
    below = dorsoventral_angle(coordinates) < ventral
    _, side = axis_profile(values, coordinates, axis)
    # Of the ventral locations alone, all angles: the profile of the ventral part.
    _, under = axis_profile(values[below], coordinates[below], axis, half_width=90.0)
    return {
        "range_ventral_over_lateral": float(np.ptp(under) / np.ptp(side)),
        "correlation_of_profiles": float(np.corrcoef(under, side)[0, 1]),
    }
