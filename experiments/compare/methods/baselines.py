"""The simple methods that every table has, a few lines each.

``levels`` says whether each row keeps its own level, its mean over the landmarks (`levels.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from experiments.compare.contract import Cells, Prediction, Reference
from experiments.compare.levels import standard, standard_sides

__all__ = [
    "gene_mean",
    "kernel_ridge",
    "low_rank_translation",
    "nearest_neighbours",
    "predict",
    "ridge",
    "standard",
]


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: Any, *, baseline: str) -> Prediction:
    """One of the baselines, by name; its knobs in their order."""
    method: Callable[..., Prediction] = {
        "gene_mean": gene_mean,
        "nearest_neighbours": nearest_neighbours,
        "ridge": ridge,
        "kernel_ridge": kernel_ridge,
        "low_rank_translation": low_rank_translation,
    }[baseline]
    knobs = knob if isinstance(knob, list | tuple) else [] if knob is None else [knob]
    return method(cells, reference, genes, *knobs)


def version() -> str:
    """Of SciPy, which does the work."""
    return f"scipy {scipy.__version__}"


def gene_mean(cells: Cells, reference: Reference, genes: np.ndarray, knob: None = None) -> Prediction:
    """The mean of the gene over cells, at every location: what no method may fall below."""
    means = cells.of(genes).mean(axis=0)
    return Prediction(np.tile(means, (len(reference.linear), 1)))


def nearest_neighbours(
    cells: Cells, reference: Reference, genes: np.ndarray, neighbours: int, levels: bool = True
) -> Prediction:
    """Mean over the cells nearest to each location by z-scored landmarks (Euclidean).

    The mapping gives each cell its own nearest locations, as many, with equal weight.
    """
    near, far = standard_sides(cells, reference, levels=levels)
    distances = cdist(far, near)
    among_cells = min(neighbours, distances.shape[1])
    nearest = np.argpartition(distances, among_cells - 1, axis=1)[:, :among_cells]

    def mapping() -> np.ndarray:
        among = min(neighbours, len(distances))
        closest = np.argpartition(distances.T, among - 1, axis=1)[:, :among]
        weights = np.zeros(distances.T.shape)
        np.put_along_axis(weights, closest, 1.0 / among, axis=1)
        return weights

    return Prediction(cells.of(genes)[nearest].mean(axis=1), mapping)


def ridge(
    cells: Cells, reference: Reference, genes: np.ndarray, penalty: float, levels: bool = True
) -> Prediction:
    """Ridge regression of the gene on z-scored landmarks among cells, applied to the z-scored map."""
    landmarks, places = standard_sides(cells, reference, levels=levels)
    values = cells.of(genes)
    gram = landmarks.T @ landmarks / len(landmarks) + penalty * np.eye(landmarks.shape[1])
    cross = landmarks.T @ (values - values.mean(axis=0)) / len(landmarks)
    coefficients = scipy.linalg.solve(gram, cross, assume_a="pos")
    return Prediction(places @ coefficients + values.mean(axis=0))


def kernel_ridge(
    cells: Cells,
    reference: Reference,
    genes: np.ndarray,
    penalty: float,
    width: float,
    levels: bool = True,
) -> Prediction:
    """Kernel ridge regression of the gene on z-scored landmarks among cells, evaluated at the z-scored map.

    Gaussian kernel exp(-d^2 / (2 width^2 landmarks)): cells lie about sqrt(2 landmarks) apart.
    """
    landmarks, places = standard_sides(cells, reference, levels=levels)
    scale = 2.0 * width**2 * landmarks.shape[1]
    among, toward = (np.exp(-cdist(side, landmarks, "sqeuclidean") / scale) for side in (landmarks, places))
    values = cells.of(genes)
    means = values.mean(axis=0)
    weights = scipy.linalg.solve(among + penalty * np.eye(len(among)), values - means, assume_a="pos")
    return Prediction(toward @ weights + means)


def low_rank_translation(
    cells: Cells, reference: Reference, genes: np.ndarray, penalty: float, rank: int
) -> Prediction:
    """Each location as a linear combination of cells, fitted on landmarks as samples, of low rank.

    The translation of TransImp (Qiao and Huang 2024, Patterns) without its spatial term: the W of at most
    this rank with the least |H - W X|^2 + penalty' |W|^2, X (cells, landmarks) and H (locations, landmarks)
    log expression. The publication finds it by gradient steps with weight decay; here it is in closed form
    (reduced-rank regression). The penalty is in units of the mean squared length of a landmark.
    """
    landmarks, places = cells.of(reference.genes), reference.log
    gram = landmarks.T @ landmarks
    strengths, axes = np.linalg.eigh(gram)
    strengths = np.maximum(strengths, 0.0)
    shrunk = strengths + penalty * np.trace(gram) / len(gram)
    # The fitted values of all ranks, with the part of the penalty: their leading directions are the best.
    fitted = (places @ axes) * np.sqrt(strengths / shrunk)
    leading = np.linalg.svd(fitted, full_matrices=False)[0][:, :rank]
    whole = (places @ axes) / shrunk @ (axes.T @ (landmarks.T @ cells.of(genes)))
    return Prediction(leading @ (leading.T @ whole))
