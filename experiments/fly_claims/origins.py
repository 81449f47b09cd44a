"""How small a region is each cell assigned to, by the model and by DistMap?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from perler_jax import PerlerFit
from perler_jax.datasets import FlyEmbryo
from perler_jax.scores.distmap import best_locations, binarise_cells
from perler_jax.trust.positions import CellPositions

__all__ = ["concentration", "ten_best_places"]


def concentration(positions: CellPositions) -> dict[str, float]:
    """Medians and means over cells of how much of the posterior lies near its mode."""
    table = positions.table
    within = {f"mass_{name}": float(table[name].mean()) for name in table.filter(regex="^within_")}
    return within | {
        "effective_locations_median": float(table["effective_locations"].median()),
        "radius_50_median_um": float(table["radius_50"].median()),
        "radius_90_median_um": float(table["radius_90"].median()),
        "confident_within_4_spacings": float((table["within_4_spacings"] > 0.5).mean()),
        "spacing_um": float(positions.spacing or np.nan),
    }


def ten_best_places(fit: PerlerFit, fly: FlyEmbryo) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Mean distance of the ten best locations of each cell from the best of them, and between methods.

    The ten most probable locations of the model, the ten highest correlations of DistMap: the same question
    to both, which needs no probabilities of DistMap.
    """
    assert fly.binary_reference is not None
    coordinates = np.asarray(fly.reference.obsm["spatial"], np.float64)
    names = [str(name) for name in fit.landmarks]
    totals = fly.cells.obs["norm_total"].to_numpy(np.float64)
    in_situ = fly.binary_reference[names].to_numpy().astype(bool)
    rna = binarise_cells(
        np.asarray(fly.cells[:, names].X.todense(), np.float64) / totals[:, None], in_situ
    ).on
    distmap = best_locations(rna, in_situ, n=10)
    posterior = fit.posterior().to_numpy()
    ours = np.argsort(-posterior, axis=1)[:, :10]
    table = pd.DataFrame(index=pd.Index(fit.cell_names.astype(str), name="cell"))
    for method, locations in (("perler", ours), ("distmap", distmap.locations)):
        apart = np.linalg.norm(coordinates[locations] - coordinates[locations[:, :1]], axis=2)
        table[f"ten_best_{method}_um"] = apart[:, 1:].mean(axis=1)
    table["between_methods_um"] = np.linalg.norm(
        coordinates[ours[:, 0]] - coordinates[distmap.locations[:, 0]], axis=1
    )
    table["distmap_ties"] = distmap.n_best
    unique = table["distmap_ties"] == 1
    summary = {
        "ten_best_perler_median_um": float(table["ten_best_perler_um"].median()),
        "ten_best_distmap_median_um": float(table["ten_best_distmap_um"].median()),
        "perler_tighter_share": float((table["ten_best_perler_um"] < table["ten_best_distmap_um"]).mean()),
        "best_places_apart_median_um": float(table.loc[unique, "between_methods_um"].median()),
        "cells_with_ties_in_distmap": int((~unique).sum()),
    }
    return table, summary
