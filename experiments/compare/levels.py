"""Landmarks as baselines look at them, and a preprocessing that all may have: each row's level taken off."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Reference

__all__ = ["standard", "standard_sides", "without_levels"]


def without_levels(cells: Cells, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of cells and of locations, log expression less each row's mean over them.

    A factor of one located cell on all its genes (its size, how much of it was in focus) is a shift of its
    logarithms: left in, it is taken for expression. Genes to predict stay as they are.
    """
    landmarks = cells.of(reference.genes), reference.log
    near, far = (each - each.mean(axis=1, keepdims=True) for each in landmarks)
    return near, far


def standard_sides(cells: Cells, reference: Reference, *, levels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Z-scored landmarks of cells and of locations, each side by itself.

    Args:
        cells: with all genes.
        reference: the map.
        levels: whether each row keeps its own level; taken off, it goes before the z-scores.
    """
    sides = (cells.of(reference.genes), reference.log) if levels else without_levels(cells, reference)
    near, far = map(standard, sides)
    return near, far


def standard(values: np.ndarray) -> np.ndarray:
    """Z-scores of each column; constant columns stay zero."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)
