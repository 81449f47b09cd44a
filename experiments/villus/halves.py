"""One half of the cells becomes the map of zones, the other half is to be put on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from perler_jax.inputs.intake import as_cells
from perler_jax.preprocessing import preprocess_cells

__all__ = ["Halves", "split_halves"]

PER = 10_000.0


@dataclasses.dataclass(frozen=True, eq=False)
class Halves:
    """A split.

    Attributes:
        cells: the half to be mapped, counts.
        zones: (cells,) their zones, which nobody is told.
        reference: (zones, landmarks) mean of molecules per 10,000 over the map's cells; linear.
        map_profiles: (genes, zones) the same of all genes that are scored, log2(1 + mean): the truth.
        areas: (zones,) share of the map's cells in each zone.
    """

    cells: ad.AnnData
    zones: np.ndarray
    reference: ad.AnnData
    map_profiles: pd.DataFrame
    areas: np.ndarray

    def log_of(self, genes: list[str]) -> np.ndarray:
        """(cells, genes) log2 expression of the mapped half, normalised as `fit_perler` does."""
        expression = as_cells(self.cells)
        return np.asarray(preprocess_cells(expression).apply(expression.dense(genes)), np.float64)

    def means_by(self, weights: np.ndarray) -> pd.DataFrame:
        """(genes, zones) mean log2 expression of the mapped half under (cells, zones) weights."""
        genes = list(self.map_profiles.index)
        share = weights / np.maximum(weights.sum(axis=0), 1e-12)  # no cell in a zone: zero there
        return pd.DataFrame(self.log_of(genes).T @ share, index=genes)


def split_halves(cells: ad.AnnData, config: dict[str, Any], seed: int) -> Halves:
    """Cut the cells in two, zone by zone; choose landmarks and scored genes by the map's half alone."""
    zones = cells.obs["zone"].to_numpy()
    order = np.random.default_rng(seed).permutation(len(zones))
    order = order[np.argsort(zones[order], kind="stable")]
    of_map, lost = np.sort(order[::2]), np.sort(order[1::2])
    share = cells.X / np.asarray(cells.X.sum(axis=1))  # sparse stays sparse
    n_zones = int(zones.max()) + 1
    members = np.eye(n_zones)[zones[of_map]]
    means = PER * np.asarray((share.tocsr()[of_map].T @ members) / members.sum(axis=0))
    profiles = pd.DataFrame(np.log2(1 + means), index=cells.var_names)
    spread = np.ptp(profiles.to_numpy(), axis=1)
    expressed = means.mean(axis=1) >= config["least_mean"]
    markers = [gene for family in config["markers"].values() for gene in family]
    marked = profiles.index.isin(markers)
    ranked = np.argsort(-np.where(expressed & ~marked, spread, -1.0), kind="stable")
    landmarks = np.sort(ranked[: config["n_landmarks"]])
    scored = (expressed & (spread >= config["least_range"])) | marked
    scored[landmarks] = True
    names = cells.var_names.to_numpy()
    reference = ad.AnnData(
        means[landmarks].T,
        obs=pd.DataFrame(index=[f"zone {zone}" for zone in range(n_zones)]),
        var=pd.DataFrame(index=names[landmarks]),
    )
    return Halves(cells[lost].copy(), zones[lost], reference, profiles[scored], members.mean(axis=0))
