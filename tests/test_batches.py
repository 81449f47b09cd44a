"""Batches of cells: levels that every gene has by itself are taken off, origins are not; kept and refused."""

import anndata
import numpy as np
import pandas as pd
import pytest

from perler_jax.app.cli import main
from perler_jax.errors import PerlerInputError
from perler_jax.files import load_fit
from perler_jax.inputs.alignment import align_batches
from perler_jax.outer import cross_validate, cross_validate_fit
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

SETTINGS = PerlerSettings(n_metagenes=12, folds=5)


def two_donors(seed=0, *, skew=2.0, background=0.7, n_cells=260):
    """An embryo whose cells are from two donors, of other places (skew) and with other levels (background).

    Returns:
        Cells, reference, true log2 expression of all genes (locations, genes).
    """
    embryo = simulate_embryo(seed=seed, n_locations=200, n_cells=n_cells, n_genes=80, n_landmarks=30)
    rng = np.random.default_rng(seed)
    x = np.asarray(embryo.reference.obsm["spatial"])[embryo.cells.obs["true_location"].to_numpy(), 0]
    is_second = rng.random(n_cells) < 1 / (1 + np.exp(1 - skew * (x - x.mean()) / x.std()))
    factor = np.exp(background * rng.standard_normal((2, 80)))[is_second.astype(int)]
    counts = embryo.cells.X.toarray() if hasattr(embryo.cells.X, "toarray") else np.asarray(embryo.cells.X)
    cells = anndata.AnnData(
        rng.poisson(counts * factor).astype(np.float32), obs=embryo.cells.obs.copy(), var=embryo.cells.var
    )
    cells.obs["donor"] = np.where(is_second, "second", "first")
    return cells, embryo.reference, np.log2(1 + np.asarray(embryo.truth.X, float))


def accuracy(fit, truth):
    """Mean correlation of predicted genes that are no landmarks with their true patterns."""
    found = fit.reconstruct()
    rest = ~found.var["is_landmark"].to_numpy() & (truth.std(axis=0) > 0.05)
    return np.mean([np.corrcoef(found.X[:, g], truth[:, g])[0, 1] for g in np.flatnonzero(rest)])


@pytest.fixture(scope="module")
def data():
    return two_donors()


@pytest.fixture(scope="module")
def fit(data):
    return fit_perler(*data[:2], settings=SETTINGS, batch_key="donor", progress=False)


# The alignment


def correlated(n, n_genes, rng, shift=None):
    """Cells that vary along a few directions, in another place by the shift."""
    axes = np.random.default_rng(5).standard_normal((4, n_genes))
    places = rng.standard_normal((n, 4)) + (0 if shift is None else np.asarray(shift))
    return places @ axes + rng.standard_normal((n, n_genes))


def test_a_difference_of_places_is_kept_and_one_of_every_gene_is_taken_off():
    rng = np.random.default_rng(0)
    first, second = correlated(400, 40, rng), correlated(200, 40, rng, shift=[0.6, -0.4, 0.3, 0.0])
    batches = np.repeat(["a", "b"], [400, 200])
    places = np.concatenate([first, second])
    own = 1.2 * rng.standard_normal(40)
    moved = places + np.where(batches == "b", 1.0, 0.0)[:, None] * own
    for values, wanted in ((places, 0.0), (moved, 1.0)):
        aligned = align_batches(values, batches, "run").apply(values)
        change = (values - aligned)[batches == "b"].mean(0) - (values - aligned)[batches == "a"].mean(0)
        # What was taken off against what was put on; its error by the directions of the places.
        assert np.linalg.norm(change - wanted * own) < 0.45 * np.linalg.norm(own), wanted
    assert align_batches(places, batches, "run").background.max() < 0.02


def test_spreads_of_batches_become_alike():
    rng = np.random.default_rng(1)
    values = correlated(600, 30, rng)
    batches = np.where(np.arange(600) % 3 == 0, "b", "a")
    factor = np.exp(0.5 * rng.standard_normal(30))
    values[batches == "b"] *= factor
    aligned = align_batches(values, batches, "run").apply(values)
    logs = np.log(aligned[batches == "b"].std(0) / aligned[batches == "a"].std(0))
    before = np.log(values[batches == "b"].std(0) / values[batches == "a"].std(0))
    assert np.abs(logs).mean() < 0.15 * np.abs(before).mean()


def test_batches_that_do_not_differ_are_left_as_they_are():
    rng = np.random.default_rng(2)
    values = correlated(300, 40, rng)
    aligned = align_batches(values, rng.choice(["a", "b", "c"], 300), "run").apply(values)
    assert np.abs(aligned - values).max() < 0.1 * values.std()


def test_blocks_and_sparse_values_come_to_the_same(fit, data):
    steps, genes = fit.preprocessing, data[0].var_names
    whole = steps.apply(data[0].X.astype(np.float64))
    assert isinstance(whole, np.ndarray)
    np.testing.assert_allclose(steps.apply(data[0][:, genes[7:12]].X.astype(np.float64)), whole[:, 7:12])
    from scipy import sparse

    np.testing.assert_allclose(steps.apply(sparse.csc_matrix(data[0].X.astype(np.float64))), whole)
    silent = data[0].X.astype(np.float64)[:, :2]
    silent[:, 0] = 0.0  # never seen
    silent[(data[0].obs["donor"] == "second").to_numpy(), 1] = 0.0  # never seen in a batch
    assert np.isfinite(steps.apply(silent)).all()
    assert (steps.apply(silent)[:, 0] == 0).all()


# A fit


@pytest.mark.parametrize("skew", [0.0, 2.0])
def test_aligned_batches_predict_better_than_ignored_ones(skew):
    cells, reference, truth = two_donors(11, skew=skew)
    ignored = fit_perler(cells, reference, settings=SETTINGS, progress=False)
    aligned = fit_perler(cells, reference, settings=SETTINGS, batch_key="donor", progress=False)
    assert aligned.scores["nested"].mean() > ignored.scores["nested"].mean() + 0.01
    assert accuracy(aligned, truth) > accuracy(ignored, truth) + 0.005


def test_without_differences_nothing_is_lost():
    cells, reference, truth = two_donors(4, background=0.0)
    ignored = fit_perler(cells, reference, settings=SETTINGS, progress=False)
    aligned = fit_perler(cells, reference, settings=SETTINGS, batch_key="donor", progress=False)
    assert aligned.scores["nested"].mean() > ignored.scores["nested"].mean() - 0.01
    assert accuracy(aligned, truth) > accuracy(ignored, truth) - 0.01


def test_a_saved_fit_keeps_the_batches(fit, data, tmp_path):
    fit.save(tmp_path / "fit.npz")
    whole = fit.reconstruct()
    # Other cells' order, and no column of batches any more: the fit knows.
    shuffled = data[0][np.random.default_rng(0).permutation(data[0].n_obs)].copy()
    del shuffled.obs["donor"]
    back = load_fit(tmp_path / "fit.npz", cells=shuffled)
    np.testing.assert_allclose(back.reconstruct().X, whole.X, atol=1e-5)
    told = whole.uns["perler"]["preprocessing"]["batches"]
    assert told["batch_key"] == "donor"
    assert sum(told["cells"].values()) == data[0].n_obs
    assert max(told["background"].values()) > 0.2
    whole.write_h5ad(tmp_path / "result.h5ad")
    assert anndata.read_h5ad(tmp_path / "result.h5ad").uns["perler"]["preprocessing"]["batches"] == told


def test_outer_cross_validation_takes_the_batches(fit, data):
    found = cross_validate_fit(fit, data[0], outer=2, progress=False)
    other = cross_validate(*data[:2], outer=2, settings=SETTINGS, batch_key="donor", progress=False)
    np.testing.assert_allclose(found.scores["score"], other.scores["score"], atol=1e-5)
    without = cross_validate(*data[:2], outer=2, settings=SETTINGS, progress=False)
    assert found.scores["score"].mean() > without.scores["score"].mean()


def test_new_cells_are_placed_as_they_are(fit, data):
    placed = fit.place(data[0][:50].copy())
    assert placed.preprocessing.alignment is None
    assert np.isfinite(placed.reconstruct(list(data[0].var_names[:3])).X).all()


def test_the_command_line_takes_the_column(data, tmp_path, capsys):
    data[0].write_h5ad(tmp_path / "cells.h5ad")
    data[1].write_h5ad(tmp_path / "map.h5ad")
    paths = [str(tmp_path / name) for name in ("cells.h5ad", "map.h5ad", "fit.npz")]
    command = ["fit", *paths[:2], "-o", paths[2], "--weights", "0.1", "1", "--n-metagenes", "8"]
    assert main([*command, "--batch-key", "donor"]) == 0
    assert "2 (donor): first" in capsys.readouterr().out
    assert main([*command, "--batch-key", "donors"]) != 0
    assert "--batch-key donors" in capsys.readouterr().err


def test_batches_of_different_technologies_are_told(data, caplog):
    cells = data[0].copy()
    factor = np.exp(1.2 * np.random.default_rng(0).standard_normal(80))
    logs = np.log2(1 + cells.X)
    logs[(cells.obs["donor"] == "second").to_numpy()] *= factor
    cells.X = logs.astype(np.float32)
    how = {"settings": SETTINGS, "cells_scale": "centred", "weights": (0.1, 1.0), "progress": False}
    found = fit_perler(cells, data[1], batch_key="donor", **how)
    assert "as by different technologies" in caplog.text
    assert (found.preprocessing.alignment.spread == 0).any()
    caplog.clear()
    found = fit_perler(*data[:2], batch_key="donor", settings=SETTINGS, weights=(0.1, 1.0), progress=False)
    assert "technologies" not in caplog.text
    assert (found.preprocessing.alignment.spread > 0).any()


# Refusals


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"] * 260, "expected two batches or more"),
        (
            ["a"] * 258 + ["b"] * 2,
            r"expected 10 cells or more in every batch .*found fewer in 1 of 2.*b \(2\)",
        ),
        (["a"] * 200 + ["b"] * 59 + [None], "expected a batch for every cell"),
        (list(map(str, range(260))), "found fewer in 260 of 260 batches"),
    ],
)
def test_bad_columns_are_refused(data, names, words):
    cells = data[0].copy()
    cells.obs["bad"] = pd.Series(names, cells.obs_names, dtype=object)
    with pytest.raises(PerlerInputError, match=words):
        fit_perler(cells, data[1], batch_key="bad", progress=False)


def test_cells_without_columns_are_refused(data):
    with pytest.raises(PerlerInputError, match="expected columns of obs in the cells"):
        fit_perler(data[0].to_df(), data[1], batch_key="donor", progress=False)
    with pytest.raises(PerlerInputError, match="names batches"):
        fit_perler(*data[:2], batch_key="Donor", progress=False)
    binary = data[0].copy()
    binary.X = (binary.X > 0).astype(np.float32)
    with pytest.raises(PerlerInputError, match="found binary ones"):
        fit_perler(binary, data[1], batch_key="donor", cells_scale="binary", progress=False)
