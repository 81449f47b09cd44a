"""A preprocessing that every method may have: each row's own level taken off."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Reference, positions

__all__ = ["without_levels"]


def without_levels(cells: Cells, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Log expression of cells and of locations less each row's mean over the landmarks.

    A factor of one located cell on all its genes (its size, how much of it was in focus) is a shift of its
    logarithms: left in, it is taken for expression. Genes that are no landmark stay as they are.
    """
    levelled = cells.log.copy()
    columns = positions(cells.genes, reference.genes)
    levelled[:, columns] -= levelled[:, columns].mean(axis=1, keepdims=True)
    return levelled, reference.log - reference.log.mean(axis=1, keepdims=True)
