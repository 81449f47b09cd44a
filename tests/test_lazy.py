"""Matrices that are read or computed piece by piece: dask arrays, AnnData read lazily."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from perler_jax.errors import PerlerInputError
from perler_jax.inputs import storage
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.perler import fit_perler
from perler_jax.simulation.simulate import simulate_embryo

da = pytest.importorskip("dask.array", reason="dask is not installed")

COUNTS = np.random.default_rng(0).poisson(0.6, (60, 40))
GENES = [f"g{i}" for i in range(40)]


class Watched:
    """A stand-in for a file: counts how much of it was asked for at once."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim, self.largest = (
            values,
            values.shape,
            values.dtype,
            2,
            0,
        )

    def __getitem__(self, key):
        block = self.values[key]
        self.largest = max(self.largest, block.shape[0])
        return block


def blocks_of(kind, chunks=(16, 40)):
    array = da.from_array(COUNTS, chunks=chunks)
    return array if kind is np.asarray else array.map_blocks(kind, dtype=COUNTS.dtype, meta=kind((0, 0)))


def check(cells):
    assert cells.is_backed
    assert cells.scale == "counts"
    np.testing.assert_array_equal(cells.dense(["g7", "g2"]), COUNTS[:, [7, 2]])
    np.testing.assert_array_equal(cells.dense(["g7", "g2"], [5, 1]), COUNTS[[5, 1]][:, [7, 2]])
    np.testing.assert_array_equal(cells.totals(), COUNTS.sum(axis=1))
    np.testing.assert_array_equal(cells.detected(), (COUNTS > 0).mean(axis=0))
    np.testing.assert_array_equal(cells.take_cells([9, 4]).dense(cells.genes), COUNTS[[9, 4]])
    blocks = [block for _, block in cells.gene_blocks(None, 9)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), COUNTS)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("chunks", [(16, 40), (60, 40), (7, 11)])
def test_dask_arrays(kind, chunks):
    if kind is not np.asarray and chunks == (7, 11):
        chunks = (7, 40)  # dask cannot put sparse blocks side by side
    check(as_cells(blocks_of(kind, chunks), genes=GENES))
    check(as_cells(anndata.AnnData(blocks_of(kind, chunks), var={"names": GENES}), gene_key="names"))
    reference = as_reference(blocks_of(kind, chunks), genes=GENES, scale="linear")
    np.testing.assert_array_equal(reference.values, COUNTS)


def test_a_dask_array_is_never_read_whole(monkeypatch):
    monkeypatch.setattr(storage, "_PIECE", 400)  # ten rows
    file = Watched(COUNTS)
    cells = as_cells(da.from_array(file, chunks=(4, 40), asarray=False), genes=GENES)
    check(cells)
    assert file.largest == 4
    rows = [window.stop - window.start for window, _, _ in storage.pieces(cells.values)]
    assert set(rows[:-1]) == {8}  # two blocks at a time: none is read twice


def test_broken_values_and_unknown_shapes_are_refused(monkeypatch):
    monkeypatch.setattr(storage, "_PIECE", 400)  # only the first ten rows are seen at once
    values = COUNTS.astype(float)
    values[50, 3] = np.nan
    cells = as_cells(da.from_array(values, chunks=(16, 40)), genes=GENES, scale="counts")
    with pytest.raises(PerlerInputError, match=r"NaN|finite"):
        cells.dense(["g3"])
    array = da.from_array(COUNTS, chunks=(16, 40))
    with pytest.raises(PerlerInputError, match=r"known shape; .*compute_chunk_sizes"):
        as_cells(array[array[:, 0] > 0], genes=GENES)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("sparse", [np.asarray, sp.csr_matrix])
def test_anndata_that_is_read_lazily(tmp_path, kind, sparse):
    pytest.importorskip("xarray")
    adata = anndata.AnnData(sparse(COUNTS), var={"names": GENES, "kind": ["a"] * 40})
    adata.obs["x"], adata.obs["y"] = np.arange(60.0), 1.0
    adata.obsm["spatial"] = np.arange(120.0).reshape(60, 2)
    path = tmp_path / f"x.{kind}"
    getattr(adata, f"write_{kind}")(path)
    lazy = anndata.experimental.read_lazy(path)
    check(as_cells(lazy, gene_key="names"))
    reference = as_reference(lazy, gene_key="names", scale="linear")
    np.testing.assert_array_equal(reference.coordinates, adata.obsm["spatial"])
    reference = as_reference(lazy, gene_key="names", scale="linear", coordinates="x,y")
    np.testing.assert_array_equal(reference.coordinates, adata.obs[["x", "y"]])


def test_a_fit_on_a_dask_array_is_the_fit_on_the_counts():
    embryo = simulate_embryo(seed=0, n_locations=100, n_cells=60, n_genes=40, n_landmarks=20)
    lazy = embryo.cells.copy()
    lazy.X = da.from_array(np.asarray(sp.csr_array(embryo.cells.X).todense()), chunks=(16, 40))
    one, other = (
        fit_perler(cells, embryo.reference, weights=(1.0, 0.0), progress=False).reconstruct()
        for cells in (embryo.cells, lazy)
    )
    np.testing.assert_allclose(one.X, other.X, rtol=1e-5)
