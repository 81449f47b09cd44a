"""How sharp a posterior over origins may be, learned from cells whose origin is known.

The temperature is the one at which a credible region of mass q holds the truth in a share q of the cells; of
several spreads, each with its temperature, the one is taken that gives the true origins the greatest mean log
probability (as sharp as can be, subject to calibration: Gneiting, Balabdaoui and Raftery 2007). Where no
origin is known, see `agreement.py`.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq
from tqdm import tqdm

from perler_jax.em import initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.mixture import map_locations
from perler_jax.settings import device_precision
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.tissue import Midline, fold, location_spacing, nearest_locations

logger = logging.getLogger("perler_jax")

__all__ = ["SPREADS", "TEMPERATURES", "Calibration", "calibrate_on_cells", "calibrate_on_map"]

TEMPERATURES = (0.25, 64.0)  # below, a posterior is a point; above, it is the whole tissue
SPREADS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # in spacings of neighbouring locations
_LEAST = 20  # cells
_PRECISION = 0.01  # of the logarithm of the temperature
_LEFT_OUT = 0.1  # most of a map that is left out at a time

# Tempering -> levels of the true origins and their probabilities, see `OriginPosterior.levels`.
_Levels = Callable[[Tempering], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """A tempering, and what it was chosen from.

    Attributes:
        tempering: for `cell_positions`.
        table: by located cells, one row per spread: ``spread``, ``temperature``, ``coverage`` at it and
            ``log_score``, the mean ln probability of the true origins; by agreement, one row per split.
    """

    tempering: Tempering
    table: pd.DataFrame

    def __repr__(self) -> str:
        return f"Calibration({self.tempering}, of {len(self.table)} candidates or splits)"


def calibrate_on_cells(
    fit: PerlerFit | OriginPosterior,
    coordinates: Float[np.ndarray, "cells axes"],
    *,
    mass: float = 0.9,
    spreads: Sequence[float] = SPREADS,
    midline: Midline | None = None,
    n_cells: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Temper by cells of the fit whose origin is known.

    Args:
        fit: a fit, or the arrays of one.
        coordinates: where each cell of the fit came from; NaN where that is not known.
        mass: of the credible region that is to be right.
        spreads: candidates, in spacings of neighbouring locations.
        midline: where coordinates fold.
        n_cells: at most so many of the located cells are asked.
        seed: of their choice.
        progress: show a progress bar.

    Raises:
        PerlerInputError: on a wrong shape, or fewer than 20 located cells.
    """
    posterior = fit if isinstance(fit, OriginPosterior) else OriginPosterior.of_fit(fit)
    where = _coordinates(posterior)
    if posterior.sections is not None:
        raise PerlerInputError(
            "expected a reference of one section where cells have coordinates; found several, whose "
            "coordinates may repeat; calibrate by agreement, or on the map"
        )
    places = np.asarray(coordinates, np.float64)
    if places.shape != (len(posterior.cells), where.shape[1]):
        raise PerlerInputError(
            f"expected coordinates of shape ({len(posterior.cells)}, {where.shape[1]}), one row per cell of "
            f"the fit and NaN where nothing is known, found shape {places.shape}"
        )
    rows = _some(np.flatnonzero(np.isfinite(places).all(axis=1)), n_cells, seed)
    truth = nearest_locations(fold(places[rows], midline), fold(where, midline))
    lengths = location_spacing(where) * np.asarray(spreads, np.float64)
    return _calibrate(lambda at: posterior.levels(rows, truth, at), lengths, mass, progress)


def calibrate_on_map(
    fit: PerlerFit | OriginPosterior,
    *,
    mass: float = 0.9,
    spreads: Sequence[float] = SPREADS,
    n_cells: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Temper by the map itself, where its locations are single cells: each is placed on the others.

    A map's cell, its metagenes scaled to the mean and variance of the dissociated cells', stands for one of
    these. Its place is known, and it is put on a map that it is not part of: a tenth of the map is left out
    at a time.

    Args:
        fit: a fit, or the arrays of one. On an atlas of averages this is meaningless.
        mass: of the credible region that is to be right.
        spreads: candidates, in spacings of neighbouring locations.
        n_cells: at most so many of the map's cells are asked.
        seed: of their choice.
        progress: show a progress bar.

    Raises:
        PerlerInputError: on fewer than 20 locations.
    """
    posterior = fit if isinstance(fit, OriginPosterior) else OriginPosterior.of_fit(fit)
    where = _coordinates(posterior)
    with device_precision(posterior.precision):
        x = jnp.asarray(posterior.cell_metagenes, posterior.precision)
        r = jnp.asarray(posterior.reference_metagenes, posterior.precision)
        as_cells = np.asarray(map_locations(initial_params(x, r), r))
    asked = np.random.default_rng(seed).permutation(_some(np.arange(len(where)), n_cells, seed))
    parts, n_folds = [], math.ceil(len(asked) / (_LEFT_OUT * len(where)))
    for held in np.array_split(asked, n_folds):
        rest = np.delete(np.arange(len(where)), held)
        part = dataclasses.replace(
            posterior, cell_metagenes=as_cells, cells=posterior.locations, evidence=None
        ).take_locations(rest)
        parts.append((part, held, nearest_locations(where[held], where[rest])))

    def levels(at: Tempering) -> tuple[np.ndarray, np.ndarray]:
        found = [part.levels(held, truth, at) for part, held, truth in parts]
        return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])

    lengths = location_spacing(where) * np.asarray(spreads, np.float64)
    return _calibrate(levels, lengths, mass, progress)


def _calibrate(levels: _Levels, spreads: np.ndarray, mass: float, progress: bool) -> Calibration:
    if not 0 < mass < 1 or not len(spreads) or not (spreads >= 0).all():
        raise PerlerInputError(
            f"expected a mass between 0 and 1 and spreads >= 0, found mass {mass} and spreads {list(spreads)}"
        )
    rows = []
    with tqdm(spreads.tolist(), desc="calibration", unit="spread", disable=not progress, leave=False) as bar:
        for spread in bar:

            def excess(log_temperature: float, spread: float = spread) -> float:
                found, _ = levels(Tempering(float(np.exp(log_temperature)), spread))
                return float(np.mean(found < mass)) - mass

            temperature = float(np.exp(_root(excess, *np.log(TEMPERATURES))))
            found, own = levels(Tempering(temperature, spread))
            # An origin that underflows to probability zero is as bad as one can be told.
            score = float(np.log(np.maximum(own, np.finfo(own.dtype).tiny)).mean())
            rows.append((spread, temperature, float(np.mean(found < mass)), score))
    table = pd.DataFrame(rows, columns=["spread", "temperature", "coverage", "log_score"])
    best = table.loc[table["log_score"].idxmax()]
    if abs(best["coverage"] - mass) > 0.05:
        logger.warning(
            "the %.0f %% credible regions hold %.0f %% of the known origins at every temperature: do map and "
            "cells belong together?",
            *(100 * mass, 100 * best["coverage"]),
        )
    return Calibration(Tempering(float(best["temperature"]), float(best["spread"])), table)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is zero, or the end that is nearest to it."""
    if rising(low) >= 0:
        return low
    return high if rising(high) <= 0 else float(brentq(rising, low, high, xtol=_PRECISION))


def _some(candidates: np.ndarray, most: int, seed: int) -> np.ndarray:
    n = min(len(candidates), most)
    if n < _LEAST:
        raise PerlerInputError(
            f"expected at least {_LEAST} cells of known origin to calibrate on, found {n}: a share of 90 % "
            "cannot be told from fewer"
        )
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:most])


def _coordinates(posterior: OriginPosterior) -> Float[np.ndarray, "locations axes"]:
    if posterior.places is None:
        raise PerlerInputError(
            "expected coordinates of the locations, found none: give them with the reference"
        )
    return posterior.places
