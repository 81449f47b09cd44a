"""Cells of a zebrafish embryo whose binary reference is real and whose origins are known.

A stained gene is drawn as on or off in 64 bins. Cells are made from graded expression: the stain, wrong in a
few bins, smoothed over the embryo. Each gene has its own sensitivity and background in the cells, each cell
its depth and noise; molecules are Poisson.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

__all__ = ["ZebrafishCells", "simulate_cells"]


@dataclass(frozen=True, eq=False)
class ZebrafishCells:
    """What was simulated.

    Attributes:
        cells: counts; ``obs["true_bin"]`` is the index of the bin that each cell came from.
        truth: (bins, genes) graded expression, 0 to 1: stained and hidden genes.
        hidden: names of the genes that no reference shows.
    """

    cells: AnnData
    truth: pd.DataFrame
    hidden: list[str]


def simulate_cells(
    reference: AnnData,
    *,
    seed: int,
    n_cells: int,
    n_hidden: int,
    depth: float,
    blur: float,
    disagreement: float,
    sensitivity_sd: float,
    cell_noise: float,
    background: float,
) -> ZebrafishCells:
    """Simulate cells of a binary reference.

    Args:
        reference: bins x stained genes of 0 and 1, with ``obsm["spatial"]``.
        seed: of everything.
        n_cells: from bins at random.
        n_hidden: genes with smooth domains that are in no reference.
        depth: median number of molecules of these genes per cell.
        blur: sd of the smoothing, in spacings of neighbouring bins.
        disagreement: share of bins in which the cells' pattern is the opposite of the stain.
        sensitivity_sd: sd of the logarithm of the capture rate between genes.
        cell_noise: sd of the logarithm of expression between cells of one bin.
        background: expression where a gene is off, as a share of where it is on.
    """
    rng = np.random.default_rng(seed)
    places = np.asarray(reference.obsm["spatial"], np.float64)
    spacing = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
    apart = cdist(places, places) / spacing
    kernel = np.exp(-0.5 * (apart / blur) ** 2)
    stained = np.asarray(reference.X, np.float64)
    flipped = np.abs(stained - (rng.random(stained.shape) < disagreement))
    graded = kernel @ flipped / kernel.sum(axis=1, keepdims=True)
    centres = rng.integers(len(places), size=n_hidden)
    widths = rng.uniform(1.5, 4.0, n_hidden)
    domains = np.exp(-0.5 * (apart[:, centres] / widths) ** 2)
    hidden = [f"hidden{i + 1}" for i in range(n_hidden)]
    names = [*map(str, reference.var_names), *hidden]
    truth = pd.DataFrame(np.concatenate([graded, domains], axis=1), reference.obs_names, names)

    origin = rng.integers(len(places), size=n_cells)
    individual = np.exp(rng.normal(0.0, cell_noise, (n_cells, len(names))) - cell_noise**2 / 2)
    rate = rng.lognormal(0.0, sensitivity_sd, len(names)) * (
        truth.to_numpy()[origin] * individual + background
    )
    library = depth * rng.lognormal(0.0, 0.35, (n_cells, 1))
    counts = rng.poisson(library * rate / np.median(rate.sum(axis=1))).astype(np.float32)
    cells = pd.DataFrame({"true_bin": origin}, index=[f"cell{i + 1}" for i in range(n_cells)])
    return ZebrafishCells(AnnData(counts, obs=cells, var=pd.DataFrame(index=names)), truth, hidden)
