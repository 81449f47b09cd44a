"""This package as a user calls it: `fit_perler` with a preset, tuned inside on training genes."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference
from perler_jax import (
    CellExpression,
    PerlerFit,
    PerlerInputError,
    PerlerSettings,
    SpatialReference,
    fit_perler,
)
from perler_jax.trust import fit_intervals, summarise
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
    return Prediction(predicted, lambda: fit.posterior().to_numpy(), lambda: _intervals(fit, genes))


def _intervals(fit: PerlerFit, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """90 % intervals of `summarise`, put back on the scale of the standardised map (`Intervals.place`)."""
    try:
        intervals = fit_intervals(fit)
        found = summarise(fit, genes.tolist(), level=0.9, intervals=intervals)
    except PerlerInputError:  # landmarks too few for the level, or predicted no better than by chance
        nothing = np.full((len(fit.reference.locations), len(genes)), np.nan)
        return nothing, nothing
    middle = np.asarray(found.X, np.float64)
    unit = middle.std(axis=0) / intervals.slope
    lower, upper = (
        (np.asarray(found.layers[end]) - middle.mean(axis=0)) / unit for end in ("lower", "upper")
    )
    return lower, upper


def _names(kind: str, rows: np.ndarray) -> np.ndarray:
    return np.array([f"{kind} {number}" for number in range(len(rows))], dtype=object)
