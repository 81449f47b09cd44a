"""Loaders: what the files hold arrives, in order, with the traps of each folder avoided."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perler_jax.datasets import (
    load_count_table,
    load_fly,
    load_osmfish,
    load_seqfish_pair,
    load_starmap_pair,
    load_villus,
    load_zebrafish_cells,
    load_zebrafish_reference,
)
from perler_jax.errors import PerlerFileError
from perler_jax.inputs.axes import EMBRYO


@pytest.fixture(scope="module")
def fly(fly_directory):
    return load_fly(fly_directory)


def sibling(fly_directory, name):
    folder = fly_directory.parent / name
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder


def write_counts(path, counts, **extra):
    table = sparse.csr_matrix(counts)
    parts = {
        "data": table.data.astype(np.uint16),
        "indices": table.indices.astype(np.uint16),
        "indptr": table.indptr.astype(np.int32),
        "shape": np.array(counts.shape),
        "genes": np.array([f"g{i}" for i in range(counts.shape[1])]),
        "cells": np.array([f"c{i}" for i in range(counts.shape[0])]),
    }
    np.savez(path, **{key: value for key, value in (parts | extra).items() if value is not None})


def small_fly(folder):
    """A fly folder of 3 cells, 2 genes and 4 locations."""
    write_counts(
        folder / "scrna_counts.npz", np.array([[1, 0], [0, 2], [3, 4]]), norm_total=np.array([2, 2, 8])
    )
    pd.DataFrame({"g1": [0.1, 0.2, 0.3, 0.4], "g0": [1.0, 0.0, 1.0, 0.5]}).to_csv(
        folder / "bdtnp_reference.tsv.gz", sep="\t", index=False
    )
    pd.DataFrame(np.arange(24.0).reshape(8, 3)).to_csv(folder / "geometry.tsv.gz", sep="\t", index=False)
    return folder


def test_small_fly_is_loaded_as_written(tmp_path):
    fly = load_fly(small_fly(tmp_path))
    np.testing.assert_array_equal(fly.cells.X.toarray(), [[1, 0], [0, 2], [3, 4]])
    assert fly.cells.obs["norm_total"].tolist() == [2, 2, 8]
    assert list(fly.reference.obs_names) == ["bin1", "bin2", "bin3", "bin4"]
    np.testing.assert_array_equal(fly.reference[:, "g1"].X[:, 0], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(fly.reference.obsm["spatial"], np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(fly.mirror, np.arange(12.0, 24.0).reshape(4, 3))
    assert fly.binary_reference is None
    assert "3 cells x 2 genes; 4 locations x 2 landmarks" in repr(fly)


def test_binary_columns_follow_the_reference(tmp_path):
    small_fly(tmp_path)
    pd.DataFrame({"g0": [1, 0, 1, 0], "g1": [0, 0, 1, 1]}).to_csv(
        tmp_path / "bdtnp_binary.tsv.gz", sep="\t", index=False
    )
    fly = load_fly(tmp_path)
    assert list(fly.binary_reference.columns) == list(fly.reference.var_names) == ["g1", "g0"]
    assert fly.binary_reference.loc["bin3"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["scrna_counts.npz", "bdtnp_reference.tsv.gz", "geometry.tsv.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    (small_fly(tmp_path) / name).unlink()
    with pytest.raises(PerlerFileError, match=name):
        load_fly(tmp_path)


def test_geometry_of_one_half_is_refused(tmp_path):
    small_fly(tmp_path)
    pd.DataFrame(np.zeros((4, 3))).to_csv(tmp_path / "geometry.tsv.gz", sep="\t", index=False)
    with pytest.raises(PerlerFileError, match="expected 8 rows"):
        load_fly(tmp_path)


def test_a_broken_file_is_refused(tmp_path):
    small_fly(tmp_path)
    whole = (tmp_path / "scrna_counts.npz").read_bytes()
    (tmp_path / "scrna_counts.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PerlerFileError, match="npz"):
        load_fly(tmp_path)
    small_fly(tmp_path)
    table = tmp_path / "bdtnp_reference.tsv.gz"
    table.write_bytes(gzip.compress(np.random.default_rng(0).bytes(4000))[:2000])
    with pytest.raises(PerlerFileError, match="bdtnp_reference"):
        load_fly(tmp_path)


def test_a_count_table_without_genes_is_refused(tmp_path):
    write_counts(tmp_path / "counts.npz", np.eye(3), genes=None)
    with pytest.raises(PerlerFileError, match="genes"):
        load_count_table(tmp_path / "counts.npz")


def test_short_indices_are_widened(tmp_path):
    write_counts(tmp_path / "counts.npz", np.eye(3))
    table = load_count_table(tmp_path / "counts.npz").X
    assert (table.indices.dtype, table.dtype) == (np.int32, np.float32)


def test_real_fly(fly):
    assert fly.cells.shape == (1297, 8924)
    assert fly.reference.shape == (3039, 84)
    assert fly.mirror.shape == (3039, 3)
    assert fly.binary_reference.shape == (3039, 84)
    assert float(fly.cells.X.sum(dtype=np.float64)) == 33_763_983
    assert set(fly.reference.var_names) <= set(fly.cells.var_names)
    assert dict(fly.reference.uns) == {
        "spatial_axes": EMBRYO.plain(),
        "expression_scale": "linear",
    }  # and nothing of the files
    # The first half of the geometry is one side of the midline, its partners are the other.
    assert np.mean(fly.reference.obsm["spatial"][:, 1]) > 30
    assert np.mean(fly.mirror[:, 1]) < -30


def test_real_fly_totals_are_those_the_authors_divided_by(fly):
    missing = fly.cells.obs["norm_total"].to_numpy() - np.asarray(fly.cells.X.sum(1)).ravel()
    assert missing.min() == 0
    assert missing.max() == 6
    assert np.count_nonzero(missing) == 124
    assert fly.cells.obs["norm_total"].max() == 134_910


def test_starmap_pair_has_79_shared_genes_from_zero(fly_directory):
    folder = sibling(fly_directory, "visual_cortex_starmap")
    pair = load_starmap_pair(folder)
    assert (pair.cells.shape, pair.reference.shape) == ((1366, 170), (1207, 1020))
    shared = pair.cells.var_names.intersection(pair.reference.var_names)
    assert sorted(shared) == sorted((folder / "shared_genes_79.txt").read_text().split())
    assert pair.cells.X.min() == 0
    depth = pair.reference.obsm["spatial"][:, 1]
    layer = pair.reference.obs["layer"].to_numpy()
    assert depth[layer == "L1"].mean() > depth[layer == "L6"].mean()  # y runs toward the pia


def test_seqfish_pair_shares_113_genes_of_equal_means(fly_directory):
    pair = load_seqfish_pair(sibling(fly_directory, "visual_cortex_seqfish_tasic"))
    assert (pair.cells.shape, pair.reference.shape) == ((1723, 113), (1597, 113))
    assert list(pair.cells.var_names) == list(pair.reference.var_names)
    means = [np.asarray(side.X).mean(axis=0) for side in (pair.cells, pair.reference)]
    np.testing.assert_allclose(*means, rtol=0.05)  # made equal by the authors: rows are not mixed up
    assert pair.reference.obsm["spatial"].shape == (1597, 2)
    assert {"cell_type", "layer"} <= set(pair.cells.obs)


def test_villus_zones_are_joined_by_position(fly_directory):
    cells = load_villus(sibling(fly_directory, "intestine_villus"))
    assert cells.obs["zone"].value_counts().sort_index().tolist() == [235, 247, 168, 68, 312, 209, 144]
    counts = cells[:, ["Ada", "Nt5e", "Slc28a2"]].X.toarray()
    share = counts / np.asarray(cells.X.sum(1)).reshape(-1, 1)
    by_zone = pd.DataFrame(share).groupby(cells.obs["zone"].to_numpy()).mean()
    assert (by_zone.idxmax() == 6).all()  # markers of the tip; scrambled names would flatten them
    assert (by_zone.loc[6] > 5 * by_zone.loc[1]).all()


def test_osmfish_keeps_valid_cells_in_micrometres(fly_directory):
    cells = load_osmfish(sibling(fly_directory, "osmfish_sscortex"))
    assert cells.shape == (4839, 33)
    extent = np.ptp(cells.obsm["spatial"], axis=0)
    assert np.all((extent > 1000) & (extent < 4000))  # a piece of cortex, not tens of thousands of pixels


def test_zebrafish_reference_has_goosecoid_in_the_dorsal_margin(fly_directory):
    reference = load_zebrafish_reference(sibling(fly_directory, "zebrafish_reference"))
    assert reference.shape == (64, 47)
    assert set(np.unique(reference.X)) == {0.0, 1.0}
    on = reference[:, "GSC"].X[:, 0] == 1
    assert (reference.obs["dv_index"][on] >= 6).all()
    assert (reference.obs["tier_index"][on] >= 5).all()


def test_rows_in_another_order_are_refused(fly_directory, tmp_path):
    folder = sibling(fly_directory, "zebrafish_reference")
    shutil.copy(folder / "ish_binary_64x47.tsv", tmp_path)
    pd.read_csv(folder / "geometry_64.tsv", sep="\t")[::-1].to_csv(
        tmp_path / "geometry_64.tsv", sep="\t", index=False
    )
    with pytest.raises(PerlerFileError, match="in its order"):
        load_zebrafish_reference(tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_public_zebrafish_table_is_read_with_or_without_a_name_of_its_first_column(tmp_path, named):
    text = ("\t" if named else "") + "zf1_a\tzf2_b\nGSC\t0\t1.5\nnan\t2\t0\n"
    path = tmp_path / "GSE66688_zdata.expMatrix.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    cells = load_zebrafish_cells(path)
    assert cells.var_names.tolist() == ["GSC", "nan"]
    assert cells.obs["batch"].tolist() == ["zf1", "zf2"]
    np.testing.assert_allclose(cells.X, [[0, 2], [1.5, 0]])


def test_what_is_no_zebrafish_table_is_refused(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("gene\tzf1_a\nGSC\thigh\n")
    with pytest.raises(PerlerFileError, match="numbers"):
        load_zebrafish_cells(path)
    path.write_text("gene\tzf1_a\nGSC\t-0.5\n")
    with pytest.raises(PerlerFileError, match="not logged"):
        load_zebrafish_cells(path)
