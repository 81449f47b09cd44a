"""This package, tuned like every other method: alpha and beta (and the refinement) are its knob.

`fit_perler` would tune them itself on inner folds; here they are left to the comparison, so that all methods
are tuned by one protocol. One fit serves every value of the knob, as EM depends on none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from experiments.compare.contract import Cells, Prediction, Reference, positions
from perler_jax import CellExpression, PerlerFit, PerlerSettings, SpatialReference, fit_perler
from perler_jax.refinement import Refinement
from perler_jax.versions import package_version
from perler_jax.weights import WeightParams

__all__ = ["predict", "version", "without_levels"]

_POSTERIOR = (0.5, 0.0)


def version() -> str:
    """Of this package."""
    return package_version()


def predict(
    cells: Cells, reference: Reference, genes: np.ndarray, knob: list[float], **settings
) -> Prediction:
    """Predict at one value of the knob.

    Args:
        cells: log expression.
        reference: without the genes.
        genes: to predict.
        knob: alpha and beta; of a refined prediction also the penalty of the regression (0: none), the length
            of the smoothing in spacings of neighbouring locations (0: none), the covariance of the distance,
            and whether each cell's and each location's own level is taken off (`without_levels`). What is
            left out at the end is 0, 0, the setting, False.
        **settings: fields of `PerlerSettings`.
    """
    alpha, beta, penalty, length, covariance, level = (*knob, *(0.0, 0.0, None, False)[len(knob) - 2 :])
    fit, posterior = _fitted(cells, reference, settings, level)
    spacing = np.median(cKDTree(reference.coordinates).query(reference.coordinates, k=2)[0][:, 1])
    fit = dataclasses.replace(
        fit,
        settings=dataclasses.replace(fit.settings, covariance=covariance or fit.settings.covariance),
        weights=WeightParams.single(alpha, beta),
        refinement=Refinement(penalty or None, float(length * spacing)),
    )
    return Prediction(np.asarray(fit.reconstruct(genes.tolist()).X), posterior)


def without_levels(cells: Cells, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Log expression of cells and of locations less each row's mean over the landmarks.

    A factor of one located cell on all its genes (its size, how much of it was in focus) is a shift of its
    logarithms: left in, it is taken for expression. Genes that are no landmark stay as they are.
    """
    levelled = cells.log.copy()
    columns = positions(cells.genes, reference.genes)
    levelled[:, columns] -= levelled[:, columns].mean(axis=1, keepdims=True)
    return levelled, reference.log - reference.log.mean(axis=1, keepdims=True)


_Fitted = tuple[PerlerFit, Callable[[], np.ndarray]]
_fits: dict[bool, _Fitted] = {}  # of the task at hand
_task: list[tuple[Reference, dict]] = []


def _fitted(cells: Cells, reference: Reference, settings: dict, level: bool) -> _Fitted:
    """The fit and its posterior, made once per task (and once more without levels)."""
    if not (_task and _task[0][0] is reference and _task[0][1] == settings):
        _task[:] = [(reference, settings)]
        _fits.clear()
    if level not in _fits:
        sides = without_levels(cells, reference) if level else (cells.log, reference.log)
        fit = fit_perler(
            CellExpression(sides[0], _names("cell", cells.log), cells.genes.astype(object), scale="log2"),
            SpatialReference(
                sides[1],
                _names("location", reference.linear),
                reference.genes.astype(object),
                reference.coordinates,
                scale="log2",
            ),
            settings=PerlerSettings(**settings),
            weights=_POSTERIOR,
            progress=False,
        )
        rows: list[np.ndarray] = []

        def posterior() -> np.ndarray:
            if not rows:
                rows.append(fit.posterior().to_numpy())
            return rows[0]

        _fits[level] = fit, posterior
    return _fits[level]


def _names(kind: str, rows: np.ndarray) -> np.ndarray:
    return np.array([f"{kind} {number}" for number in range(len(rows))], dtype=object)
