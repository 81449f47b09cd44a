"""novoSpaRc with an atlas of landmarks (Moriel et al. 2021), as its tutorial with an atlas does."""

from __future__ import annotations

import contextlib
import io
from importlib import metadata

import anndata
import novosparc
import numpy as np

from experiments.compare.contract import Cells, Prediction, Reference, positions


def version() -> str:
    """Of the package."""
    return metadata.version("novosparc")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, alpha_linear: float) -> Prediction:
    """Predict; the knob is the weight of the atlas against the smoothness of expression over space."""
    cells = cells.only(np.concatenate([reference.genes, genes]))
    # Landmarks on both sides are scaled to 0-1, gene by gene: their costs are compared as they are.
    markers = positions(cells.genes, reference.genes)
    expression = cells.log.copy()
    expression[:, markers] = _unit(expression[:, markers])
    tissue = novosparc.cm.Tissue(
        dataset=anndata.AnnData(expression), locations=reference.coordinates, output_folder=None
    )
    with contextlib.redirect_stdout(io.StringIO()):
        tissue.setup_reconstruction(
            atlas_matrix=_unit(reference.log), markers_to_use=markers, num_neighbors_s=5, num_neighbors_t=5
        )
        tissue.reconstruct(alpha_linear=alpha_linear, epsilon=5e-3, verbose=False)
    plan = np.asarray(tissue.gw)  # (cells, locations)
    values = (plan.T @ cells.of(genes)) / plan.sum(axis=0)[:, None]
    return Prediction(values, lambda: plan / plan.sum(axis=1, keepdims=True))


def _unit(values: np.ndarray) -> np.ndarray:
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / np.where(high > low, high - low, 1.0)
