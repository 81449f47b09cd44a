"""Tangram, mode "cells" (Biancalani et al. 2021), on normalised linear expression as in its tutorials."""

from __future__ import annotations

from importlib import metadata

import anndata
import numpy as np
import pandas as pd
import tangram as tg

from experiments.compare.contract import Cells, Prediction, Reference, positions


def version() -> str:
    """Of the package."""
    return metadata.version("tangram-sc")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, epochs: int) -> Prediction:
    """Predict; the knob is the number of epochs."""
    cells = cells.only(np.concatenate([reference.genes, genes]))
    # Tangram lowers the case of gene names, which can make two of them one: numbers instead.
    landmarks = positions(cells.genes, reference.genes)
    names = [f"gene{number}" for number in range(len(cells.genes))]
    linear = np.exp2(cells.log) - 1.0
    dissociated = anndata.AnnData(linear.astype(np.float32), var=pd.DataFrame(index=names))
    located = anndata.AnnData(
        reference.linear.astype(np.float32), var=pd.DataFrame(index=[names[at] for at in landmarks])
    )
    tg.pp_adatas(dissociated, located)
    mapped = tg.map_cells_to_space(
        dissociated, located, mode="cells", device="cpu", num_epochs=epochs, random_state=0, verbose=False
    )
    weights = np.asarray(mapped.X, np.float64)  # (cells, locations), rows sum to one
    # What tg.project_genes does, for the held-out genes only; then to the log scale of the comparison.
    projected = weights.T @ linear[:, positions(cells.genes, genes)]
    return Prediction(np.log2(1.0 + projected), lambda: weights)
