"""Spatial mapping of Achim et al. (2015, Nature Biotechnology 33, 503), written from its description.

A gene is specific of a cell by r = its expression over the mean over cells, brought to t = r / (1 + r). A
cell and a location of a binary atlas agree by the sum of t over the genes that are on in both, less t of
those that are on in the cell alone; a gene that is off in the cell says nothing (it may have been missed). A
cell's places are the locations with a higher score than the same cell reaches anywhere with its specificities
shuffled among its genes.

The publication predicts no gene. Here a location takes the mean of the cells that are placed on it.
"""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference
from experiments.compare.methods.on_off import on_off

__all__ = ["correspondence", "places", "predict", "random_best", "specificity", "version"]

_DRAWS = 50  # shuffled cells per cell


def version() -> str:
    """Own implementation."""
    return "own"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: list[float]) -> Prediction:
    """Predict.

    The knob: the quantile over locations above which a landmark is on (0: the published binary map), and the
    significance level of a placement.
    """
    quantile, level = knob
    specific = specificity(np.exp2(cells.of(reference.genes)) - 1.0)
    atlas = on_off(reference, quantile)
    placed = places(specific, atlas, level, np.random.default_rng(0))
    values, number = cells.of(genes), placed.sum(axis=0)[:, None]
    means = (placed.T.astype(float) @ values) / np.maximum(number, 1)

    def mapping() -> np.ndarray:
        """A cell without a significant place may be from anywhere."""
        anywhere = ~placed.any(axis=1, keepdims=True)
        weights = (placed | anywhere).astype(float)
        return weights / weights.sum(axis=1, keepdims=True)

    return Prediction(np.where(number > 0, means, values.mean(axis=0)), mapping)


def specificity(expression: np.ndarray) -> np.ndarray:
    """(cells, landmarks) t = r / (1 + r), zero where the landmark is off in the cell.

    Args:
        expression: (cells, landmarks), linear; a landmark is on in a cell where it is above zero.
    """
    means = expression.mean(axis=0)
    return expression / np.where(means + expression > 0, means + expression, 1.0)


def correspondence(specific: np.ndarray, atlas: np.ndarray) -> np.ndarray:
    """(cells, locations) score of each pair.

    Args:
        specific: (cells, landmarks) of `specificity`.
        atlas: (locations, landmarks) on or off.
    """
    return specific @ np.where(atlas, 1.0, -1.0).T


def random_best(specific: np.ndarray, atlas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(cells, draws) best score over the atlas of cells with shuffled specificities."""
    patterns = np.unique(atlas, axis=0)
    found = [
        correspondence(rng.permuted(specific, axis=1).astype(np.float32), patterns).max(axis=1)
        for _ in range(_DRAWS)
    ]
    return np.stack(found, axis=1)


def places(specific: np.ndarray, atlas: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """(cells, locations) whether the score is above what chance reaches anywhere at this level."""
    limits = np.quantile(random_best(specific, atlas, rng), 1.0 - level, axis=1)
    return correspondence(specific, atlas) > limits[:, None]
