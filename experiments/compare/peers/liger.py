"""LIGER through pyliger (Welch et al. 2019): joint factors, then the nearest cells in them."""

from __future__ import annotations

from importlib import metadata

import anndata
import numpy as np
import pandas as pd
import pyliger
from scipy import sparse
from scipy.spatial.distance import cdist

from experiments.compare.contract import Cells, Prediction, Reference

_NEIGHBOURS = 20
_LARGEST = 1e6  # pyliger truncates what it gets to integers, then brings each row to a sum of one


def version() -> str:
    """Of the package."""
    return metadata.version("pyliger")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, factors: int) -> Prediction:
    """Predict; the knob is the number of factors."""
    sides = {
        "cells": np.exp2(cells.of(reference.genes)) - 1.0,
        "locations": np.maximum(reference.linear, 0.0),
    }
    tables = []
    for name, values in sides.items():
        table = anndata.AnnData(
            sparse.csr_matrix(np.rint(values * (_LARGEST / values.max()))),
            obs=pd.DataFrame(index=pd.Index([f"{name}{row}" for row in range(len(values))], name="cell")),
            var=pd.DataFrame(index=pd.Index(reference.genes, name="gene")),
        )
        table.uns["sample_name"] = name
        tables.append(table)
    joint = pyliger.create_liger(tables, remove_missing=False)
    pyliger.normalize(joint, remove_missing=False)
    pyliger.select_genes(joint, var_thresh=0.0)
    joint.var_genes = np.asarray(reference.genes)  # the landmarks are the genes that were chosen
    for table in joint.adata_list:
        table.uns["var_gene_idx"] = np.arange(len(reference.genes))
    pyliger.scale_not_center(joint, remove_missing=False)
    pyliger.optimize_ALS(joint, k=min(factors, len(reference.genes) - 1), rand_seed=1)
    pyliger.quantile_norm(joint, rand_seed=1)
    near, far = (np.asarray(table.obsm["H_norm"]) for table in joint.adata_list)
    nearest = np.argsort(cdist(far, near), axis=1)[:, :_NEIGHBOURS]
    return Prediction(cells.of(genes)[nearest].mean(axis=1))
