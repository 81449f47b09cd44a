"""The fly embryo as the DREAM challenge divides it: cells to choose and fit from, cells to place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from perler_jax import load_fly
from perler_jax.datasets import FlyEmbryo
from perler_jax.density import responsibilities
from perler_jax.em import fit_em, initial_params
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.tables import read_named
from perler_jax.metagenes import fit_metagenes
from perler_jax.preprocessing import centre, log_normalise, preprocess_cells, reference_landmarks
from perler_jax.scores.distmap import binarise_cells
from perler_jax.scores.dream import SilverStandard, silver_standard

__all__ = ["DreamEmbryo", "Fold", "load_dream_embryo", "place"]


@dataclass(frozen=True, eq=False)
class Fold:
    """Landmarks of training and of test cells: log2, less the means of the training cells.

    Attributes:
        number: of the fold.
        train: (training cells, landmarks).
        test: (test cells, landmarks).
        rows: (test cells,) which of all cells they are.
    """

    number: int
    train: np.ndarray
    test: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class DreamEmbryo:
    """What the challenge gives.

    Attributes:
        cells: counts of all genes.
        totals: (cells,) molecules.
        genes: (landmarks,) names.
        reference: (locations, landmarks) centred log2.
        coordinates: (locations, 3) micrometres.
        standard: DistMap with all landmarks.
        fold_of: (cells,) in which fold each cell is a test cell.
    """

    cells: CellExpression
    totals: np.ndarray
    genes: np.ndarray
    reference: np.ndarray
    coordinates: np.ndarray
    standard: SilverStandard
    fold_of: np.ndarray

    def fold(self, number: int) -> Fold:
        """One fold: nothing of the test cells enters what is done to the training cells."""
        test, train = np.flatnonzero(self.fold_of == number), np.flatnonzero(self.fold_of != number)
        done = preprocess_cells(self.cells.take_cells(train), "max_total", self.totals[train])
        assert done.target_total is not None
        known, means = centre(np.asarray(done.apply(self.cells.dense(self.genes, train)), np.float64))
        factors = done.target_total / self.totals[test]
        new = np.asarray(log_normalise(self.cells.dense(self.genes, test), factors), np.float64)
        return Fold(number, known, new - means, test)

    def folds(self, numbers: list[int]) -> Iterator[Fold]:
        """One after the other."""
        return (self.fold(number) for number in numbers)

    def all_cells(self) -> np.ndarray:
        """(cells, landmarks) centred log2 of every cell, for the panel that a user would take."""
        done = preprocess_cells(self.cells, "max_total", self.totals)
        return centre(np.asarray(done.apply(self.cells.dense(self.genes)), np.float64))[0]


def load_dream_embryo(folder: Path, *, quantile: float, n_ranks: int) -> DreamEmbryo:
    """Read the data and make the silver standard.

    Args:
        folder: of the fly data.
        quantile: at which DistMap binarises.
        n_ranks: true locations per cell.
    """
    fly: FlyEmbryo = load_fly(folder)
    assert fly.binary_reference is not None
    genes = fly.reference.var_names.to_numpy().astype(str)
    cells, atlas = as_cells(fly.cells), as_reference(fly.reference)
    totals = fly.cells.obs["norm_total"].to_numpy().astype(np.float64)
    in_situ = fly.binary_reference[genes].to_numpy().astype(bool)
    # Thresholds are quantiles of each gene: any increasing scale gives the same.
    rna = binarise_cells(cells.dense(genes) / totals[:, None], in_situ, quantiles=(quantile,)).on
    coordinates = np.asarray(fly.reference.obsm["spatial"], np.float64)
    fold_of = read_named(folder / "dream_10fold.tsv.gz", "cell")["test_fold"]
    return DreamEmbryo(
        cells=cells,
        totals=totals,
        genes=genes,
        reference=reference_landmarks(atlas, genes),
        coordinates=coordinates,
        standard=silver_standard(rna, in_situ, coordinates, genes, n_ranks=n_ranks),
        fold_of=fold_of.loc[cells.cells].to_numpy(),
    )


def place(fold: Fold, embryo: DreamEmbryo, panel: np.ndarray, n_metagenes: int) -> np.ndarray:
    """(test cells, locations) posterior by the method as it is: PLSC and EM of training cells and panel."""
    columns = np.isin(embryo.genes, panel)
    known, new, reference = fold.train[:, columns], fold.test[:, columns], embryo.reference[:, columns]
    maps = fit_metagenes(known, reference, n_metagenes=min(n_metagenes, int(columns.sum()) - 1))
    x, x_new = (jnp.asarray(side @ maps.cell_loadings, jnp.float32) for side in (known, new))
    r = jnp.asarray(reference @ maps.reference_loadings, jnp.float32)
    return np.asarray(responsibilities(fit_em(x, r, initial_params(x, r)).params, x_new, r))
