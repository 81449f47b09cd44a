"""A preprocessing that every method may have: each row's own level taken off."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Reference

__all__ = ["without_levels"]


def without_levels(cells: Cells, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of cells and of locations, log expression less each row's mean over them.

    A factor of one located cell on all its genes (its size, how much of it was in focus) is a shift of its
    logarithms: left in, it is taken for expression. Genes to predict stay as they are.
    """
    landmarks = cells.of(reference.genes), reference.log
    near, far = (each - each.mean(axis=1, keepdims=True) for each in landmarks)
    return near, far
