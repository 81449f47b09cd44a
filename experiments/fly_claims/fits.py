"""One EM, two distances: the paper's text (`fitted`) and what the released program computed (`pooled`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fit
from perler_jax.datasets import FlyEmbryo
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.trust.subsets import landmark_expression
from perler_jax.weights import WeightParams

__all__ = ["fly_fit", "landmark_patterns", "thinned", "with_pooled_distance"]


def fly_fit(
    fly: FlyEmbryo, settings: PerlerSettings, keep: Path | None, *, held_out: bool = True, progress: bool
) -> PerlerFit:
    """The tuned fit, read from `keep` if it is there, made and kept there if not.

    Args:
        fly: the data.
        settings: of a fit that is made.
        keep: its file.
        held_out: False where neither held-out fits nor tuned weights are needed: what is made is not kept.
        progress: show progress bars.
    """
    if keep is not None and keep.is_file():
        return load_fit(keep, cells=fly.cells)
    fit = fit_perler(
        fly.cells,
        fly.reference,
        settings=settings,
        totals=fly.cells.obs["norm_total"].to_numpy(),
        weights=None if held_out else (0.5, 0.0),
        progress=progress,
    )
    if keep is not None and held_out:
        fit.save(keep)
    return fit


def with_pooled_distance(fit: PerlerFit, point: tuple[float, float]) -> PerlerFit:
    """The same EM and held-out fits, weighted with the distance of the released program.

    EM does not know of the distance, so nothing but the weights changes. Its columns `held_out` and
    `reconstruction` are scored anew; nothing is tuned here.

    Args:
        fit: with the fitted distance and its held-out fits.
        point: alpha and beta for the pooled distance; experiments/fly tunes them by the program's own grid.
    """
    assert fit.held_out is not None
    y, h = landmark_expression(fit)
    scorer = HeldOutScorer(
        fit.held_out, jnp.asarray(y, jnp.float32), jnp.asarray(h, jnp.float32), covariance="pooled"
    )
    pooled = dataclasses.replace(
        fit,
        settings=dataclasses.replace(fit.settings, covariance="pooled"),
        weights=WeightParams.single(*point),
        tuning=None,
    )
    columns: dict[str, Any] = {
        "fold": fit.scores["fold"],
        "held_out": scorer(np.array([point]))[0],
        "nested": np.nan,
        "reconstruction": pearson_by_gene(landmark_patterns(pooled), h),
        "alpha": np.nan,
        "beta": np.nan,
    }
    return dataclasses.replace(pooled, scores=pd.DataFrame(columns, index=fit.scores.index))


def landmark_patterns(fit: PerlerFit) -> np.ndarray:
    """(locations, landmarks) reconstruction with every landmark in the fit, log2."""
    return np.asarray(fit.reconstruct([str(name) for name in fit.landmarks]).X, np.float64)


def thinned(fly: FlyEmbryo, every: int) -> FlyEmbryo:
    """Every so many-th cell and location, for tests."""
    binary = fly.binary_reference
    return FlyEmbryo(
        fly.cells[::every].copy(),
        fly.reference[::every].copy(),
        fly.mirror[::every],
        None if binary is None else binary.iloc[::every],
    )
