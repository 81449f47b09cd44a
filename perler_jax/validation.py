"""Numbers that a user may give to `fit_perler`, checked before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from perler_jax.errors import PerlerInputError

__all__ = ["landmark_covariance", "log_location_prior", "weight_point"]


def log_location_prior(weights: Any, n_locations: int) -> np.ndarray | None:
    """Ln pi of given areas or counts."""
    if weights is None:
        return None
    values = np.asarray(weights, np.float64)
    if (
        values.shape != (n_locations,)
        or not np.isfinite(values).all()
        or (values < 0).any()
        or values.sum() == 0
    ):
        raise PerlerInputError(
            f"expected {n_locations} location weights >= 0, one per location and not all zero; found shape "
            f"{values.shape}: give e.g. the area of each zone in the order of the reference"
        )
    with np.errstate(divide="ignore"):  # a location without cells has ln 0 = -inf, which the kernel takes
        return np.log(values / values.sum())


def landmark_covariance(covariance: Any, landmarks: np.ndarray) -> np.ndarray | None:
    """A positive definite matrix in the order of the landmarks."""
    if covariance is None:
        return None
    if isinstance(covariance, pd.DataFrame):
        missing = [
            name for name in landmarks if name not in covariance.index or name not in covariance.columns
        ]
        if missing:
            raise PerlerInputError(
                f"expected a row and a column of covariance for each of {len(landmarks)} landmarks, found "
                f"none for {', '.join(map(str, missing[:3]))}: name them as the reference does"
            )
        covariance = covariance.loc[list(landmarks), list(landmarks)]
    matrix = np.asarray(covariance, np.float64)
    square = matrix.shape == (len(landmarks), len(landmarks)) and np.isfinite(matrix).all()
    if not square or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] <= 0:
        raise PerlerInputError(
            f"expected a symmetric positive definite covariance of the {len(landmarks)} landmarks, found "
            f"shape {matrix.shape}{' that is not one' if square else ''}: add a small number to its diagonal"
        )
    return matrix


def weight_point(weights: tuple[float, float]) -> tuple[float, float]:
    """Two numbers >= 0."""
    alpha, beta = weights
    if not (np.isfinite([alpha, beta]).all() and alpha >= 0 and beta >= 0):
        raise PerlerInputError(f"expected weights (alpha, beta) >= 0, found ({alpha}, {beta})")
    return float(alpha), float(beta)
