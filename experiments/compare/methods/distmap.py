"""DistMap (Karaiskos et al. 2017), this package's implementation of its published description."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference
from perler_jax.scores.distmap import binarise_cells, mapping_scores, virtual_in_situ
from perler_jax.versions import package_version

__all__ = ["predict", "version"]


def version() -> str:
    """Of this package."""
    return f"own, perler_jax {package_version()}"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: list[float]) -> Prediction:
    """Predict.

    The knob: the quantile over locations above which a landmark is on (0: the published binary map where
    there is one, else what is above its lowest value), and the quantile of a virtual in situ below which
    nothing is shown.
    """
    quantile, shown = knob
    expression = cells.of(reference.genes)
    seen = (expression > 0).any(axis=0)
    if quantile == 0 and reference.binary is not None:
        locations_on = reference.binary[:, seen]
    else:
        locations_on = reference.linear[:, seen] > np.quantile(reference.linear[:, seen], quantile, axis=0)
    cells_on = binarise_cells(expression[:, seen], locations_on).on
    values = virtual_in_situ(cells_on, locations_on, cells.of(genes), threshold=shown)

    def mapping() -> np.ndarray:
        weights = np.exp(mapping_scores(cells_on, locations_on))
        return weights / weights.sum(axis=1, keepdims=True)

    return Prediction(values, mapping)
