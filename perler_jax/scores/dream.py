"""Scores of the DREAM single-cell transcriptomics challenge (Tanevski et al. 2020, Life Science Alliance).

An entry is a panel of landmarks and ten ranked locations per cell. The silver standard is DistMap with all
84 landmarks: ten true locations per cell, best first; a cell whose best is tied is ambiguous and not scored.
With g the best true location of a cell, s the first submitted one, and the precision

    p = mean distance of the true locations to g / mean distance of the submitted locations to g:

    s1 = sum over cells of p / sum(p) * MCC over the panel of in situ at g and in situ at s
    s2 = mean of p
    s3 = sum over the panel of m / sum(m) * c, m and c being the MCC over cells of the binary RNA of the
         gene with its in situ at g, and at s

Two forms of s1 exist: the organisers' `score` divides p by its sum over ALL cells before it drops the
ambiguous ones (a perfect s1 is then below one: 0.779 on the fly data), their bootstrap drops first (perfect
is one). A perfect s3 is the mean of m weighted by m: it depends on the panel (0.57 for all 84).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Shaped

from perler_jax._typing import Bool, Float, Int
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.labels import name_positions
from perler_jax.scores.distmap import as_binary, best_locations, matthews_correlation

__all__ = ["DreamScores", "Form", "SilverStandard", "dream_scores", "silver_standard"]

Form = Literal["organisers", "drop_first"]


@dataclass(frozen=True)
class DreamScores:
    """s1: places where the panel looks right; s2: precision of the places; s3: agreement gene by gene."""

    s1: float
    s2: float
    s3: float


@dataclass(frozen=True, eq=False, repr=False)
class SilverStandard:
    """What the challenge took for the truth.

    Attributes:
        genes: (landmarks,) names.
        locations: (cells, ranks) indices of the true locations, best first.
        ambiguous: (cells,) the best location is tied: not scored.
        cells_on: (cells, landmarks) binary RNA.
        locations_on: (locations, landmarks) binary in situ.
        coordinates: (locations, axes) in any unit.
    """

    genes: Shaped[np.ndarray, " landmarks"]
    locations: Int[np.ndarray, "cells ranks"]
    ambiguous: Bool[np.ndarray, " cells"]
    cells_on: Bool[np.ndarray, "cells landmarks"]
    locations_on: Bool[np.ndarray, "locations landmarks"]
    coordinates: Float[np.ndarray, "locations axes"]

    def __repr__(self) -> str:
        return (
            f"SilverStandard({len(self.ambiguous)} cells, {self.ambiguous.sum()} ambiguous; "
            f"{len(self.coordinates)} locations, {len(self.genes)} landmarks)"
        )

    def take(self, cells: Any) -> SilverStandard:
        """The standard of some cells (indices or a mask), such as one fold's."""
        return SilverStandard(
            self.genes,
            self.locations[cells],
            self.ambiguous[cells],
            self.cells_on[cells],
            self.locations_on,
            self.coordinates,
        )


def silver_standard(
    cells_on: np.ndarray,
    locations_on: np.ndarray,
    coordinates: Float[np.ndarray, "locations axes"],
    genes: Sequence[str] | Shaped[np.ndarray, " landmarks"],
    *,
    n_ranks: int = 10,
) -> SilverStandard:
    """DistMap with every landmark.

    Args:
        cells_on: (cells, landmarks) binary RNA, 0/1 or boolean, e.g. from `binarise_cells`.
        locations_on: (locations, landmarks) binary in situ.
        coordinates: of the locations.
        genes: names of the landmarks.
        n_ranks: true locations per cell.

    Raises:
        PerlerInputError: tables that are not binary or do not fit each other.
    """
    cells, locations = as_binary(cells_on, "binary RNA"), as_binary(locations_on, "binary in situ")
    names = np.asarray(genes)
    if len(names) != cells.shape[1] or len(coordinates) != len(locations):
        raise PerlerInputError(
            f"expected {cells.shape[1]} names of landmarks and coordinates of {len(locations)} locations, "
            f"found {len(names)} names and {len(coordinates)} coordinates"
        )
    best = best_locations(cells, locations, n=n_ranks)
    return SilverStandard(names, best.locations, best.n_best > 1, cells, locations, coordinates)


def dream_scores(
    standard: SilverStandard,
    panel: Sequence[str] | Shaped[np.ndarray, " panel"],
    submitted: Int[np.ndarray, "_ ranks"],
    *,
    form: str = "organisers",
) -> DreamScores:
    """Score an entry.

    Args:
        standard: for the cells of the entry, in the same order.
        panel: names of the chosen landmarks.
        submitted: (cells, ranks) indices of locations, best first, distinct within a cell.
        form: "organisers" as their `score`, "drop_first" as their bootstrap; they differ in s1 only.

    Raises:
        PerlerInputError: cells, locations or genes that the standard does not have, repeated locations of a
            cell, no cell that is not ambiguous, or an unknown form.
    """
    columns = name_positions(list(panel), standard.genes, "landmark")
    _check_entry(standard, columns, submitted, form)
    scored = ~standard.ambiguous
    best, first = standard.locations[:, 0], submitted[:, 0]
    precision = _mean_distance(standard, standard.locations) / _mean_distance(standard, submitted)
    share = precision[scored] / (precision.sum() if form == "organisers" else precision[scored].sum())

    in_situ, rna = standard.locations_on[:, columns], standard.cells_on[scored][:, columns]
    true, guessed = in_situ[best[scored]], in_situ[first[scored]]
    of_gene = _agreement(true, rna, axis=0)
    # Undefined, not zero, where the true places agree with the RNA in no gene of the panel.
    weight = of_gene / of_gene.sum() if of_gene.sum() else np.full(len(columns), np.nan)
    return DreamScores(
        s1=float(share @ _agreement(true, guessed, axis=1)),
        s2=float(precision[scored].mean()),
        s3=float(weight @ _agreement(guessed, rna, axis=0)),
    )


def _mean_distance(
    standard: SilverStandard, locations: Int[np.ndarray, "cells ranks"]
) -> Float[np.ndarray, " cells"]:
    """Of some locations of each cell to the cell's best true one."""
    at, best = standard.coordinates[locations], standard.coordinates[standard.locations[:, :1]]
    return np.linalg.norm(at - best, axis=2).mean(axis=1)


def _agreement(first: np.ndarray, second: np.ndarray, *, axis: int) -> np.ndarray:
    """Matthews correlation along an axis of two binary tables."""
    both, one, other = (each.sum(axis=axis).astype(np.float64) for each in (first & second, first, second))
    return matthews_correlation(both, one, other, first.shape[axis])


def _check_entry(standard: SilverStandard, columns: np.ndarray, submitted: np.ndarray, form: str) -> None:
    if form not in get_args(Form):
        raise PerlerInputError(f"expected form {' or '.join(get_args(Form))}, found {form!r}")
    if len(np.unique(columns)) < max(2, len(columns)):
        raise PerlerInputError(f"expected at least 2 distinct landmarks in the panel, found {len(columns)}")
    n_cells, n_locations = len(standard.locations), len(standard.coordinates)
    if len(submitted) != n_cells or submitted.min() < 0 or submitted.max() >= n_locations:
        raise PerlerInputError(
            f"expected locations 0 to {n_locations - 1} of {n_cells} cells, found {len(submitted)} cells "
            f"with locations {submitted.min()} to {submitted.max()}: indices count from zero"
        )
    ordered = np.sort(submitted, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if submitted.shape[1] < 2 or repeated.any():
        raise PerlerInputError(
            f"expected two or more distinct locations per cell, found {submitted.shape[1]} with repeats in "
            f"{repeated.sum()} cells: submit each location once"
        )
    if standard.ambiguous.all():
        raise PerlerInputError("expected a cell whose best true location is not tied, found none")
