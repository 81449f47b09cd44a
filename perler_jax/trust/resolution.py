"""How precisely landmarks place a cell, against how many there are (Supplementary Fig. 13 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.trust.origins import Tempering
from perler_jax.trust.positions import cell_positions
from perler_jax.trust.subsets import landmark_expression, refit_landmarks

__all__ = ["resolution_curve"]

_USUAL = (5, 10, 20, 30, 40, 60, 80)


def resolution_curve(
    fit: PerlerFit,
    n_landmarks: Sequence[int] | None = None,
    *,
    n_draws: int = 5,
    seed: int,
    tempering: Tempering | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Mass of the posterior near its mode, by random subsets of the landmarks.

    For every subset metagenes and EM are made anew; nothing is tuned, as origins depend on neither alpha nor
    beta.

    Args:
        fit: a fit with its expression; all its landmarks are the last point.
        n_landmarks: sizes of the subsets, at least 2; None is 5, 10, 20, 30, 40, 60, 80 and all.
        n_draws: random subsets of each size; all landmarks are drawn once.
        seed: of the draws.
        tempering: of every posterior; None is the paper's (temperature 1), which is too sure.
        progress: show a progress bar.

    Returns:
        One row per subset and distance: ``n_landmarks``, ``draw``, ``spacings`` (distance from the mode in
        spacings of neighbouring locations), ``radius`` (the same in the unit of the coordinates), ``mass``
        (mean over cells), ``share_confident`` (of cells with more than half of their mass there),
        ``effective_locations`` (median over cells).

    Raises:
        PerlerInputError: on a fit without expression or coordinates, or sizes out of range.
    """
    everything = len(fit.landmarks)
    sizes = [n for n in _USUAL if n < everything] if n_landmarks is None else list(n_landmarks)
    if n_draws < 1 or not all(2 <= n <= everything for n in sizes):
        raise PerlerInputError(
            f"expected n_draws >= 1 and numbers of landmarks between 2 and {everything}, found "
            f"n_draws={n_draws} and {sizes}"
        )
    if fit.reference.coordinates is None:
        raise PerlerInputError(
            "expected coordinates of the locations, found none: give them with the reference"
        )
    y, h = landmark_expression(fit)
    sizes = sorted({*sizes, everything})
    draws = [(n, draw) for n in sizes for draw in range(1 if n == everything else n_draws)]
    rng = np.random.default_rng(seed)
    rows = []
    for n, draw in tqdm(draws, desc="resolution", unit="fit", disable=not progress, leave=False):
        keep = np.zeros(everything, bool)
        keep[rng.permutation(everything)[:n]] = True
        # All metagenes of a subset, up to as many as the fit has.
        posterior = refit_landmarks(fit, y, h, keep, min(n, fit.cell_metagenes.shape[1]))
        found = cell_positions(posterior, tempering=tempering or Tempering(), medoid=False)
        typical = float(found.table["effective_locations"].median())
        for column in found.table.filter(regex="^within_").columns:
            spacings = int(column.split("_")[1])
            within = found.table[column]
            radius = spacings * (found.spacing or math.nan)
            mass, confident = float(within.mean()), float((within > 0.5).mean())
            rows.append((n, draw, spacings, radius, mass, confident, typical))
    columns = [
        "n_landmarks",
        "draw",
        "spacings",
        "radius",
        "mass",
        "share_confident",
        "effective_locations",
    ]
    return pd.DataFrame(rows, columns=columns)
