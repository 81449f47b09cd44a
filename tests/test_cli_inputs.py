"""What users bring on the command line: names, positions and formats, by option; what `info` says of them."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax.app.cli import main
from perler_jax.files import load_fit
from perler_jax.simulation.simulate import simulate_embryo
from tests.test_readers import write_10x_h5
from tests.test_spatialdata import write_tables


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, n_locations=100, n_cells=50, n_genes=40, n_landmarks=20)


@pytest.fixture
def files(embryo, tmp_path):
    """Cells with identifiers for names and few genes in X, a map with its positions elsewhere."""
    cells = embryo.cells.copy()
    cells.var["symbol"] = cells.var_names
    cells.var_names = [f"FBgn{i:07d}" for i in range(cells.n_vars)]
    part = cells[:, 10:].copy()
    part.raw = cells
    part.write_h5ad(tmp_path / "cells.h5ad")
    reference = embryo.reference.copy()
    where = reference.obsm["spatial"]
    reference.obs["x"], reference.obs["y"] = where[:, 0], where[:, 1]
    del reference.obsm["spatial"]
    reference.obsm["X_spatial"] = where
    reference.obsm["X_umap"] = where[:, :2]
    reference.write_h5ad(tmp_path / "reference.h5ad")
    return tmp_path


def fit(folder, *options, cells="cells.h5ad", reference="reference.h5ad"):
    line = ["fit", str(folder / cells), str(folder / reference), "-o", str(folder / "fit.npz")]
    code = main([*line, "--weights", "1", "0", "--folds", "2", "--quiet", *options])
    return code, load_fit(folder / "fit.npz") if code == 0 else None


def test_names_and_positions_by_option(files, embryo, capsys):
    code, found = fit(files, "--gene-key", "symbol", "--use-raw", "--coordinates", "X_spatial")
    assert code == 0, capsys.readouterr().err
    assert found.landmarks.tolist() == embryo.reference.var_names.tolist()
    np.testing.assert_allclose(found.reference.coordinates, embryo.reference.obsm["spatial"])
    _, found = fit(files, "--gene-key", "symbol", "--use-raw", "--coordinates", "x,y")
    np.testing.assert_allclose(found.reference.coordinates, embryo.reference.obsm["spatial"][:, :2])


def test_a_refusal_names_the_options(files, capsys):
    code, _ = fit(files)
    told = capsys.readouterr().err
    assert code == 2
    assert "20 would be shared: pass --use-raw and --gene-key symbol" in told
    fit(files, "--use-raw", "--gene-key", "symbol")
    told = capsys.readouterr().err
    assert "pass --coordinates X_spatial" in told
    code, _ = fit(files, "--use-raw", "--gene-key", "symbol", "--coordinates", "X_umap2")
    told = capsys.readouterr().err
    assert code == 2
    assert (
        "a key of obsm, or columns of obs, for --coordinates X_umap2; found obsm keys X_spatial, X_umap"
        in told
    )


def test_columns_of_a_table_and_a_file_of_positions(files, embryo, capsys):
    reference = embryo.reference.to_df()
    where = embryo.reference.obsm["spatial"]
    reference.assign(x=where[:, 0], y=where[:, 1]).to_csv(files / "reference.csv", sep=";")
    options = ("--use-raw", "--gene-key", "symbol")
    code, found = fit(files, *options, "--coordinates", "x,y", reference="reference.csv")
    assert code == 0, capsys.readouterr().err
    np.testing.assert_allclose(found.reference.coordinates, where[:, :2])
    # With a file of positions, columns x and y would be landmarks, and below zero.
    reference.to_csv(files / "landmarks.csv")
    pd.DataFrame(where, reference.index, ["x", "y", "z"]).to_csv(files / "where.csv")
    code, found = fit(files, *options, "--coordinates", str(files / "where.csv"), reference="landmarks.csv")
    np.testing.assert_allclose(found.reference.coordinates, where)
    capsys.readouterr()
    fit(files, *options, reference="reference.csv")
    assert (
        "found x, y, which look like positions; pass --coordinates x,y if they are" in capsys.readouterr().err
    )


def test_a_spatialdata_as_reference(files, embryo, capsys):
    reference = embryo.reference.copy()
    reference.X = np.asarray(reference.X)
    write_tables(files / "r.zarr", a=reference, b=reference[:, ::-1].copy())
    options = ("--use-raw", "--gene-key", "symbol")
    code, _ = fit(files, *options, reference="r.zarr")
    assert code == 2
    assert "found a, b; pass --reference-table NAME" in capsys.readouterr().err
    code, found = fit(files, *options, "--reference-table", "b", reference="r.zarr")
    assert code == 0
    assert found.landmarks.tolist() == embryo.reference.var_names.tolist()[::-1]
    assert main(["info", str(files / "r.zarr")]) == 0
    assert "tables  a, b" in capsys.readouterr().out


def test_info_tells_what_a_file_offers(files, capsys):
    assert main(["info", str(files / "cells.h5ad")]) == 0
    told = capsys.readouterr().out
    assert (
        "raw           40 (FBgn0000000, FBgn0000001, FBgn0000002, ...) genes: --use-raw, with names" in told
    )
    assert "names in var  symbol (" in told
    assert main(["info", str(files / "reference.h5ad")]) == 0
    told = capsys.readouterr().out
    assert "obsm       X_spatial (100 x 3), X_umap (100 x 2)" in told
    assert "obsm['X_spatial'] has 2 or 3 numbers per location: pass --coordinates X_spatial" in told


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_info_of_other_formats(tmp_path, kind, capsys):
    path = tmp_path / f"x.{kind}"
    if kind == "h5":
        write_10x_h5(path)
    else:
        anndata.AnnData(sp.csr_matrix(np.eye(4)), pd.DataFrame(index=list("abcd"))).write_zarr(path)
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert f"in a {'10x .h5 file' if kind == 'h5' else '.zarr folder'}" in told
    assert kind == "zarr" or "gene_ids (FBgn1), gene_symbols (eve): --gene-key" in told


def test_info_of_what_cannot_be_read_says_what_to_do(tmp_path, capsys):
    (tmp_path / "x.rds").write_bytes(b"x")
    assert main(["info", str(tmp_path / "x.rds")]) == 2
    assert "zellkonverter::writeH5AD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (
            "fit {a}/none.h5ad {a}/broken.h5ad -o {a}/fit.npz --location-weights {a}/none.csv",
            "none.h5ad broken.h5ad none.csv",
        ),
        ("fit {a}/broken.h5ad {a}/none.csv -o {a}/fit.npz", "broken.h5ad none.csv"),
        ("reconstruct {a}/none.npz {a}/broken.h5ad -o {a}/result.h5ad", "none.npz broken.h5ad"),
        ("evaluate {a}/none.npz {a}/broken.h5ad --outer 2", "none.npz broken.h5ad"),
        (
            "transfer {a}/none.npz {a}/broken.h5ad --labels-table {a}/none.csv -o {a}/types.h5ad",
            "none.csv none.npz broken.h5ad",
        ),
        ("positions {a}/none.npz {a}/broken.h5ad -o {a}/places.csv", "none.npz broken.h5ad"),
        ("report {a}/none.npz {a}/broken.h5ad -o {a}/page.html", "none.npz broken.h5ad"),
        (
            "explore {a}/broken.h5ad --fit {a}/none.npz --genes-file {a}/none.txt -o {a}/page.html",
            "broken.h5ad none.npz none.txt",
        ),
        ("info {a}/none.h5ad {a}/broken.h5ad", "none.h5ad broken.h5ad"),
    ],
)
def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path, capsys, line, named):
    (tmp_path / "broken.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    before = sorted(tmp_path.iterdir())
    assert main(line.format(a=tmp_path).split()) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    names = named.split()
    assert f"{len(names)} files cannot be used: (1) " in told
    assert [name for name in names if str(tmp_path / name) not in told] == []
    assert sorted(tmp_path.iterdir()) == before, "nothing is written"


def test_what_can_be_read_is_described_before_what_cannot(files, capsys):
    assert main(["info", str(files / "none.h5ad"), str(files / "cells.h5ad")]) == 2
    told = capsys.readouterr()
    assert "50" in told.out
    assert str(files / "none.h5ad") in told.err
