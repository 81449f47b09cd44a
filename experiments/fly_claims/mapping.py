"""Does the mapped reference lie among the cells, and is each metagene calibrated?

Two numbers, neither of which EM can flatter by construction:

- *mixing*: cells drawn from the fitted model are put among the real ones; of the nearest neighbours of each
  point, how many are of the other sample? Half, if nobody could tell them apart.
- *calibration*: each metagene in turn is left out of the posterior of every cell; the metagene of the cells
  is regressed on what the others then expect of it, E[a r + b]. The slope is one if the map is on scale.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import softmax
from scipy.stats import ks_2samp, linregress

from perler_jax import PerlerFit

__all__ = ["calibration", "mapped_metagenes", "mixing", "simulated_cells"]


def mapped_metagenes(fit: PerlerFit) -> np.ndarray:
    """(locations, metagenes) a r + b."""
    parameters = fit.parameters
    sensitivity, background = (parameters[name].to_numpy() for name in ("sensitivity", "background"))
    return sensitivity * np.asarray(fit.reference_metagenes, np.float64) + background


def simulated_cells(fit: PerlerFit, seed: int) -> np.ndarray:
    """(cells, metagenes) as many as there are cells, drawn from the model: a location, then its noise."""
    rng = np.random.default_rng(seed)
    mapped = mapped_metagenes(fit)[rng.integers(len(fit.reference_metagenes), size=len(fit.cell_metagenes))]
    return mapped + fit.parameters["noise"].to_numpy() * rng.normal(size=mapped.shape)


def mixing(fit: PerlerFit, *, neighbours: int, seed: int) -> dict[str, float]:
    """Share of the nearest neighbours that are of the other sample; 0.5 if the two cannot be told apart.

    Returns:
        `standardised`: the reference given the means and standard deviations of the cells (where EM starts);
        `mapped`: a r + b; `model`: a r + b with its noise, which is what the model says cells are;
        `cells`: one random half of the cells against the other, what can be reached.
    """
    cells = np.asarray(fit.cell_metagenes, np.float64)
    reference = np.asarray(fit.reference_metagenes, np.float64)
    rng = np.random.default_rng(seed)
    scale = fit.parameters["noise"].to_numpy()
    standard = (reference - reference.mean(0)) / reference.std(0) * cells.std(0) + cells.mean(0)
    some = rng.permutation(len(reference))[: len(cells)]
    half = rng.permutation(len(cells))
    pairs = {
        "standardised": (cells, standard[some]),
        "mapped": (cells, mapped_metagenes(fit)[some]),
        "model": (cells, simulated_cells(fit, seed)),
        "cells": (cells[half[::2]], cells[half[1::2]]),
    }
    return {name: _mixed(one / scale, other / scale, neighbours) for name, (one, other) in pairs.items()}


def calibration(fit: PerlerFit, seed: int) -> pd.DataFrame:
    """One row per metagene.

    Returns:
        `sensitivity`, `background`, `noise`; `slope` and `correlation` of the cells' metagene on what the
        other metagenes expect of it; `explained`, the share of its variance that place explains in the model;
        `distance_of_distributions`, Kolmogorov-Smirnov, of cells and cells drawn from the model, and
        `distance_before`, of cells and the reference at their mean and standard deviation.
    """
    cells = np.asarray(fit.cell_metagenes, np.float64)
    reference = np.asarray(fit.reference_metagenes, np.float64)
    mapped, drawn = mapped_metagenes(fit), simulated_cells(fit, seed)
    noise = fit.parameters["noise"].to_numpy()
    near, far = (cells / noise).astype(np.float32), (mapped / noise).astype(np.float32)
    logits = near @ far.T - 0.5 * (far**2).sum(axis=1)  # what depends on the cell alone cancels
    rows = []
    for i in range(cells.shape[1]):
        without = logits + 0.5 * (near[:, [i]] - far[:, i]) ** 2
        expected = softmax(without, axis=1) @ mapped[:, i]
        line = linregress(expected, cells[:, i])
        before = (reference[:, i] - reference[:, i].mean()) / reference[:, i].std()
        rows.append(
            {
                "slope": line.slope,
                "correlation": line.rvalue,
                "explained": mapped[:, i].var() / cells[:, i].var(),
                "distance_of_distributions": ks_2samp(cells[:, i], drawn[:, i]).statistic,
                "distance_before": ks_2samp(
                    cells[:, i], before * cells[:, i].std() + cells[:, i].mean()
                ).statistic,
            }
        )
    found = pd.DataFrame(rows, index=fit.parameters.index)
    return fit.parameters.join(found).rename_axis("metagene")


def _mixed(one: np.ndarray, other: np.ndarray, neighbours: int) -> float:
    both = np.concatenate([one, other])
    label = np.arange(len(both)) < len(one)
    nearest = cKDTree(both).query(both, k=neighbours + 1)[1][:, 1:]
    return float((label[nearest] != label[:, None]).mean())
