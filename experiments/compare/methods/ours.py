"""This package as a user calls it: `fit_perler` with a preset, tuned inside on training genes."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference
from perler_jax import CellExpression, PerlerSettings, SpatialReference, fit_perler
from perler_jax.versions import package_version

__all__ = ["predict", "version"]


def version() -> str:
    """Of this package."""
    return package_version()


def predict(
    cells: Cells, reference: Reference, genes: np.ndarray, knob: None, *, preset: str | None = None
) -> Prediction:
    """Predict with a preset.

    Args:
        cells: log expression.
        reference: without the genes.
        genes: to predict.
        knob: none: no choice is made from outside.
        preset: "paper" or "released"; None is the default.
    """
    settings = PerlerSettings() if preset is None else getattr(PerlerSettings, preset)()
    located = SpatialReference(
        reference.log,
        _names("location", reference.log),
        reference.genes.astype(object),
        reference.coordinates,
        scale="log2",
    )
    dissociated = CellExpression(
        cells.log, _names("cell", cells.log), cells.genes.astype(object), scale="log2"
    )
    fit = fit_perler(dissociated, located, settings=settings, progress=False)
    predicted = np.asarray(fit.reconstruct(genes.tolist()).X)
    return Prediction(predicted, lambda: fit.posterior().to_numpy())


def _names(kind: str, rows: np.ndarray) -> np.ndarray:
    return np.array([f"{kind} {number}" for number in range(len(rows))], dtype=object)
