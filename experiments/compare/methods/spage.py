"""SpaGE-like prediction, written from its publication (Abdelaal et al. 2020, Nucleic Acids Research).

Both sides are z-scored and reduced by PCA over the landmarks; principal vectors are the directions of the
two PCA spaces that lie closest to each other (singular vectors of the matrix of cosines); those of the cells
with a cosine above 0.3 carry both sides; each location takes the weighted mean of its 50 nearest cells by
cosine distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference
from experiments.compare.levels import standard_sides

__all__ = ["predict", "principal_vectors", "version"]

_LEAST_SIMILARITY = 0.3
_NEIGHBOURS = 50


def version() -> str:
    """Own implementation."""
    return "own"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: int | Sequence[Any]) -> Prediction:
    """Predict; the knob is the number of principal components of each side (and: do rows keep levels)."""
    n_components, levels = (knob, True) if isinstance(knob, int) else knob
    source, target = standard_sides(cells, reference, levels=levels)
    vectors, cosines = principal_vectors(source, target, min(n_components, *source.shape, *target.shape))
    # None may be close enough in poor data: the best one then has to do.
    vectors = vectors[:, : max(1, int((cosines > _LEAST_SIMILARITY).sum()))]
    distances = 1.0 - _unit(target @ vectors) @ _unit(source @ vectors).T
    count = min(_NEIGHBOURS, distances.shape[1])
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    near = np.take_along_axis(distances, nearest, axis=1)
    allowed = near < 1.0  # cells on the other side of the origin have no vote
    near = np.where(allowed, near, 0.0)
    total, voters = near.sum(axis=1, keepdims=True), allowed.sum(axis=1, keepdims=True)
    weights = np.where(allowed, 1.0 - near / np.where(total > 0, total, 1.0), 0.0)
    weights /= np.maximum(voters - 1, 1)
    return Prediction(np.einsum("lk,lkg->lg", weights, cells.of(genes)[nearest]))


def principal_vectors(
    source: np.ndarray, target: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the source's PCA space nearest to the target's.

    Args:
        source: (cells, landmarks) z-scores.
        target: (locations, landmarks) z-scores.
        n_components: principal components of each side.

    Returns:
        (landmarks, components) orthonormal vectors within the source's space, and the cosines of the
        principal angles, falling.
    """
    axes = [np.linalg.svd(side, full_matrices=False)[2][:n_components] for side in (source, target)]
    rotation, cosines, _ = np.linalg.svd(axes[0] @ axes[1].T)
    return axes[0].T @ rotation, cosines


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
