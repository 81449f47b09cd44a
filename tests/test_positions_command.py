"""`perler-jax positions`: the table, the cells and the mapping say what the functions in Python say."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import perler_jax as pj
from perler_jax.app.cli import main
from perler_jax.trust import cell_positions
from perler_jax.trust.origins import Tempering
from perler_jax.trust.sharpness import choose_tempering
from perler_jax.trust.tissue import Midline


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("positions")
    embryo = pj.simulate_embryo(seed=8, n_locations=120, n_cells=160, n_genes=40, n_landmarks=14)
    reference = embryo.reference
    x = reference.obsm["spatial"][:, 0]
    reference.obs["part"] = np.where(x < np.median(x), "front", "rear")
    embryo.cells[:120].write_h5ad(folder / "cells.h5ad")
    embryo.cells[120:].write_h5ad(folder / "new.h5ad")
    fit = pj.fit_perler(ad.read_h5ad(folder / "cells.h5ad"), reference, weights=(0.2, 0.7), progress=False)
    fit.save(folder / "fit.npz")
    return folder, fit


def test_the_table_the_cells_and_the_mapping(made, tmp_path, capsys):
    folder, fit = made
    arguments = ["positions", folder / "fit.npz", folder / "cells.h5ad", "-o", tmp_path / "where.csv"]
    more = ["--result", tmp_path / "cells.h5ad", "--mapping", tmp_path / "mapping.h5ad", "--top", 4]
    assert run(*arguments, *more, "--regions", "part", "--midline", "y=3") == 0
    said = capsys.readouterr().out
    tempering = choose_tempering(fit)
    parts = pd.Series(fit.reference.beside.obs["part"].to_numpy(), index=fit.reference.locations)
    expected = cell_positions(fit, tempering=tempering, regions=parts, midline=Midline(1, 3.0))
    assert f"temperature  {tempering.temperature:.3g}" in said
    table = pd.read_csv(tmp_path / "where.csv", index_col=0)
    columns = list(expected.table.columns)
    pd.testing.assert_frame_equal(table[columns], expected.table, check_dtype=False, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table[["mean_x", "mean_y", "mean_z"]], expected.mean, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(table[["top_x", "top_y", "top_z"]], expected.top, rtol=1e-4, atol=1e-3)
    assert table["probability_front"].between(0, 1).all()
    cells = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_allclose(cells.obsm["spatial_mean"], expected.mean, rtol=1e-4, atol=1e-3)
    assert {"origin_radius_90", "origin_probability_rear", "true_location"} <= set(cells.obs)
    mapping = ad.read_h5ad(tmp_path / "mapping.h5ad")
    np.testing.assert_allclose(
        mapping.X.toarray(), fit.mapping(top=4, tempering=tempering).X.toarray(), atol=1e-5
    )


def test_new_cells_are_placed(made, tmp_path, capsys):
    folder, fit = made
    arguments = ["positions", folder / "fit.npz", folder / "new.h5ad", "-o", tmp_path / "where.csv", "--new"]
    assert run(*arguments, "--temperature", 1.7) == 0
    table = pd.read_csv(tmp_path / "where.csv", index_col=0)
    placed = fit.place(ad.read_h5ad(folder / "new.h5ad"))
    expected = cell_positions(placed, tempering=Tempering(1.7))
    np.testing.assert_allclose(table["top_probability"], expected.table["top_probability"], rtol=1e-3)
    assert list(table.index) == list(placed.cell_names)
    assert run(*arguments) == 2  # 40 cells do not say how far landmarks agree
    assert "40 cells are too few" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--regions", "parts"], "column 'parts' in obs of the reference"),
        (["--midline", "w=2"], "--midline such as x"),
        (["--midline", "x=far"], "--midline such as x"),
        (["--top", "3"], "--mapping FILE with --top"),
        (["--temperature", "-1"], "temperature > 0"),
        (["--temperature", "warm"], "invalid"),
        (["--result", "out.csv"], "ends in .h5ad"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(made, tmp_path, capsys, more, words):
    folder, _ = made
    out = tmp_path / "where.csv"
    assert run("positions", folder / "fit.npz", folder / "cells.h5ad", "-o", out, *more) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_other_cells_need_to_be_called_new(made, tmp_path, capsys):
    folder, _ = made
    out = tmp_path / "where.csv"
    assert run("positions", folder / "fit.npz", folder / "new.h5ad", "-o", out) == 2
    assert "120 cells of the fit" in capsys.readouterr().err
