"""Labels carried to the locations: right where the truth is known, as sure as they are right."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax as scipy_log_softmax

import perler_jax as pj
from perler_jax.app.cli import main
from perler_jax.fit import PerlerFit
from perler_jax.labelling import cell_labels
from perler_jax.labelling.pooling import calibration_error, fit_pool, pool
from perler_jax.labelling.regression import fit_softmax, log_softmax
from perler_jax.labelling.transfer import transfer


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=1, n_locations=300, n_cells=260, n_genes=50, n_landmarks=20)


@pytest.fixture(scope="module")
def thirds(embryo):
    """Third of the embryo's length that each location lies in, and that each cell is from."""
    x = embryo.reference.obsm["spatial"][:, 0]
    of_locations = np.array(["front", "middle", "rear"])[np.searchsorted(np.quantile(x, [1 / 3, 2 / 3]), x)]
    return of_locations, of_locations[embryo.cells.obs["true_location"]]


@pytest.fixture(scope="module")
def fit(embryo, thirds):
    cells = embryo.cells.copy()
    cells.obs["third"] = thirds[1]
    cells.obs["same"] = "all"
    cells.obs["name"] = cells.obs_names
    cells.var["symbol"] = "s-" + cells.var_names
    reference = embryo.reference.copy()
    reference.obs["region"] = pd.Categorical(thirds[0])
    reference.obsm["umap"] = np.arange(600.0).reshape(300, 2)
    reference.uns["spatial"] = {"slide": {"scalefactors": {"spot_diameter_fullres": 2.0}}}
    settings = pj.PerlerSettings(n_metagenes=8, predictor="mean", search="grid", folds=4)
    return pj.fit_perler(cells, reference, settings=settings, progress=False)


@pytest.fixture(scope="module")
def carried(fit):
    return fit.transfer("third")


def test_most_locations_get_the_label_that_they_have(carried, thirds):
    assert (carried.obs["transferred_third"].astype(str) == thirds[0]).mean() > 0.8
    assert list(carried.uns["transferred_third"]["categories"]) == ["front", "middle", "rear"]


def test_probabilities_are_ones_and_say_how_often_they_are_right(carried, thirds):
    chances = carried.obsm["transferred_third"]
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(carried.obs["transferred_third_probability"], chances.max(axis=1), rtol=1e-5)
    entropy = -(chances * np.log(np.maximum(chances, 1e-30))).sum(axis=1)
    np.testing.assert_allclose(carried.obs["transferred_third_entropy"], entropy, atol=1e-4)
    codes = pd.Categorical(thirds[0]).codes
    assert calibration_error(chances, codes) < 0.1
    assert 0.6 < carried.uns["transferred_third"]["right"] < 1


def test_labels_by_name_are_those_of_obs_in_any_order(fit, carried, thirds):
    labels = pd.Series(thirds[1], index=fit.cell_names, name="third")
    more = pd.concat([labels, pd.Series(["front"], index=["no such cell"])])
    shuffled = more.sample(frac=1, random_state=0).rename("third")
    np.testing.assert_array_equal(
        fit.transfer(shuffled).obsm["transferred_third"], carried.obsm["transferred_third"]
    )


def test_cells_without_a_label_take_no_part(fit, thirds):
    labels = pd.Series(thirds[1].astype(object), index=fit.cell_names, name="third")
    labels[labels == "rear"] = None
    found = fit.transfer(labels)
    assert list(found.uns["transferred_third"]["categories"]) == ["front", "middle"]
    assert (found.obs["transferred_third"][thirds[0] == "front"] == "front").mean() > 0.8


def test_numbers_come_with_a_mean_and_an_error(fit, embryo):
    x = embryo.reference.obsm["spatial"][:, 0]
    of_cells = pd.Series(x[embryo.cells.obs["true_location"]], index=fit.cell_names, name="x")
    found = fit.transfer(of_cells.to_frame().assign(twice=2 * of_cells + 3)).obs
    assert np.corrcoef(found["transferred_x"], x)[0, 1] > 0.85
    assert (found["transferred_x_standard_error"] > 0).all()
    np.testing.assert_allclose(
        found["transferred_twice"], 2 * found["transferred_x"] + 3, rtol=1e-3, atol=1e-3
    )
    ratio = found["transferred_twice_standard_error"] / found["transferred_x_standard_error"]
    np.testing.assert_allclose(ratio, 2, rtol=1e-3)


def test_clusters_with_numbers_for_names_are_categories_if_told_so(fit, thirds):
    codes = pd.Series(pd.Categorical(thirds[1]).codes.astype(int), index=fit.cell_names, name="cluster")
    assert "transferred_cluster" in fit.transfer(codes, kind="categories").obsm
    assert "transferred_cluster" not in fit.transfer(codes).obsm


def test_bad_labels_are_refused_before_anything_is_computed(fit, thirds, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr("perler_jax.labelling.transfer.sides_of", computed)
    monkeypatch.setattr("perler_jax.labelling.transfer.whole_predictor", computed)
    good = pd.Series(thirds[1], index=fit.cell_names)
    numbers = pd.Series(np.arange(260.0), index=fit.cell_names)
    for labels, said in (
        ("Third", r"no Third among .*near misses: Third ~ third"),
        ("same", r"at least two categories.*found only 'all'"),
        ("name", r"at most 130 categories.*found 260"),
        (good.iloc[:-2], r"found none for 2 \("),
        (pd.concat([good, good.iloc[:1]]), "repeated"),
        (good.mask(np.arange(260) > 9), "at least 20 cells with a label.*found 10"),
        (numbers.mask(numbers > 250), "found 9 missing or infinite"),
        (thirds[1], "found ndarray; give pd.Series"),
        ([], "at least one column"),
    ):
        with pytest.raises(pj.PerlerInputError, match=said):
            fit.transfer(labels)
    with pytest.raises(pj.PerlerInputError, match="expected kind"):
        fit.transfer(good, kind="number")
    with pytest.raises(pj.PerlerInputError, match="expected numbers in the labels"):
        fit.transfer(good.rename("third"), kind="numbers")


def test_a_loaded_fit_needs_its_cells_and_remembers_the_reference(fit, embryo, carried, thirds, tmp_path):
    fit.save(tmp_path / "fit.npz")
    loaded = pj.load_fit(tmp_path / "fit.npz")
    with pytest.raises(pj.PerlerInputError, match="loaded without them"):
        loaded.transfer("third")
    labels = pd.Series(thirds[1], index=fit.cell_names, name="third")
    found = loaded.transfer(labels, cells=embryo.cells)
    np.testing.assert_allclose(found.obsm["transferred_third"], carried.obsm["transferred_third"], atol=1e-5)
    for result in (carried, found):
        assert list(result.obs["region"]) == list(thirds[0])
        np.testing.assert_array_equal(result.obsm["umap"], np.arange(600.0).reshape(300, 2))
        assert result.uns["spatial"]["slide"]["scalefactors"]["spot_diameter_fullres"] == 2.0


def test_results_remember_reference_and_genes(fit, thirds, tmp_path):
    result = fit.reconstruct(["mix2", "gap1"])
    assert list(result.var["symbol"]) == ["s-mix2", "s-gap1"]
    assert list(result.obs["region"]) == list(thirds[0])
    result.write_h5ad(tmp_path / "result.h5ad")
    again = anndata.read_h5ad(tmp_path / "result.h5ad")
    assert list(again.var["symbol"]) == ["s-mix2", "s-gap1"]
    assert list(again.obs["region"]) == list(thirds[0])
    part = fit.reference.take_locations([5, 3])
    assert list(part.beside.obs["region"]) == [thirds[0][5], thirds[0][3]]
    np.testing.assert_array_equal(part.beside.obsm["umap"], [[10, 11], [6, 7]])


def test_what_h5ad_cannot_hold_is_said_and_left_out(fit, caplog, tmp_path):
    beside = fit.reference.beside
    odd = type(beside)(
        beside.obs.assign(odd=[object()] * 300), None, beside.obsm, {"spatial": {"a": object()}}
    )
    packed = odd.packed()
    assert "obs['odd'], uns['spatial']" in caplog.text
    again = type(beside).unpacked(packed)
    assert "odd" not in again.obs
    assert "region" in again.obs


def test_the_regression_is_at_its_maximum():
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(200, 3)), rng.integers(-1, 4, 200)
    found = fit_softmax(x, codes, 4, ridge=2.0)
    chances = np.exp(log_softmax(x, found))
    np.testing.assert_allclose(log_softmax(x, found), scipy_log_softmax(x @ found[:-1] + found[-1], axis=1))
    known = codes >= 0
    rest = (np.eye(4)[codes] - chances)[known]
    slope = x[known].T @ rest - 2.0 * found[:-1]
    np.testing.assert_allclose(slope, 0, atol=0.3)
    np.testing.assert_allclose(rest.sum(axis=0), 0, atol=0.3)


def test_a_pool_follows_the_opinion_that_is_right_and_tempers_one_that_is_too_sure():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(3), 3000)
    codes = np.array([rng.choice(3, p=each) for each in chances])
    noise = np.log(rng.dirichlet(np.ones(3), 3000))
    exponents = fit_pool(np.stack([3 * np.log(chances), noise]), codes)
    np.testing.assert_allclose(exponents, [1 / 3, 0], atol=0.03)
    pooled = pool(np.stack([3 * np.log(chances), noise]), exponents)
    assert calibration_error(pooled, codes) < 0.03
    assert calibration_error(pool(np.log(chances)[None], np.array([3.0])), codes) > 0.1


def test_calibration_error_of_a_known_case():
    chances = np.array([[0.85, 0.15], [0.85, 0.15], [0.55, 0.45], [0.45, 0.55]])
    # Bin of 0.85: right in one of two, 0.35 off; bin of 0.55: right in both, 0.45 off.
    assert calibration_error(chances, np.array([0, 1, 0, 1])) == pytest.approx(0.5 * 0.35 + 0.5 * 0.45)


def test_the_method_is_the_function():
    assert PerlerFit.transfer is transfer


def test_large_data_let_one_group_of_cells_play(fit, monkeypatch, thirds):
    monkeypatch.setattr("perler_jax.labelling.opinions._ONE_FOLD", 0)
    found = fit.transfer("third")
    assert (found.obs["transferred_third"].astype(str) == thirds[0]).mean() > 0.8


def test_command_line(fit, embryo, thirds, carried, tmp_path, capsys):
    cells = embryo.cells.copy()
    cells.obs["third"] = thirds[1]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.obs[["third"]].to_csv(tmp_path / "labels.csv")
    fit.save(tmp_path / "fit.npz")
    paths = [str(tmp_path / name) for name in ("fit.npz", "cells.h5ad")]
    for given in (["--labels", "third"], ["--labels-table", str(tmp_path / "labels.csv")]):
        assert main(["transfer", *paths, *given, "-o", str(tmp_path / "out.h5ad")]) == 0
        printed = capsys.readouterr().out
        assert "third  3 categories" in printed
        assert "% of the tissue" in printed
        found = anndata.read_h5ad(tmp_path / "out.h5ad")
        np.testing.assert_allclose(
            found.obsm["transferred_third"], carried.obsm["transferred_third"], atol=1e-4
        )
        assert list(found.uns["transferred_third"]["categories"]) == ["front", "middle", "rear"]
    out = str(tmp_path / "out2.h5ad")
    assert main(["transfer", *paths, "--labels", "thurd", "-o", out]) == 2
    assert "found no thurd" in capsys.readouterr().err
    assert main(["transfer", *paths, "--labels-table", str(tmp_path / "none.csv"), "-o", out]) == 2


def test_a_single_category_of_many_is_shown_short():
    codes = np.arange(100) % 60
    with pytest.raises(pj.PerlerInputError, match=r"at most 50 categories .*found 60 .*55 more"):
        cell_labels._check_categories("x", codes, np.arange(60).astype(str), False)
