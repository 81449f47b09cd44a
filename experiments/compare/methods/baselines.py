"""The baselines that every table has: gene mean, nearest neighbours in landmark space, ridge regression."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from experiments.compare.contract import Cells, Prediction, Reference

__all__ = ["gene_mean", "nearest_neighbours", "predict", "ridge"]


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob, *, baseline: str) -> Prediction:
    """One of the baselines, by name."""
    return {"gene_mean": gene_mean, "nearest_neighbours": nearest_neighbours, "ridge": ridge}[baseline](
        cells, reference, genes, knob
    )


def version() -> str:
    """Of SciPy, which does the work."""
    return f"scipy {scipy.__version__}"


def gene_mean(cells: Cells, reference: Reference, genes: np.ndarray, knob: None = None) -> Prediction:
    """The mean of the gene over cells, at every location: what no method may fall below."""
    means = cells.of(genes).mean(axis=0)
    return Prediction(np.tile(means, (len(reference.linear), 1)))


def nearest_neighbours(cells: Cells, reference: Reference, genes: np.ndarray, neighbours: int) -> Prediction:
    """Mean over the cells nearest to each location by z-scored landmarks (Euclidean).

    The mapping gives each cell its own nearest locations, as many, with equal weight.
    """
    distances = cdist(standard(reference.log), standard(cells.of(reference.genes)))
    among_cells = min(neighbours, distances.shape[1])
    nearest = np.argpartition(distances, among_cells - 1, axis=1)[:, :among_cells]

    def mapping() -> np.ndarray:
        among = min(neighbours, len(distances))
        closest = np.argpartition(distances.T, among - 1, axis=1)[:, :among]
        weights = np.zeros(distances.T.shape)
        np.put_along_axis(weights, closest, 1.0 / among, axis=1)
        return weights

    return Prediction(cells.of(genes)[nearest].mean(axis=1), mapping)


def ridge(cells: Cells, reference: Reference, genes: np.ndarray, penalty: float) -> Prediction:
    """Ridge regression of the gene on z-scored landmarks among cells, applied to the z-scored map."""
    landmarks, values = standard(cells.of(reference.genes)), cells.of(genes)
    gram = landmarks.T @ landmarks / len(landmarks) + penalty * np.eye(landmarks.shape[1])
    cross = landmarks.T @ (values - values.mean(axis=0)) / len(landmarks)
    coefficients = scipy.linalg.solve(gram, cross, assume_a="pos")
    return Prediction(standard(reference.log) @ coefficients + values.mean(axis=0))


def standard(values: np.ndarray) -> np.ndarray:
    """Z-scores of each column; constant columns stay zero."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)
