"""gimVI of scvi-tools (Lopez et al. 2019): needs counts on both sides."""

from __future__ import annotations

from importlib import metadata

import anndata
import numpy as np
import pandas as pd
import scvi
from scvi.external import GIMVI

from experiments.compare.contract import Cells, Prediction, Reference


def version() -> str:
    """Of the package."""
    return metadata.version("scvi-tools")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: None, *, epochs: int) -> Prediction:
    """Predict after so many epochs."""
    if reference.counts is None:
        raise ValueError("gimVI needs counts on both sides")
    scvi.settings.seed = 0
    order = np.concatenate([reference.genes, genes])
    counts = cells.counts_of(order)
    seen = counts.sum(axis=1) > 0
    dissociated = anndata.AnnData(counts[seen].astype(np.float32), var=pd.DataFrame(index=order))
    # A location without any molecule has no library size: it gets one molecule of the first landmark.
    located_counts = reference.counts.copy()
    located_counts[located_counts.sum(axis=1) == 0, 0] = 1
    located = anndata.AnnData(located_counts.astype(np.float32), var=pd.DataFrame(index=reference.genes))
    GIMVI.setup_anndata(dissociated)
    GIMVI.setup_anndata(located)
    model = GIMVI(dissociated, located)
    model.train(max_epochs=epochs, accelerator="cpu")
    _, imputed = model.get_imputed_values(normalized=True)  # shares of a location's molecules
    shares = np.asarray(imputed)[:, len(reference.genes) :]
    return Prediction(np.log2(1.0 + shares * np.median(reference.counts.sum(axis=1))))
