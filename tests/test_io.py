"""Files: what was written is what is read, whichever way round, and damage is told in one sentence."""

import gc
import gzip
import logging
import sys
import zipfile
from contextlib import suppress

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from perler_jax.app.describe import describe_file
from perler_jax.datasets import load_count_table
from perler_jax.errors import PerlerFileError, PerlerInputError, PerlerWarning
from perler_jax.files import load_fit
from perler_jax.inputs.intake import as_reference
from perler_jax.inputs.io import atomic_path, read_cells, read_reference
from perler_jax.inputs.tables import read_coordinates, read_table
from perler_jax.landmarks import align_landmarks
from perler_jax.scale.checkpoint import Checkpoint

CELLS = ["AAC-1", "AAG-1", "ATT-1", "CCC-1"]
GENES = ["eve", "nan", "E(spl)m5-HLH"]
COUNTS = np.array([[0, 3, 1], [2, 0, 0], [5, 4, 1], [1, 0, 2]])


@pytest.fixture
def frame():
    return pd.DataFrame(COUNTS, CELLS, GENES)


def assert_the_cells(cells):
    assert (cells.cells.tolist(), cells.genes.tolist(), cells.scale) == (CELLS, GENES, "counts")
    np.testing.assert_array_equal(cells.dense(GENES), COUNTS)


def write_10x(folder, matrix, features, zipped):
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", sp.coo_array(matrix))
    pd.DataFrame(features).to_csv(folder / "features.tsv", sep="\t", header=False, index=False)
    pd.Series(CELLS).to_csv(folder / "barcodes.tsv", header=False, index=False)
    for path in list(folder.iterdir()) if zipped else []:
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize("turned", [False, True])
def test_tables_are_read_either_way_round(frame, tmp_path, suffix, turned, caplog):
    path = tmp_path / f"table{suffix}"
    (frame.T if turned else frame).to_csv(path, sep="," if ".csv" in suffix else "\t")
    with caplog.at_level(logging.INFO, "perler_jax"):
        assert_the_cells(read_cells(path, landmarks=["nan", "eve", "absent"]))
    expected = "genes x cells, since 2 of 3 landmarks are row" if turned else "cells x genes, since 2 of 3"
    assert expected in caplog.text


def test_without_landmarks_rows_are_cells_and_that_is_said(frame, tmp_path, caplog):
    frame.to_csv(tmp_path / "t.csv")
    assert_the_cells(read_cells(tmp_path / "t.csv"))
    assert "WARNING" in caplog.text
    assert "read as cells x genes; give landmark names" in caplog.text


def test_a_table_with_none_of_the_landmarks_is_refused(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv")
    with pytest.raises(PerlerInputError, match=r"some of the 1 landmarks \(ftz.*found columns eve, nan"):
        read_cells(tmp_path / "t.csv", landmarks=["ftz"])


def test_heading_kinds_of_the_first_column(tmp_path):
    texts = {
        "r": "a,b\nx,1,2\ny,3,4\n",  # R: no heading over the row names
        "blank": ",a,b\nx,1,2\ny,3,4\n",
        "text": "sample,a,b\nx,1,2\ny,3,4\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
        table = read_table(tmp_path / f"{name}.csv")
        assert (table.index.tolist(), table.columns.tolist()) == (["x", "y"], ["a", "b"])
        assert table.to_numpy().tolist() == [[1, 2], [3, 4]]
    (tmp_path / "ids.csv").write_text("cell,a\n007,1\n8,2\n")
    assert read_table(tmp_path / "ids.csv").index.tolist() == ["007", "8"]
    (tmp_path / "genes.csv").write_text("bin,a\n7,1\n8,2\n")  # bin is a gene: numbers under it are values
    table = read_table(tmp_path / "genes.csv")
    assert isinstance(table.index, pd.RangeIndex)
    assert table["bin"].tolist() == [7, 8]


ODD = ["nan", "NA", "null", "None", "<NA>", "N/A", "NaN", "007"]  # nan and NA are genes of the fly


@pytest.mark.parametrize("names", [ODD, ODD[:1]], ids=["many", "one"])
@pytest.mark.parametrize("heading", ["gene", ""])
def test_names_stay_text_whatever_they_say(tmp_path, names, heading):
    rows = "".join(f"{name},{row},\n" for row, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"{heading},nan,b\n{rows}eve,NA,5\n")
    table = read_table(tmp_path / "t.csv")
    assert table.index.tolist() == [*names, "eve"]
    assert table.columns.tolist() == ["nan", "b"]
    assert np.isnan(table.loc["eve", "nan"])  # in a column of numbers NA is a missing one
    assert table["b"].isna().tolist() == [True] * len(names) + [False]
    (tmp_path / "whole.csv").write_text(f"{heading},c1,c2\n" + "".join(f"{name},1,2\n" for name in names))
    cells = read_cells(tmp_path / "whole.csv", landmarks=names[:1])
    assert cells.genes.tolist() == names
    assert cells.cells.tolist() == ["c1", "c2"]


def test_numbers_that_are_partly_missing_are_no_names(tmp_path):
    (tmp_path / "t.csv").write_text("bin,b\n7,1\nNA,2\n,3\n")
    table = read_table(tmp_path / "t.csv")
    assert isinstance(table.index, pd.RangeIndex)
    np.testing.assert_array_equal(table["bin"], [7, np.nan, np.nan])


def test_locations_with_odd_names_find_their_coordinates(tmp_path):
    reference = pd.DataFrame({"eve": np.arange(1.0, 9), "ftz": 1.0}, index=ODD)
    reference.to_csv(tmp_path / "reference.csv")
    places = pd.DataFrame({"x": np.arange(8.0), "y": 1.0}, index=pd.Index(ODD, name="location"))
    places[::-1].to_csv(tmp_path / "xy.csv")
    found = read_reference(tmp_path / "reference.csv", landmarks=["eve"], coordinates=tmp_path / "xy.csv")
    assert found.locations.tolist() == ODD
    np.testing.assert_array_equal(found.coordinates[:, 0], np.arange(8.0))
    frame = as_reference(reference, coordinates=places[::-1])
    np.testing.assert_array_equal(frame.coordinates, found.coordinates)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt.gz"])
@pytest.mark.parametrize(
    ("separator", "decimal", "told"),
    [
        (",", ".", "commas"),
        ("\t", ".", "tabs"),
        (";", ".", "semicolons"),
        (";", ",", "semicolons, decimals by commas"),
        ("\t", ",", "tabs, decimals by commas"),
        (" ", ".", "spaces"),
    ],
)
@pytest.mark.parametrize("names", [True, "R", False])
def test_separators_and_decimals_are_found_and_told(
    tmp_path, suffix, separator, decimal, told, names, caplog
):
    table = pd.DataFrame(np.random.default_rng(0).random((5, 3)).round(5), [*CELLS, "7"], ["a", "b", "c"])
    table.iloc[0] = 0.0
    path = tmp_path / f"t{suffix}"
    table.to_csv(path, sep=separator, decimal=decimal, index=bool(names))
    if names == "R":  # no heading over the names of rows
        text = gzip.decompress(path.read_bytes()) if suffix.endswith("gz") else path.read_bytes()
        text = text.removeprefix(separator.encode())
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    read = read_table(path)
    np.testing.assert_allclose(read, table)
    assert read.columns.tolist() == ["a", "b", "c"]
    assert read.index.tolist() == (table.index.tolist() if names else list(range(5)))
    usual = (separator, decimal) == ("," if suffix == ".csv" else "\t", ".")
    assert (f"separated by {told}" in caplog.text) != usual
    assert bool(caplog.records) != usual


def test_quoted_decimal_commas_in_a_table_of_commas(tmp_path):
    (tmp_path / "t.csv").write_text('"","a","b"\n"x","1,5","2"\n"y","3","4,25"\n')
    assert read_table(tmp_path / "t.csv").to_numpy().tolist() == [[1.5, 2], [3, 4.25]]


def test_a_wide_table_of_another_separator_than_its_ending_says(tmp_path):
    names = [f"gene_of_a_long_name_{i}" for i in range(9000)]  # one line is longer than csv's longest field
    pd.DataFrame(np.ones((2, 9000)), ["x", "y"], names).to_csv(tmp_path / "t.tsv", sep=";")
    assert read_table(tmp_path / "t.tsv").shape == (2, 9000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n;a;b\nx;1,234;2,345\ny;3,456;0\n", r"'1,234', in which a comma may stand before decimals or"),
        ("n;a;b\nx;1,5;2.5\ny;3;0\n", r"'1,5' beside '2\.5'"),
        ("n;a;b\nx;1.234,5;2\ny;3;0\n", r"'1\.234,5'"),
        ("n,a;b,c\nx,1;2,3\ny,4;5,6\n", None),
        ("a,b;c,d\n1,2;3,4\n5,6;7,8\n", None),
        ("a,b\tc,d\nx,y\tz,t\nx,y\tz,t\n", "commas and tabs fit equally well"),
    ],
)
def test_ambiguous_tables_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    if message is None:  # under one separator all fields are numbers
        assert read_table(tmp_path / "t.csv").shape[1] in (1, 2)
        return
    with pytest.raises(PerlerFileError, match=message):
        read_table(tmp_path / "t.csv")


def test_repeated_gene_names_in_a_table_are_seen(tmp_path):
    (tmp_path / "t.csv").write_text(",a,a,b\nx,1,2,3\ny,3,4,5\n")
    with pytest.warns(PerlerWarning, match=r"unique gene names; found 1 repeated \(a\).*unique as AnnData"):
        cells = read_cells(tmp_path / "t.csv", landmarks=["a", "b"])
    assert cells.genes.tolist() == ["a", "a-1", "b"]


@pytest.mark.parametrize("kind", [np.array, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("backed", [False, True])
def test_h5ad(frame, tmp_path, kind, backed):
    adata = anndata.AnnData(kind(COUNTS), frame[[]], frame.T[[]], layers={"log": kind(np.log2(1.0 + COUNTS))})
    adata.write_h5ad(tmp_path / "x.h5ad")
    cells = read_cells(tmp_path / "x.h5ad", backed=backed)
    assert cells.is_backed == backed
    assert_the_cells(cells)
    assert read_cells(tmp_path / "x.h5ad", layer="log", scale="log2", backed=backed).scale == "log2"


@pytest.mark.parametrize("zipped", [False, True])
def test_10x_folder(tmp_path, zipped):
    folder = write_10x(tmp_path / "run", COUNTS.T, {"id": ["FB1", "FB2", "FB3"], "symbol": GENES}, zipped)
    assert_the_cells(read_cells(folder))
    assert read_cells(folder, landmarks=["FB3", "FB1"]).genes.tolist() == ["FB1", "FB2", "FB3"]
    assert read_cells(folder, landmarks=["eve"]).genes.tolist() == GENES


def test_10x_shared_symbols_and_other_features(tmp_path, caplog):
    features = {
        "id": ["FB1", "FB2", "FB3", "AB1"],
        "symbol": ["eve", "Ctr", "Ctr", "CD4"],
        "type": ["Gene Expression"] * 3 + ["Antibody Capture"],
    }
    folder = write_10x(tmp_path / "run", np.vstack([COUNTS.T, [9, 9, 9, 9]]), features, False)
    cells = read_cells(folder)
    assert cells.genes.tolist() == ["eve", "FB2", "FB3"]
    np.testing.assert_array_equal(cells.dense(["eve", "FB2", "FB3"]), COUNTS)
    assert "2 genes share a symbol with another (Ctr, ...)" in caplog.text
    assert "left out 1 features" in caplog.text


def test_npz_sparse_and_dense(tmp_path):
    for kind in (sp.csr_array, sp.csc_array):
        parts = kind(COUNTS)
        extra = {} if kind is sp.csr_array else {"format": "csc"}
        np.savez(
            tmp_path / "s.npz", data=parts.data.astype(np.uint16), indices=parts.indices.astype(np.uint16),
            indptr=parts.indptr, shape=COUNTS.shape, genes=GENES, cells=CELLS, **extra,
        )  # fmt: skip
        cells = read_cells(tmp_path / "s.npz")
        assert sp.issparse(cells.values)
        assert_the_cells(cells)
    np.savez(tmp_path / "d.npz", values=COUNTS, genes=GENES, cells=CELLS)
    assert_the_cells(read_cells(tmp_path / "d.npz"))
    positions = np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "r.npz", values=COUNTS, genes=GENES, locations=CELLS, coordinates=positions)
    np.testing.assert_array_equal(read_reference(tmp_path / "r.npz").coordinates, positions)


def test_npz_faults(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, values=COUNTS, genes=GENES)
    with pytest.raises(PerlerFileError, match="to hold cells, genes, values; found no cells"):
        read_cells(path)
    np.savez(path, values=COUNTS, genes=np.array(GENES, dtype=object), cells=CELLS)
    with pytest.raises(PerlerFileError, match="complete, well-formed"):  # a pickle is never opened
        read_cells(path)
    parts = sp.csr_array(COUNTS)
    outside = parts.indices.copy()
    outside[0] = 99
    np.savez(
        path,
        data=parts.data,
        indices=outside,
        indptr=parts.indptr,
        shape=COUNTS.shape,
        genes=GENES,
        cells=CELLS,
    )
    with pytest.raises(PerlerFileError, match="complete, well-formed"):
        read_cells(path)


def test_reference_files_with_coordinates(tmp_path, caplog):
    values = np.random.default_rng(0).random((4, 3)).round(6)
    positions = np.arange(12.0).reshape(4, 3)
    names = ["L1", "L2", "L3", "L4"]
    frame = pd.DataFrame(values, names, GENES)
    frame.to_csv(tmp_path / "named.csv")
    frame.T.to_csv(tmp_path / "turned.csv")
    frame.to_csv(tmp_path / "bare.csv", index=False)
    anndata.AnnData(frame, obsm={"spatial": positions}).write_h5ad(tmp_path / "r.h5ad")
    table = pd.DataFrame(positions, names, ["x", "y", "z"])
    table.to_csv(tmp_path / "bare_xyz.csv", index=False)
    pd.concat([table, table.rename(lambda name: f"mirror {name}")]).iloc[::-1].to_csv(
        tmp_path / "long_xyz.csv"
    )
    for reference in (
        read_reference(tmp_path / "r.h5ad"),
        read_reference(tmp_path / "named.csv", coordinates=tmp_path / "bare_xyz.csv"),
        read_reference(tmp_path / "named.csv", coordinates=tmp_path / "long_xyz.csv"),
        read_reference(tmp_path / "turned.csv", coordinates=tmp_path / "long_xyz.csv", landmarks=GENES),
        read_reference(tmp_path / "bare.csv", coordinates=tmp_path / "bare_xyz.csv"),
    ):
        np.testing.assert_allclose(reference.values, values)
        np.testing.assert_array_equal(reference.coordinates, positions)
        assert reference.genes.tolist() == GENES
    pd.concat([table, table]).to_csv(tmp_path / "double.csv", index=False)
    with pytest.raises(PerlerInputError, match=r"coordinates of 4 locations .*found shape \(8, 3\)"):
        read_reference(tmp_path / "bare.csv", coordinates=tmp_path / "double.csv")


def test_coordinate_tables(tmp_path):
    path = tmp_path / "xyz.tsv"
    path.write_text("cell\tx\ty\tLayer\tarea\na\t1\t2\tL1\t9\nb\t3\t4\tL2\t9\n")
    table = read_coordinates(path)
    assert table.columns.tolist() == ["x", "y"]
    assert table.index.tolist() == ["a", "b"]
    path.write_text("1.5\t2\n3\t4\n5\t6\n")
    with pytest.raises(PerlerFileError, match=r"a header row in .*found numbers"):
        read_coordinates(path)
    path.write_text("p\tq\tr\ts\n1\t2\t3\t4\n5\t6\t7\t8\n")
    with pytest.raises(PerlerFileError, match=r"2 or 3 columns of coordinates .*found 4 numeric"):
        read_coordinates(path)


def test_broken_files_say_so_in_one_sentence(frame, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text(",a,b\n")
    (tmp_path / "single.tsv").write_text("cell\nx\ny\n")
    (tmp_path / "ragged.csv").write_text(",a,b\nx,1,2\ny,1,2,3,4\n")
    (tmp_path / "text.csv").write_text(",a,b\nx,1,two\ny,1,2\n")
    (tmp_path / "x.rds").write_text("")
    (tmp_path / "not.h5ad").write_text("nothing of the kind")
    (tmp_path / "folder").mkdir()
    long = pd.concat([frame] * 5000)
    long.index = [f"cell{i}" for i in range(len(long))]
    long.to_csv(tmp_path / "whole.csv.gz")
    whole = (tmp_path / "whole.csv.gz").read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    folder = write_10x(tmp_path / "run", np.tile(COUNTS, (9, 500)).T[:, :4], {"id": np.arange(1500)}, True)
    whole = (folder / "matrix.mtx.gz").read_bytes()
    (folder / "matrix.mtx.gz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "whole.npz", values=COUNTS, genes=GENES, cells=CELLS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, COUNTS)
    anndata.AnnData(frame).write_h5ad(tmp_path / "whole.h5ad")
    (tmp_path / "cut.h5ad").write_bytes((tmp_path / "whole.h5ad").read_bytes()[:3000])
    cases = {
        "absent.csv": "expected a file at .*found none",
        "empty.csv": "found an empty file",
        "header.csv": "found a header only",
        "single.tsv": "several columns separated by",
        "ragged.csv": "well-formed file",
        "x.rds": r"ending in \.h5ad, .*found x\.rds; save it from R as h5ad: zellkonverter",
        "not.h5ad": "complete h5ad file",
        "cut.h5ad": "complete h5ad file",
        "folder": r"a folder with .*matrix\.mtx, .*found the folder .* with nothing",
        "cut.csv.gz": "complete, well-formed file",
        "cut.npz": "complete, well-formed file",
        "array.npz": "one array without a name",
        "run": "complete, well-formed file",
    }
    for name, message in cases.items():
        with pytest.raises(PerlerFileError, match=message) as caught:
            read_cells(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(PerlerInputError, match=r"1 columns of another kind \(b\)"):
        read_cells(tmp_path / "text.csv")
    with pytest.raises(PerlerInputError, match=r"an h5ad file or .*with backed=True"):
        read_cells(tmp_path / "whole.csv.gz", backed=True)
    with pytest.raises(PerlerFileError, match="found the folder"):
        read_reference(tmp_path / "folder")


@pytest.mark.parametrize(
    "read",
    [
        read_cells,
        read_reference,
        load_fit,
        load_count_table,
        describe_file,
        lambda path: Checkpoint(path.parent).get("cut"),
    ],
)
def test_a_broken_npz_is_closed(tmp_path, monkeypatch, read):
    """NumPy leaves it open, to be closed, with a warning that no one can catch, when memory is cleared."""
    left_open = []
    monkeypatch.setattr(sys, "unraisablehook", left_open.append)
    np.savez(tmp_path / "whole.npz", values=COUNTS, genes=GENES, cells=CELLS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    gc.collect()
    del left_open[:]
    with suppress(PerlerFileError, zipfile.BadZipFile):
        read(tmp_path / "cut.npz")
    gc.collect()
    assert not [str(each.exc_value) for each in left_open]


def test_sizes_of_a_10x_folder_must_fit(tmp_path):
    folder = write_10x(tmp_path / "run", COUNTS.T, {"id": ["FB1", "FB2"]}, False)
    with pytest.raises(PerlerFileError, match=r"2 x 4; found \(3, 4\)"):
        read_cells(folder)


def write_half(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_atomic_path_replaces_only_on_success(tmp_path):
    target = tmp_path / "result.npz"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write_half(target)
    assert target.read_text() == "before"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        temporary.write_text("after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    with pytest.raises(PerlerFileError, match="found none; nothing was changed"), atomic_path(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["result.npz"]
    with pytest.raises(PerlerFileError, match="create it first"), atomic_path(tmp_path / "no" / "x.npz"):
        pass
    with pytest.raises(PerlerFileError, match="found the folder"), atomic_path(tmp_path):
        pass


def test_the_fly_files(fly_directory):
    reference = read_reference(fly_directory / "bdtnp_reference.tsv.gz")
    assert reference.values.shape == (3039, 84)
    assert not reference.is_binary
    assert read_reference(fly_directory / "bdtnp_binary.tsv.gz").is_binary
    with pytest.raises(PerlerInputError, match=r"coordinates of 3039 locations .*found shape \(6078, 3\)"):
        read_reference(
            fly_directory / "bdtnp_reference.tsv.gz", coordinates=fly_directory / "geometry.tsv.gz"
        )
    cells = read_cells(fly_directory / "scrna_counts.npz")
    assert len(align_landmarks(cells, reference)) == 84
