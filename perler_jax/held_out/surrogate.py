"""A local model of the held-out objective: one cubic polynomial per gene, in stretched coordinates.

Removing a gene from the sum, as nested scores do for every gene, then costs nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["Surrogate", "patch", "slope_of_unstretch", "stretch", "unstretch"]

# ln(1 + alpha / 0.005) and ln(1 + beta / 0.05): logarithms, in which zero ("absent") is still a point.
_UNIT = np.array([0.005, 0.05])
_SIDE = 4  # points per side of a patch; without its corners twelve values for the ten coefficients of a cubic
_STEP = 0.7  # between neighbouring points: a patch spans more than a step of the coarse grid


def stretch(points: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any 2"]:
    """(alpha, beta) to the coordinates of the search."""
    return np.log1p(points / _UNIT)


def unstretch(coordinates: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any 2"]:
    """Coordinates of the search to (alpha, beta); negative ones, which mean nothing, to zero."""
    return np.expm1(np.maximum(coordinates, 0.0)) * _UNIT


def slope_of_unstretch(points: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any 2"]:
    """Derivative of (alpha, beta) in the coordinates of the search."""
    return points + _UNIT


def patch(centre: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "points 2"]:
    """Points around a centre (alpha, beta), even in the coordinates of the search and none below zero."""
    half = _STEP * (_SIDE - 1) / 2
    middle = np.maximum(stretch(centre), half)
    steps = np.linspace(-half, half, _SIDE)
    around = np.stack([each.ravel() for each in np.meshgrid(steps, steps, indexing="ij")], axis=1)
    corner = (np.abs(around) == half).all(axis=1)
    return unstretch(middle + around[~corner])


class Surrogate:
    """Cubic polynomials fitted to each gene's term of the objective on a `patch`.

    Args:
        points: alpha and beta.
        terms: of every gene at every point.
    """

    def __init__(
        self, points: Float[np.ndarray, "points 2"], terms: Float[np.ndarray, "points genes"]
    ) -> None:
        at = stretch(points)
        self.centre = (at.max(axis=0) + at.min(axis=0)) / 2
        self.scale = (at.max(axis=0) - at.min(axis=0)) / 2
        self.coefficients = np.linalg.lstsq(_basis((at - self.centre) / self.scale), terms, rcond=None)[0]

    def maximise(self, keep: Bool[np.ndarray, " genes"]) -> tuple[Float[np.ndarray, " 2"], bool, float]:
        """Best (alpha, beta) of the kept genes on the patch, whether it lies inside, and their sum there."""
        total = self.coefficients[:, keep].sum(axis=1)
        # A mesh, and a finer one around its best point.
        best = np.zeros(2)
        for width in (1.0, 0.05):
            mesh = np.clip(best + width * _MESH, -1, 1)
            values = _basis(mesh) @ total
            best = mesh[values.argmax()]
        # The edge at zero has nothing beyond it.
        inside = (best < 0.999) & ((best > -0.999) | (self.centre - self.scale < 1e-9))
        return unstretch(self.centre + self.scale * best), bool(inside.all()), float(values.max())

    def total(self, point: Float[np.ndarray, " 2"]) -> float:
        """Sum over all genes at a point; outside of the patch of the nearest one on it."""
        at = np.clip((stretch(point) - self.centre) / self.scale, -1, 1)
        return float((_basis(at[None]) @ self.coefficients).sum())

    def covers(self, point: Float[np.ndarray, " 2"]) -> bool:
        """Whether a point lies so near the patch that it belongs to the same basin."""
        return bool((np.abs(stretch(point) - self.centre) <= 1.8 * self.scale).all())

    def curvature(self, point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "2 2"]:
        """Minus the second derivatives of the whole sum, in the coordinates of the search, at a point."""
        total = self.coefficients.sum(axis=1)
        u, v = (stretch(point) - self.centre) / self.scale
        second = np.zeros((2, 2))
        for c, (i, j) in zip(total, _POWERS, strict=True):
            second[0, 0] += c * i * (i - 1) * u ** max(i - 2, 0) * v**j
            second[1, 1] += c * j * (j - 1) * u**i * v ** max(j - 2, 0)
            second[0, 1] += c * i * j * u ** max(i - 1, 0) * v ** max(j - 1, 0)
        second[1, 0] = second[0, 1]
        return -second / np.outer(self.scale, self.scale)


_MESH = np.stack(np.meshgrid(*[np.linspace(-1, 1, 41)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
_POWERS = [(i, j) for i in range(4) for j in range(4 - i)]


def _basis(z: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points powers"]:
    return np.stack([z[:, 0] ** i * z[:, 1] ** j for i, j in _POWERS], axis=1)
