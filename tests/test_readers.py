"""Kinds of files that users bring: small ones of the real shape, whole and broken."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.inputs.readers.known import READERS, find_reader

CELLS = ["AAC-1", "AAG-1", "ATT-1", "CCC-1"]
GENES = ["eve", "nan", "E(spl)m5-HLH"]
IDS = ["FBgn1", "FBgn2", "FBgn3"]
COUNTS = np.array([[0, 3, 1], [2, 0, 0], [5, 4, 1], [1, 0, 2]])


@pytest.fixture
def adata():
    """Counts in a layer, logarithms in X, all genes in .raw and other names in var."""
    table = pd.DataFrame(COUNTS, CELLS, GENES)
    whole = anndata.AnnData(sp.csr_matrix(COUNTS), table[[]], table.T[[]].assign(gene_ids=IDS))
    part = whole[:, :2].copy()
    part.X = np.log1p(part.X.toarray())
    part.layers["counts"] = sp.csr_matrix(COUNTS[:, :2])
    part.raw = whole
    part.obsm["spatial"] = np.arange(8.0).reshape(4, 2)
    return part


def write_10x_h5(path, version=3, kinds=("Gene Expression",) * 3, symbols=GENES, cells=CELLS):
    """As Cell Ranger writes it: columns of features x barcodes, texts of fixed width."""
    columns = sp.csr_matrix(COUNTS)
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        group = file.create_group("matrix" if version == 3 else "dm6")
        group["data"], group["indices"] = columns.data.astype(np.int32), columns.indices.astype(np.int64)
        group["indptr"], group["shape"] = columns.indptr.astype(np.int64), np.array([3, 4], np.int32)
        group["barcodes"] = np.array(cells, "S18")
        names = group.create_group("features") if version == 3 else group
        names["id" if version == 3 else "genes"] = np.array(IDS, "S256")
        names["name" if version == 3 else "gene_names"] = np.array(symbols, "S256")
        if version == 3:
            names["feature_type"] = np.array(kinds, "S256")
            names["genome"] = np.array(["dm6"] * 3, "S256")
            names["_all_tag_keys"] = np.array(["genome"], "S256")
    return path


def assert_the_cells(cells, genes=GENES):
    assert (cells.cells.tolist(), cells.genes.tolist(), cells.scale) == (CELLS, list(genes), "counts")
    np.testing.assert_array_equal(cells.dense(genes), COUNTS[:, : len(genes)])


@pytest.mark.parametrize("version", [2, 3])
def test_10x_h5(tmp_path, version):
    path = write_10x_h5(tmp_path / "filtered_feature_bc_matrix.h5", version)
    cells = read_cells(path)
    assert sp.issparse(cells.values)
    assert_the_cells(cells)
    assert read_cells(path, landmarks=["FBgn3", "FBgn1"]).genes.tolist() == IDS
    assert read_cells(path, gene_key="gene_ids").genes.tolist() == IDS
    assert read_reference(path).values.tolist() == COUNTS.tolist()


def test_10x_h5_takes_genes_only_and_tells(tmp_path, caplog):
    kinds = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    cells = read_cells(write_10x_h5(tmp_path / "a.h5", kinds=kinds))
    assert cells.genes.tolist() == ["eve", "E(spl)m5-HLH"]
    np.testing.assert_array_equal(cells.dense(cells.genes), COUNTS[:, [0, 2]])
    assert "left out 1 features that are not Gene Expression (Antibody Capture)" in caplog.text
    cells = read_cells(write_10x_h5(tmp_path / "b.h5", symbols=["eve", "Ctr", "Ctr"]))
    assert cells.genes.tolist() == ["eve", "FBgn2", "FBgn3"]
    assert "2 genes share a symbol" in caplog.text
    with pytest.raises(PerlerFileError, match=r"the kind 'Gene Expression' .*found Antibody Capture"):
        read_cells(write_10x_h5(tmp_path / "c.h5", kinds=["Antibody Capture"] * 3))


def broken(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["matrix"].__delitem__("indptr"), "well-formed file .*indptr"),
        (lambda file: file["matrix/features"].__delitem__("name"), "well-formed file .*name"),
        (replaced("matrix/indices", np.full(8, 9)), "well-formed file .*indices"),
        (replaced("matrix/data", np.arange(3)), "well-formed file"),
        (
            replaced("matrix/barcodes", np.array(CELLS[:3], "S18")),
            "3 features and 4 barcodes .*found 3 and 3",
        ),
        (lambda file: file.move("matrix", "X"), "the group matrix .*found X; give filtered_feature_bc"),
        (lambda file: file.clear(), "found an empty file"),
    ],
)
def test_broken_10x_h5(tmp_path, change, message):
    path = broken(write_10x_h5(tmp_path / "a.h5"), change)
    with pytest.raises(PerlerFileError, match=message) as caught:
        read_cells(path)
    assert "\n" not in str(caught.value)


def test_10x_h5_of_two_genomes_or_cut_short(tmp_path):
    path = broken(write_10x_h5(tmp_path / "a.h5", 2), lambda file: file.copy(file["dm6"], file, "GRCh38"))
    with pytest.raises(PerlerFileError, match=r'one genome in .*found GRCh38, dm6; .*genome="GRCh38"'):
        read_cells(path)
    whole = write_10x_h5(tmp_path / "b.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PerlerFileError, match="complete, well-formed file"):
        read_cells(tmp_path / "b.h5")


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("backed", [False, True])
def test_anndata_on_disk(tmp_path, adata, kind, backed):
    path = tmp_path / f"x.{kind}"
    getattr(adata, {"h5ad": "write_h5ad", "zarr": "write_zarr"}[kind])(path)
    cells = read_cells(path, layer="counts", backed=backed)
    assert cells.is_backed == (backed and kind == "zarr")  # of an h5ad, AnnData leaves X alone in the file
    assert_the_cells(cells, GENES[:2])
    assert cells.layer == "counts"
    assert read_cells(path, scale="log1p", backed=backed).dense(["eve"]).max() == pytest.approx(np.log(6))
    raw = read_cells(path, use_raw=True, backed=backed)
    assert_the_cells(raw)
    assert read_cells(path, use_raw=True, gene_key="gene_ids", backed=backed).genes.tolist() == IDS
    np.testing.assert_array_equal(
        read_reference(path, layer="counts").coordinates, np.arange(8.0).reshape(4, 2)
    )


@pytest.mark.parametrize("sparse", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_a_backed_zarr_is_read_by_pieces(tmp_path, sparse):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (40, 30))
    anndata.AnnData(sparse(counts)).write_zarr(tmp_path / "x.zarr")
    cells = read_cells(tmp_path / "x.zarr", backed=True)
    assert cells.is_backed
    np.testing.assert_array_equal(cells.dense(cells.genes[[4, 2]]), counts[:, [4, 2]])
    np.testing.assert_array_equal(cells.totals(), counts.sum(axis=1))
    np.testing.assert_array_equal(cells.take_cells([3, 1]).dense(cells.genes), counts[[3, 1]])
    blocks = [block for _, block in cells.gene_blocks(None, 7)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), counts)


def test_broken_zarr(tmp_path, adata):
    path = tmp_path / "x.zarr"
    adata.X = sp.csr_matrix(adata.X)
    adata.write_zarr(path)
    lost = next(each for each in (path / "X" / "data").rglob("*") if each.is_file() and each.suffix != ".json"
                and not each.name.startswith("."))  # fmt: skip
    lost.unlink()  # zarr would read zeros
    with pytest.raises(PerlerFileError, match=r"all 1 pieces of X/data in .*found 1 missing"):
        read_cells(path)
    lost.write_bytes(b"nothing of the kind")
    with pytest.raises(PerlerFileError, match="complete zarr folder"):
        read_cells(path)
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w").create_group("images")
    with pytest.raises(PerlerFileError, match=r"an AnnData or a SpatialData in .*images"):
        read_cells(tmp_path / "other.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(PerlerFileError, match=r"found a \.zarr with nothing"):
        read_cells(tmp_path / "empty.zarr")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cells.rds", r'zellkonverter::writeH5AD\(sce, "cells.h5ad"\).*anndataR::write_h5ad'),
        ("cells.RData", "save it from R as h5ad"),
        ("cells.h5Seurat", r"SeuratDisk::Convert"),
        ("cells.loom", r"anndata\.io\.read_loom"),
        ("cells.xlsx", "save the sheet as csv"),
        ("matrix.mtx.gz", "give the folder that holds matrix.mtx"),
        ("cells.tar.gz", "unpack it first"),
        ("cells.dat", "convert it, or give it the ending"),
    ],
)
def test_what_is_not_read_says_what_to_do(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PerlerFileError, match=advice):
        read_cells(tmp_path / name)


def test_options_that_mean_nothing_are_refused(tmp_path, adata):
    adata.write_h5ad(tmp_path / "x.h5ad")
    write_10x_h5(tmp_path / "x.h5")
    pd.DataFrame(COUNTS, CELLS, GENES).to_csv(tmp_path / "x.csv")
    for name, options in (
        ("x.csv", {"gene_key": "gene_ids"}),
        ("x.csv", {"use_raw": True}),
        ("x.h5", {"layer": "counts"}),
        ("x.h5", {"backed": True}),
    ):
        with pytest.raises(PerlerInputError, match=f"an h5ad file or .*with {next(iter(options))}="):
            read_cells(tmp_path / name, **options)
    with pytest.raises(PerlerInputError, match="both layer='counts' and use_raw=True"):
        read_cells(tmp_path / "x.h5ad", layer="counts", use_raw=True)


def test_readers_are_values_in_a_list(tmp_path):
    write_10x_h5(tmp_path / "x.h5")
    assert find_reader(tmp_path / "x.h5").name == "a 10x .h5 file"
    assert len({reader.name for reader in READERS}) == len(READERS)
    options = set().union(*(reader.options for reader in READERS))
    assert options <= {"layer", "backed", "gene_key", "use_raw", "table", "coordinates"}
