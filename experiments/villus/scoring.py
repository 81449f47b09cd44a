"""Profiles of genes over zones, and zones of cells, against what is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.villus.halves import Halves
from perler_jax.scores.metrics import pearson_by_gene

__all__ = ["FAMILIES", "family_of", "score_cells", "score_genes"]

FAMILIES = ("rising", "falling", "peak in between")


def family_of(profiles: pd.DataFrame, least_depth: float) -> np.ndarray:
    """How each profile (genes x zones) runs: one of `FAMILIES`, or "other" (a valley, or no clear peak).

    A peak is in between where the profile falls from it by ``least_depth`` at least towards both ends.
    """
    values = profiles.to_numpy()
    depth = values.max(axis=1, keepdims=True) - values[:, [0, -1]]
    between = (depth >= least_depth).all(axis=1)
    slope = np.diff(values, axis=1)
    # Up (down) all the way but for steps smaller than a tenth of the range, which are noise.
    small = 0.1 * np.ptp(values, axis=1)
    rising, falling = (sign * slope >= -small[:, None] for sign in (1, -1))
    found = np.where(between, FAMILIES[2], "other").astype(object)
    found[~between & rising.all(axis=1)] = FAMILIES[0]
    found[~between & falling.all(axis=1)] = FAMILIES[1]
    return found


def score_genes(halves: Halves, predicted: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """One row per scored gene: correlation over zones with the map's half, and how far its peak is off."""
    truth = halves.map_profiles
    values = predicted.loc[truth.index].to_numpy(np.float64)
    correlation = np.nan_to_num(pearson_by_gene(values.T, truth.to_numpy().T))  # a constant profile: none
    markers = [gene for family in config["markers"].values() for gene in family]
    return pd.DataFrame(
        {
            "correlation": correlation,
            "peak_error": np.abs(values.argmax(axis=1) - truth.to_numpy().argmax(axis=1)),
            "family": family_of(truth, config["least_depth"]),
            "landmark": truth.index.isin(halves.reference.var_names),
            "marker": truth.index.isin(markers),
        },
        index=truth.index.rename("gene"),
    )


def score_cells(halves: Halves, posterior: np.ndarray) -> pd.DataFrame:
    """One row per cell: true and likeliest zone, how far off, and whether its 90 % region holds the truth."""
    own = np.take_along_axis(posterior, halves.zones[:, None], axis=1)
    # The region takes zones from the likeliest on until it holds 90 %: what is likelier comes first.
    before = np.where(posterior > own, posterior, 0.0).sum(axis=1)
    top = posterior.argmax(axis=1)
    return pd.DataFrame(
        {
            "zone": halves.zones,
            "predicted": top,
            "error": np.abs(top - halves.zones),
            "probability": own[:, 0],
            "in_region": before < 0.9,
        },
        index=pd.Index(halves.cells.obs_names, name="cell"),
    )
