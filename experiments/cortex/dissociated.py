"""Cells of another laboratory on the map: where they go, and genes that the map lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax import PerlerFit, PerlerSettings, fit_perler
from perler_jax.datasets import CortexPair
from perler_jax.scores.metrics import pearson_by_gene, roc_auc_by_gene

__all__ = ["fit_pair", "score_layers_of_cells", "score_unmeasured"]

_NEURONS = ("Excitatory", "Inhibitory")


def fit_pair(pair: CortexPair, options: dict[str, Any], seed: int) -> PerlerFit:
    """Map STARmap into the dissociated cells, tuned on folds of the shared genes.

    The map's counts are brought to one total; the dissociated cells come normalised.
    """
    every = options["every_cell"]
    counts = pair.reference.X.toarray().astype(np.float64)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    located = AnnData(counts * np.median(totals) / totals, pair.reference.obs, pair.reference.var)
    located.obsm["spatial"] = pair.reference.obsm["spatial"]
    located = located[:, located.var_names.isin(pair.cells.var_names)]
    cells = AnnData(np.log2(1.0 + pair.cells.X), pair.cells.obs, pair.cells.var)
    settings = PerlerSettings(covariance=options["covariance"], folds=options["folds"], seed=seed)
    return fit_perler(cells[::every].copy(), located[::every].copy(), settings=settings, progress=False)


def score_unmeasured(
    fit: PerlerFit, pair: CortexPair, config: dict[str, Any]
) -> tuple[pd.DataFrame, AnnData]:
    """One row per gene that the map lacks; and the predictions of all genes.

    ``marks``: the class of dissociated cells that it tells best from the others, with ``auc_in_cells``. Where
    that is a marker, ``auc_on_map`` says how well its PREDICTED expression tells the map's cells of that
    class, by the map's own annotation, from all others. ``layers``: correlation of predicted and
    dissociated mean expression over the layers of excitatory cells, of which the dissociated means differ by
    ``layer_range`` (log2).
    """
    result = fit.reconstruct()
    dissociated = fit.expression().dense(list(result.var_names))
    of_cells = classes_of(pair.cells.obs.loc[fit.cell_names, "aibs_type"], config)
    types = pair.reference.obs.loc[fit.reference.locations, "cell_type"].to_numpy()
    names = list(config["types"])
    inside = np.array([_auc(dissociated, of_cells == name) for name in names])
    on_map = np.array([_auc(result.X, np.isin(types, config["types"][name])) for name in names])
    best = inside.argmax(axis=0)
    genes = np.arange(len(best))
    layers = sorted(set(config["layers"].values()))
    excitatory = np.isin(types, config["types"]["Excitatory"])
    where = pair.reference.obs.loc[fit.reference.locations, "layer"].to_numpy()
    cell_layers = layers_of(pair.cells.obs.loc[fit.cell_names, "aibs_type"], config)
    predicted = [np.asarray(result.X)[excitatory & (where == layer)].mean(axis=0) for layer in layers]
    expected = [dissociated[cell_layers == layer].mean(axis=0) for layer in layers]
    table = pd.DataFrame(
        {
            "landmark": result.var["is_landmark"].to_numpy(),
            "nested": fit.scores["nested"].reindex(result.var_names).to_numpy(),
            "marks": np.array(names)[best],
            "auc_in_cells": inside[best, genes],
            "auc_on_map": on_map[best, genes],
            "layers": pearson_by_gene(np.array(predicted, float), np.array(expected, float)),
            "layer_range": np.ptp(np.array(expected, float), axis=0),
        },
        index=result.var_names.rename("gene"),
    )
    table["is_marker"] = table["auc_in_cells"] >= config["dissociated"]["least_auc"]
    return table, result


def score_layers_of_cells(fit: PerlerFit, pair: CortexPair, config: dict[str, Any]) -> pd.DataFrame:
    """(dissociated layer, layer of the map) mean posterior mass of excitatory cells; rows sum to one."""
    layers = layers_of(pair.cells.obs.loc[fit.cell_names, "aibs_type"], config)
    chosen = layers != ""
    posterior = fit.posterior(chosen).to_numpy()
    where = pair.reference.obs.loc[fit.reference.locations, "layer"].to_numpy()
    mass = pd.DataFrame({layer: posterior[:, where == layer].sum(axis=1) for layer in sorted(set(where))})
    return mass.groupby(pd.Series(layers[chosen], name="layer")).mean()


def classes_of(types: pd.Series, config: dict[str, Any]) -> np.ndarray:
    """Class of each dissociated cell: a glial or vascular type by its own name, else one of `_NEURONS`."""
    first = types.str.split(" ").str[0]
    neurons = np.where(first.isin(list(config["layers"])), *_NEURONS)
    named = first.isin(config["types"]) | first.isin(["OPC", "Smad3"])
    return np.where(named, first, neurons)


def layers_of(types: pd.Series, config: dict[str, Any]) -> np.ndarray:
    """Layer of each excitatory dissociated cell by its type; empty for others."""
    return types.str.split(" ").str[0].map(config["layers"]).fillna("").to_numpy()


def _auc(values: Any, positive: np.ndarray) -> np.ndarray:
    truth = np.repeat(positive[:, None], values.shape[1], axis=1)
    return np.nan_to_num(roc_auc_by_gene(np.asarray(values, np.float64), truth), nan=0.5)
