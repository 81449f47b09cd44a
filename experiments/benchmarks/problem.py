"""Inputs of any size with the shape of real ones; large tables of counts are drawn block by block."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import sparse

from perler_jax import simulate_embryo
from perler_jax.mixture import MappingParams
from perler_jax.simulation.simulate import SimulatedEmbryo

__all__ = ["draw_counts", "embryo", "sides", "write_counts"]

_BLOCK = 2000  # cells drawn at once


def sides(
    cells: int, locations: int, metagenes: int, dtype: str = "float32", seed: int = 0
) -> tuple[MappingParams, jax.Array, jax.Array]:
    """Parameters near an optimum, x (cells, metagenes) and r (locations, metagenes): what a kernel takes."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(locations, metagenes)).astype(dtype)
    expression = reference[rng.integers(0, locations, cells)]
    expression += 0.7 * rng.normal(size=(cells, metagenes)).astype(dtype)
    ones = jnp.ones(metagenes, dtype)
    return MappingParams(ones, 0 * ones, 0.7 * ones), jnp.asarray(expression), jnp.asarray(reference)


def embryo(
    *, cells: int, locations: int, genes: int, landmarks: int, seed: int, depth: float = 2000.0
) -> SimulatedEmbryo:
    """A simulated embryo; cells may be few where the many come from `draw_counts`."""
    return simulate_embryo(
        seed=seed,
        n_cells=cells,
        n_locations=locations,
        n_genes=genes,
        n_landmarks=landmarks,
        depth=depth,
        unspatial_fraction=min(0.3, 1 - (landmarks + 4) / genes),
    )


def draw_counts(truth: ad.AnnData, cells: int, depth: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Molecules of cells from random places: as many as Poisson says, each of a gene by its share there.

    This is Poisson noise as in `simulate_embryo`, without any array of cells x genes.
    """
    sensitivity = np.random.default_rng(0).lognormal(0.0, 0.9, truth.n_vars)  # the same in every block
    rate = sensitivity * (np.asarray(truth.X) + 0.05)
    cumulative = np.cumsum(rate, axis=1)
    cumulative /= cumulative[:, -1:]
    origin = rng.integers(0, truth.n_obs, cells)
    molecules = rng.poisson(depth, cells)
    genes = [
        np.searchsorted(cumulative[place], rng.random(number))
        for place, number in zip(origin, molecules, strict=True)
    ]
    rows = np.repeat(np.arange(cells), molecules)
    ones = np.ones(molecules.sum(), np.float32)
    return sparse.csr_matrix((ones, (rows, np.concatenate(genes))), shape=(cells, truth.n_vars))


def write_counts(path: Path, truth: ad.AnnData, cells: int, depth: float, seed: int) -> None:
    """An h5ad file of CSR counts, written block by block, so that no process ever holds it."""
    rng = np.random.default_rng(seed)
    names = pd.DataFrame(index=[f"cell{i + 1}" for i in range(cells)])
    empty = sparse.csr_matrix((cells, truth.n_vars), dtype=np.float32)
    ad.AnnData(empty, obs=names, var=truth.var[[]].copy()).write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        for start in range(0, cells, _BLOCK):
            block = draw_counts(truth, min(_BLOCK, cells - start), depth, rng)
            if start == 0:
                ad.io.write_elem(file, "X", block)
            else:
                ad.io.sparse_dataset(file["X"]).append(block)
