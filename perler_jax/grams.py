"""Gram matrices of the landmarks: what metagenes are made of, whatever the number of cells.

They are summed over the cells once; a fold that holds landmarks out takes its rows and columns away.
"""

from __future__ import annotations

import dataclasses
import functools
from contextlib import AbstractContextManager

import numpy as np
from jaxtyping import Bool, Float
from threadpoolctl import ThreadpoolController

__all__ = ["LandmarkGrams", "blas_threads", "landmark_gram", "landmark_grams", "level_map"]

# Below this many landmarks a second BLAS thread costs more in waiting (60 times more beside a busy XLA
# thread pool) than it saves.
_WORTH_THREADS = 256
_ROWS = 8192  # of a side, at a time


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkGrams:
    """How landmarks vary together on either side: all that a reduction asks of the data.

    Attributes:
        cells: (landmarks, landmarks) y'y of centred log2 expression in cells.
        reference: (landmarks, landmarks) h'h of that at locations.
        n_locations: how many locations the latter is a sum over.
    """

    cells: Float[np.ndarray, "landmarks landmarks"]
    reference: Float[np.ndarray, "landmarks landmarks"]
    n_locations: int

    def __repr__(self) -> str:
        return f"LandmarkGrams({len(self.cells)} landmarks)"

    def keep(self, landmarks: Bool[np.ndarray, " landmarks"]) -> LandmarkGrams:
        """Without any trace of the other landmarks: a zeroed gene equals a deleted one in every reduction."""
        both = np.outer(landmarks, landmarks)
        cells, reference = (np.where(both, gram, 0.0) for gram in (self.cells, self.reference))
        return LandmarkGrams(cells, reference, self.n_locations)

    def turn(self, by: Float[np.ndarray, "landmarks landmarks"]) -> LandmarkGrams:
        """Of landmarks that were multiplied by a matrix."""
        return LandmarkGrams(by.T @ self.cells @ by, by.T @ self.reference @ by, self.n_locations)


def level_map(kept: Bool[np.ndarray, " landmarks"]) -> Float[np.ndarray, "landmarks landmarks"]:
    """The matrix that takes from each row its level, the mean over the kept landmarks; else zero."""
    return np.diag(kept.astype(np.float64)) - np.outer(kept, kept) / kept.sum()


def landmark_grams(
    cells: Float[np.ndarray, "cells landmarks"], reference: Float[np.ndarray, "locations landmarks"]
) -> LandmarkGrams:
    """The Gram matrices of both sides, in float64: made once, for all folds of landmarks.

    Args:
        cells: centred log2 expression of the landmarks in cells; float64 is advised.
        reference: centred log2 expression of the landmarks at locations.
    """
    with blas_threads(cells.shape[1]):
        return LandmarkGrams(landmark_gram(cells), landmark_gram(reference), len(reference))


def landmark_gram(values: Float[np.ndarray, "rows landmarks"]) -> Float[np.ndarray, "landmarks landmarks"]:
    """The Gram matrix of one side, in float64."""
    total = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values), _ROWS):
        block = np.asarray(values[start : start + _ROWS], np.float64)
        total += block.T @ block
    return total


def blas_threads(n_landmarks: int) -> AbstractContextManager:
    """Inside, decompositions and products of so many landmarks take as many threads as pay."""
    return _thread_pools().limit(limits=1 if n_landmarks < _WORTH_THREADS else None, user_api="blas")


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """Looked for once: that takes longer than a fold's decomposition."""
    return ThreadpoolController()
