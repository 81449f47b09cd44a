"""This package, tuned like every other method: alpha and beta (and the refinement) are its knob.

`fit_perler` would tune them itself on inner folds; here they are left to the comparison, so that all methods
are tuned by one protocol. One fit serves every value of the knob, as EM depends on none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from experiments.compare.contract import Cells, Prediction, Reference
from perler_jax import CellExpression, PerlerFit, PerlerSettings, SpatialReference, fit_perler
from perler_jax.fit import package_version
from perler_jax.refinement import Refinement
from perler_jax.weights import WeightParams

__all__ = ["predict", "version"]

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
        knob: alpha and beta; of a refined prediction also the penalty of the regression (0: none) and the
            length of the smoothing in spacings of neighbouring locations (0: none).
        **settings: fields of `PerlerSettings`.
    """
    fit, posterior = _fitted(cells, reference, settings)
    fit = dataclasses.replace(fit, weights=WeightParams.single(*knob[:2]))
    if len(knob) > 2:
        penalty, length = knob[2:]
        spacing = np.median(cKDTree(reference.coordinates).query(reference.coordinates, k=2)[0][:, 1])
        fit = dataclasses.replace(
            fit, refinement=Refinement(penalty if penalty > 0 else None, float(length * spacing))
        )
    return Prediction(np.asarray(fit.reconstruct(genes.tolist()).X), posterior)


_Fitted = tuple[PerlerFit, Callable[[], np.ndarray]]
_last: list[tuple[Reference, dict, _Fitted]] = []  # the fit of the task at hand


def _fitted(cells: Cells, reference: Reference, settings: dict) -> _Fitted:
    """The fit and its posterior, made once per task."""
    if not (_last and _last[0][0] is reference and _last[0][1] == settings):
        fit = fit_perler(
            CellExpression(cells.log, _names("cell", cells.log), cells.genes.astype(object), scale="log"),
            SpatialReference(
                reference.linear,
                _names("location", reference.linear),
                reference.genes.astype(object),
                reference.coordinates,
                scale="linear",
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

        _last[:] = [(reference, settings, (fit, posterior))]
    return _last[0][2]


def _names(kind: str, rows: np.ndarray) -> np.ndarray:
    return np.array([f"{kind} {number}" for number in range(len(rows))], dtype=object)
