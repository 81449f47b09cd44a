"""DistMap (Karaiskos et al. 2017, Science 358:194): cells placed by the correlation of binary vectors.

Written anew from its published description, as a baseline and as what the DREAM challenge took for the truth:

1. each landmark of the cells is on above a quantile of its positive values; the quantile, one for all
   landmarks, is the one at which the landmarks correlate among cells as they do among locations;
2. a cell and a location agree by Matthews' correlation of their binary landmarks, which from the counts
   (n landmarks, a on in the cell, b on at the location, c on in both) is
   (n c - a b) / sqrt(a (n - a) b (n - b)): one matrix product gives every c;
3. a gene's virtual in situ q is its mean over the cells that express it, weighted by exp(correlation), shown
   as q / (1 + q) where it is among the largest.

Everything of the size cells x locations exists one tile of cells at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perler_jax._typing import Bool, Float, Int
from perler_jax.errors import PerlerInputError

__all__ = [
    "DREAM_QUANTILES",
    "BestLocations",
    "Binarisation",
    "as_binary",
    "best_locations",
    "binarise_cells",
    "mapping_scores",
    "matthews_correlation",
    "virtual_in_situ",
]

DREAM_QUANTILES = tuple(round(0.15 + 0.01 * step, 2) for step in range(36))
"""0.15, 0.16, ... 0.50: what the DREAM challenge let DistMap choose from."""

_TILE_ENTRIES = 2_000_000  # of cells x locations: 16 MB of float64

# That sizes agree is checked in the functions, which say what to do.
CellsOn = Bool[np.ndarray, "cells landmarks"]
LocationsOn = Bool[np.ndarray, "locations _"]


@dataclass(frozen=True, eq=False, repr=False)
class Binarisation:
    """Which landmarks are on in which cells.

    Attributes:
        on: (cells, landmarks) expression above the threshold.
        thresholds: (landmarks,) in the unit of the expression; ``values > thresholds`` binarises new cells.
        quantile: of the positive values of each landmark.
        mismatch: (quantiles,) root mean squared difference of the landmark correlations from the reference's,
            for every quantile that was tried.
    """

    on: Bool[np.ndarray, "cells landmarks"]
    thresholds: Float[np.ndarray, " landmarks"]
    quantile: float
    mismatch: Float[np.ndarray, " quantiles"]

    def __repr__(self) -> str:
        cells, landmarks = self.on.shape
        return f"Binarisation({cells} cells x {landmarks} landmarks, quantile {self.quantile:g})"


@dataclass(frozen=True, eq=False, repr=False)
class BestLocations:
    """The best locations of each cell.

    Attributes:
        locations: (cells, ranks) indices, best first; equal scores in the order of the locations.
        scores: (cells, ranks) their Matthews correlations.
        n_best: (cells,) how many locations share the largest score; above one, the place is ambiguous.
    """

    locations: Int[np.ndarray, "cells ranks"]
    scores: Float[np.ndarray, "cells ranks"]
    n_best: Int[np.ndarray, " cells"]

    def __repr__(self) -> str:
        cells, ranks = self.locations.shape
        return f"BestLocations({ranks} of each of {cells} cells, {(self.n_best > 1).sum()} ambiguous)"


def binarise_cells(
    expression: Float[np.ndarray, "cells landmarks"],
    locations_on: LocationsOn,
    *,
    quantiles: tuple[float, ...] = DREAM_QUANTILES,
) -> Binarisation:
    """Binarise cells so that landmarks correlate among them as among the locations.

    Args:
        expression: non-negative expression of the landmarks, NOT centred; zero is "not seen".
        locations_on: (locations, landmarks) the binary reference.
        quantiles: what to choose from.

    Raises:
        PerlerInputError: numbers of landmarks that differ, negative values, a landmark that no cell
            expresses, or quantiles outside 0 to 1.

    Note: a landmark that is on in every or no cell has no correlation; it counts as zero.
    """
    _require_landmarks(expression, locations_on)
    if not (len(quantiles) and all(0 <= quantile < 1 for quantile in quantiles)):
        raise PerlerInputError(f"expected quantiles from 0 to below 1, found {quantiles}: give at least one")
    if not np.all((expression >= 0) & (expression < np.inf)):
        raise PerlerInputError(
            "expected finite, non-negative expression, found other values: binarise before centring"
        )
    silent = ~(expression > 0).any(axis=0)
    if silent.any():
        raise PerlerInputError(
            f"expected every landmark in at least one cell, found {silent.sum()} in none (columns "
            f"{np.flatnonzero(silent)[:5].tolist()}): leave these out of cells and locations"
        )
    positive = np.where(expression > 0, expression, np.nan)
    thresholds = np.nanquantile(positive, quantiles, axis=0)
    target = _pair_correlations(locations_on)
    mismatch = np.array(
        [
            np.sqrt(np.mean((_pair_correlations(expression > each) - target) ** 2, dtype=np.float64))
            for each in thresholds
        ]
    )
    best = int(mismatch.argmin())
    return Binarisation(expression > thresholds[best], thresholds[best], float(quantiles[best]), mismatch)


def matthews_correlation(
    both: Float[np.ndarray, "*shape"] | Int[np.ndarray, "*shape"],
    first: Float[np.ndarray, "*#shape"] | Int[np.ndarray, "*#shape"],
    second: Float[np.ndarray, "*#shape"] | Int[np.ndarray, "*#shape"],
    n: int,
) -> Float[np.ndarray, "*shape"]:
    """Matthews' correlation of binary vectors of length n from how often both, the first, the second are on.

    Zero where one of them is constant.
    """
    # Whole numbers, exact in float64: equal counts give equal scores, so that ties are ties.
    scale = np.sqrt(first * (n - first) * 1.0) * np.sqrt(second * (n - second) * 1.0)
    difference = n * both - first * second * 1.0
    return np.divide(difference, scale, out=np.zeros(difference.shape), where=scale > 0)


def mapping_scores(cells_on: CellsOn, locations_on: LocationsOn) -> Float[np.ndarray, "cells locations"]:
    """Matthews correlation of every cell with every location: DENSE, for chosen cells only.

    Raises:
        PerlerInputError: numbers of landmarks that differ.
    """
    _require_landmarks(cells_on, locations_on)
    both = cells_on.astype(np.float32) @ locations_on.T.astype(np.float32)
    first, second = cells_on.sum(axis=1)[:, None], locations_on.sum(axis=1)[None, :]
    return matthews_correlation(both.astype(np.float64), first, second, cells_on.shape[1])


def best_locations(
    cells_on: CellsOn, locations_on: LocationsOn, *, n: int = 10, tile: int | None = None
) -> BestLocations:
    """The best locations of each cell by Matthews correlation.

    Args:
        cells_on: (cells, landmarks) from `binarise_cells`.
        locations_on: (locations, landmarks).
        n: how many of each cell.
        tile: cells at a time; None chooses.

    Raises:
        PerlerInputError: numbers of landmarks that differ, or n below 1 or above the number of locations.
    """
    if not 1 <= n <= len(locations_on):
        raise PerlerInputError(f"expected 1 to {len(locations_on)} ranks (locations), found {n}")
    found = []
    for rows in _tiles(len(cells_on), len(locations_on), tile):
        scores = mapping_scores(cells_on[rows], locations_on)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        best = np.take_along_axis(scores, order, axis=1)
        found.append((order, best, (scores == best[:, :1]).sum(axis=1)))
    locations, scores, n_best = (np.concatenate(each) for each in zip(*found, strict=True))
    return BestLocations(locations, scores, n_best)


def virtual_in_situ(
    cells_on: CellsOn,
    locations_on: LocationsOn,
    expression: Float[np.ndarray, "_ genes"],
    *,
    threshold: float = 0.75,
    tile: int | None = None,
) -> Float[np.ndarray, "locations genes"]:
    """DistMap's prediction of genes.

    Args:
        cells_on: (cells, landmarks) from `binarise_cells`. To predict a landmark as if it had not been
            measured, leave its column out on both sides.
        locations_on: (locations, landmarks).
        expression: (cells, genes) log expression, not centred, of what to predict, landmarks or not.
        threshold: quantile over locations below which a gene is shown as zero; 0 shows all.
        tile: cells at a time; None chooses.

    Returns:
        q / (1 + q), from 0 to 1; zero for a gene that no cell expresses.

    Raises:
        PerlerInputError: numbers of cells or landmarks that differ, or a threshold outside 0 to 1.
    """
    if len(expression) != len(cells_on):
        raise PerlerInputError(
            f"expected expression of the {len(cells_on)} binarised cells, found {len(expression)} cells"
        )
    if not 0 <= threshold <= 1:
        raise PerlerInputError(f"expected a threshold from 0 to 1, found {threshold}")
    n_genes = expression.shape[1]
    values = np.concatenate([expression, expression > 0], axis=1).astype(np.float64)
    sums = np.zeros((len(locations_on), 2 * n_genes))
    for rows in _tiles(len(cells_on), len(locations_on), tile):
        sums += np.exp(mapping_scores(cells_on[rows], locations_on)).T @ values[rows]
    total, weight = sums[:, :n_genes], sums[:, n_genes:]
    mean = np.divide(total, weight, out=np.zeros(total.shape), where=weight > 0)
    shown = mean / (1 + mean)
    return np.where(shown < np.quantile(shown, threshold, axis=0), 0.0, shown)


def as_binary(values: np.ndarray, what: str) -> Bool[np.ndarray, "rows landmarks"]:
    """A table of zeros and ones as booleans.

    Raises:
        PerlerInputError: other values.
    """
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise PerlerInputError(f"expected {what} of 0 and 1, found other values: threshold them first")
    return values.astype(bool)


def _require_landmarks(cells: np.ndarray, locations: np.ndarray) -> None:
    if cells.shape[1] != locations.shape[1]:
        raise PerlerInputError(
            f"expected the same landmarks in cells and locations, found {cells.shape[1]} and "
            f"{locations.shape[1]} columns: give both in the order of one list of landmarks"
        )
    if cells.shape[1] < 2:
        raise PerlerInputError(f"expected at least 2 landmarks to correlate, found {cells.shape[1]}")


def _pair_correlations(on: Bool[np.ndarray, "rows landmarks"]) -> Float[np.ndarray, " pairs"]:
    """Correlation of each pair of landmarks over the rows, zero where one is constant."""
    counts = on.astype(np.float64)
    sums = counts.sum(axis=0)
    table = matthews_correlation(counts.T @ counts, sums[:, None], sums[None, :], len(on))
    return table[np.tril_indices(len(table), -1)]


def _tiles(n_cells: int, n_locations: int, tile: int | None) -> Iterator[slice]:
    size = tile or max(1, _TILE_ENTRIES // n_locations)
    return (slice(start, start + size) for start in range(0, n_cells, size))
