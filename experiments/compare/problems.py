"""Data sets as problems: cells that lost their place, a map, folds of genes, the truth where it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from experiments.compare.contract import Cells, Reference, Task
from perler_jax import load_fly, simulate_embryo
from perler_jax.datasets import load_osmfish, load_seqfish_pair, load_starmap_pair
from perler_jax.held_out.folds import make_folds
from perler_jax.osmfish_pair import load_osmfish_pair

__all__ = ["PROBLEMS", "Problem", "located_halves", "make_problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """One data set under one protocol.

    Attributes:
        name: of the data set.
        cells: all their genes; those of the map come first, in the order of its columns.
        values: (locations, genes) of the map, as published, not negative.
        totals: (locations,) molecules over all genes that the map has, where its values are counts and are
            brought to one total; None takes the values as they are.
        coordinates: (locations, axes).
        unit: of the coordinates.
        folds: gene indices of each fold.
        true_positions: (cells, axes), or None.
        binary: (locations, genes) the published on and off of the map, or None.
    """

    name: str
    cells: Cells
    values: np.ndarray
    totals: np.ndarray | None
    coordinates: np.ndarray
    unit: str
    folds: list[np.ndarray]
    true_positions: np.ndarray | None = None
    binary: np.ndarray | None = None

    @property
    def genes(self) -> np.ndarray:
        """Names of the shared genes, those of the map's columns."""
        return self.cells.genes[: self.values.shape[1]]

    @property
    def truth(self) -> np.ndarray:
        """(locations, genes) log2(1 + expression): what predictions are compared with."""
        return np.log2(1.0 + self._normalised(np.empty(0, int)))

    def task(self, fold: int) -> Task:
        """The task of one fold: its genes' maps, and their share of each location's total, are gone."""
        held = self.folds[fold]
        kept = np.setdiff1d(np.arange(len(self.genes)), held)
        linear = self._normalised(held)[:, kept]
        reference = Reference(
            linear,
            np.log2(1.0 + linear),
            None if self.totals is None else self.values[:, kept],
            self.genes[kept],
            self.coordinates,
            None if self.binary is None else self.binary[:, kept],
        )
        return Task(self.cells, reference, self.genes[held])

    def first_folds(self, n: int) -> Problem:
        """The same with fewer folds: the genes of the others are only landmarks."""
        return replace(self, folds=self.folds[:n])

    def _normalised(self, held: np.ndarray) -> np.ndarray:
        if self.totals is None:
            return self.values
        totals = self.totals - self.values[:, held].sum(axis=1)
        return self.values * (np.median(totals) / np.maximum(totals, 1.0))[:, None]


def make_problem(name: str, data: Path | None, settings: Mapping[str, Any]) -> Problem:
    """A problem by name.

    Args:
        name: see `PROBLEMS`.
        data: folder of the data set; the simulated one has none.
        settings: ``seed`` and ``folds`` (0 is one gene at a time).
    """
    return PROBLEMS[name](data, settings)


def _fly(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    fly = load_fly(_given(data))
    totals = fly.cells.obs["norm_total"].to_numpy(np.float64)
    found = _paired("fly", fly.cells, totals.max() / totals, fly.reference, None, "µm", settings)
    if fly.binary_reference is None:
        return found
    return replace(found, binary=fly.binary_reference[found.genes.tolist()].to_numpy() == 1)


def _starmap_tasic(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    pair = load_starmap_pair(_given(data))
    totals = _totals(pair.reference)
    return _paired("starmap_tasic", pair.cells, None, pair.reference, totals, "pixels", settings)


def _seqfish_tasic(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    pair = load_seqfish_pair(_given(data))
    return _paired("seqfish_tasic", pair.cells, None, pair.reference, None, "pixels", settings)


def _starmap_split(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    return located_halves("starmap_split", load_starmap_pair(_given(data)).reference, "pixels", settings)


def _osmfish_split(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    return located_halves("osmfish_split", load_osmfish(_given(data)), "µm", settings)


def _osmfish_allen(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    pair = load_osmfish_pair(_given(data))
    totals = _totals(pair.cells)
    factors, of_map = np.median(totals) / totals, _totals(pair.reference)
    return _paired("osmfish_allen", pair.cells, factors, pair.reference, of_map, "pixels", settings)


def _simulated(data: Path | None, settings: Mapping[str, Any]) -> Problem:
    embryo = simulate_embryo(
        seed=settings["seed"], n_locations=500, n_cells=400, n_genes=60, n_landmarks=30, unspatial_fraction=0
    )
    totals = _totals(embryo.cells)
    found = _paired("simulated", embryo.cells, totals.max() / totals, embryo.reference, None, "µm", settings)
    return replace(found, true_positions=found.coordinates[embryo.cells.obs["true_location"]])


PROBLEMS: dict[str, Callable[[Path | None, Mapping[str, Any]], Problem]] = {
    "fly": _fly,
    "starmap_tasic": _starmap_tasic,
    "starmap_split": _starmap_split,
    "osmfish_split": _osmfish_split,
    "osmfish_allen": _osmfish_allen,
    "seqfish_tasic": _seqfish_tasic,
    "simulated": _simulated,
}


def located_halves(name: str, located: ad.AnnData, unit: str, settings: Mapping[str, Any]) -> Problem:
    """Located cells cut in two at random: one half plays dissociated cells whose true places are known."""
    order = np.random.default_rng(settings["seed"]).permutation(located.n_obs)
    lost, kept = (located[np.sort(half)] for half in np.array_split(order, 2))
    totals = _totals(lost)
    found = _paired(name, lost, np.median(totals) / totals, kept, _totals(kept), unit, settings)
    return replace(found, true_positions=np.asarray(lost.obsm["spatial"], np.float64))


def _paired(
    name: str,
    cells: ad.AnnData,
    factors: np.ndarray | None,
    reference: ad.AnnData,
    totals: np.ndarray | None,
    unit: str,
    settings: Mapping[str, Any],
) -> Problem:
    """Cells with all their genes, the map with those of them that it has.

    ``factors``: (cells,) that bring the cells' counts to one total; None where they are no counts.
    """
    genes = np.array([gene for gene in reference.var_names if gene in cells.var_names])
    rest = cells.var_names[~cells.var_names.isin(genes)].to_numpy(str)
    names = np.concatenate([genes, rest])
    expression = _dense(cells[:, names].X)
    return Problem(
        name=name,
        cells=Cells(
            np.log2(1.0 + (expression if factors is None else expression * factors[:, None])),
            None if factors is None else expression,
            names,
        ),
        values=_dense(reference[:, genes].X),
        totals=totals,
        coordinates=np.asarray(reference.obsm["spatial"], np.float64),
        unit=unit,
        folds=make_folds(len(genes), settings["folds"] or None, seed=settings["seed"]),
    )


def _totals(table: ad.AnnData) -> np.ndarray:
    """Molecules per row; at least one, so that empty rows stay empty."""
    return np.maximum(np.asarray(table.X.sum(axis=1), np.float64).ravel(), 1.0)


def _dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float64)


def _given(data: Path | None) -> Path:
    if data is None:
        raise ValueError("expected the folder of the data set, found none")
    return data
