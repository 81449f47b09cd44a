"""Accessibility of chromatin in the very cells whose RNA was counted, with the truth at every location.

Each region belongs to a gene. Its openness over the tissue is the gene's pattern ("of a landmark", "of
another gene"), a wider one, as regions open before their gene is transcribed ("open before expression"), or
constant ("everywhere open"). A cell gives fragments by Poisson from the openness at its place, times its own
noise, and from a background; a cell has two copies of a region, so that more fragments are kept as two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from perler_jax import SimulatedEmbryo

__all__ = ["Accessibility", "simulate_accessibility"]

_NEIGHBOURS = 30  # over which a region is open before its gene is expressed


@dataclass(frozen=True, eq=False)
class Accessibility:
    """Fragments and what they came from.

    Attributes:
        fragments: (cells, regions) 0, 1 or 2, CSR; cells as in the embryo.
        truth: (locations, regions) openness, 0 to 1.
        regions: one row per region: `class` and `gene`.
    """

    fragments: sparse.csr_matrix
    truth: np.ndarray
    regions: pd.DataFrame


def simulate_accessibility(
    embryo: SimulatedEmbryo,
    *,
    seed: int,
    classes: dict[str, int],
    fragments: float,
    background: float,
    noise: float,
) -> Accessibility:
    """Simulate accessibility of the cells of an embryo.

    Args:
        embryo: from `simulate_embryo`.
        seed: of the regions and fragments.
        classes: how many regions of each kind (see above).
        fragments: median number per cell, before copies are limited.
        background: openness that every region has everywhere, as a share of the largest.
        noise: sd of the logarithm of openness between cells of one location.
    """
    rng = np.random.default_rng(seed)
    genes = embryo.truth.var
    patterned = genes["class"] != "unspatial"
    pools = {
        "of a landmark": genes.index[genes["landmark"]],
        "of another gene": genes.index[~genes["landmark"] & patterned],
        "open before expression": genes.index[patterned],
        "everywhere open": genes.index,
    }
    patterns = embryo.truth.to_df()
    places = np.asarray(embryo.truth.obsm["spatial"])
    around = cKDTree(places).query(places, k=min(_NEIGHBOURS, len(places)))[1]
    columns, rows = [], []
    for kind, n in classes.items():
        for gene in rng.choice(pools[kind], n):
            pattern = patterns[gene].to_numpy()
            if kind == "open before expression":
                pattern = pattern[around].mean(axis=1)
            elif kind == "everywhere open":
                pattern = np.ones(len(pattern))
            columns.append(pattern / pattern.max())
            rows.append({"class": kind, "gene": gene})
    truth = np.stack(columns, axis=1)
    at_cells = truth[embryo.cells.obs["true_location"].to_numpy()]
    individual = np.exp(rng.normal(0.0, noise, at_cells.shape) - noise**2 / 2)
    rate = rng.lognormal(0.0, 0.7, truth.shape[1]) * (at_cells * individual + background)
    library = fragments * rng.lognormal(0.0, 0.4, (len(rate), 1))
    counts = np.minimum(rng.poisson(library * rate / np.median(rate.sum(axis=1))), 2)
    regions = pd.DataFrame(rows, index=[f"region{i + 1}" for i in range(len(rows))])
    return Accessibility(sparse.csr_matrix(counts.astype(np.float32)), truth, regions)
