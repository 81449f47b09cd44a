"""SpaGE by its authors (Abdelaal et al. 2020). SPAGE_HOME is a checkout of their repository."""

from __future__ import annotations

import os
import sys

import numpy as np
import pandas as pd

from experiments.compare.contract import Cells, Prediction, Reference

sys.path.insert(0, os.environ["SPAGE_HOME"])

from SpaGE.main import SpaGE


def version() -> str:
    """Their repository has none."""
    return "checkout"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, n_pv: int) -> Prediction:
    """Predict; the knob is the number of principal vectors."""
    located = pd.DataFrame(reference.log, columns=reference.genes)
    wanted = np.concatenate([reference.genes, genes])
    dissociated = pd.DataFrame(cells.of(wanted), columns=wanted)
    n_pv = min(n_pv, len(reference.genes))
    return Prediction(SpaGE(located, dissociated, n_pv, genes_to_predict=genes).to_numpy())
