"""moscot's spatial mapping problem (Klein et al. 2025)."""

from __future__ import annotations

from importlib import metadata

import anndata
import numpy as np
import pandas as pd
from moscot.problems.space import MappingProblem

from experiments.compare.contract import Cells, Prediction, Reference


def version() -> str:
    """Of the package."""
    return metadata.version("moscot")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: list[float]) -> Prediction:
    """Predict; the knob is the entropic regularisation and the weight alpha of the quadratic term."""
    epsilon, alpha = knob
    cells = cells.only(np.concatenate([reference.genes, genes]))
    dissociated = anndata.AnnData(cells.log.astype(np.float32), var=pd.DataFrame(index=cells.genes))
    located = anndata.AnnData(reference.log.astype(np.float32), var=pd.DataFrame(index=reference.genes))
    located.obsm["spatial"] = reference.coordinates.astype(np.float32)
    problem = MappingProblem(adata_sc=dissociated, adata_sp=located)
    problem = problem.prepare(sc_attr={"attr": "X"}, var_names=reference.genes.tolist())
    problem = problem.solve(alpha=alpha, epsilon=epsilon)
    values = np.asarray(problem.impute(var_names=genes.tolist()).X)

    def mapping() -> np.ndarray:
        (solution,) = problem.solutions.values()
        plan = np.asarray(solution.transport_matrix, np.float64).T  # (cells, locations)
        return plan / np.maximum(plan.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)

    return Prediction(values, mapping)
