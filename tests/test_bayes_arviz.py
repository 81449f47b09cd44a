"""The seam to ArviZ: names along every axis, summary and LOO that run, a comparison that finds the truth."""

import types
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from perler_jax.density import log_density
from perler_jax.errors import PerlerInputError
from perler_jax.inference.bayes_arviz import import_arviz, leave_one_out, to_arviz
from perler_jax.inference.model_comparison import (
    compare_log_likelihoods,
    compare_metagenes,
    landmark_log_likelihood,
)
from perler_jax.inference.posterior import MappingDraws, check_sides
from perler_jax.metagenes import fit_metagenes
from perler_jax.mixture import MappingParams
from perler_jax.noise import StudentT

CELLS, LOCATIONS, METAGENES, GENES = 40, 7, 3, 5
LABELS = {
    "metagene": ["m1", "m2", "m3"],
    "cell": [f"cell {i}" for i in range(CELLS)],
    "location": [f"place {i}" for i in range(LOCATIONS)],
    "gene": list("abcde"),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    r = rng.normal(size=(LOCATIONS, METAGENES))
    x = r[rng.integers(LOCATIONS, size=CELLS)] + 0.5 * rng.normal(size=(CELLS, METAGENES))
    shape = (2, 50, METAGENES)
    draws = MappingDraws(
        jnp.asarray(1 + 0.05 * rng.normal(size=shape)),
        jnp.asarray(0.05 * rng.normal(size=shape)),
        jnp.asarray(0.5 * np.exp(0.05 * rng.normal(size=shape))),
        jnp.asarray(np.log(rng.dirichlet(np.full(LOCATIONS, 50.0), size=shape[:2]))),
    )
    return draws, jnp.asarray(x), jnp.asarray(r), rng.normal(size=(GENES, METAGENES))


def group_names(found):
    return set(found.children) if isinstance(found, xr.DataTree) else set(found.groups())


def test_groups_are_what_this_arviz_works_on(problem):
    draws, x, r, _ = problem
    found = to_arviz(draws, x, r, labels=LABELS)
    if int(version("arviz").split(".")[0]) >= 1:
        assert type(found) is xr.DataTree
    else:
        assert type(found) is import_arviz().InferenceData
    assert found["posterior"]["noise"].sel(metagene="m2").shape == (2, 50)
    assert found["log_likelihood"]["cells"].dims == ("chain", "draw", "cell")


def test_every_axis_is_named(problem):
    draws, x, r, loadings = problem
    found = to_arviz(draws, x, r, labels=LABELS, loadings=loadings, n_predicted=6, seed=1)
    assert group_names(found) == {
        "posterior",
        "log_likelihood",
        "posterior_predictive",
        "observed_data",
        "constant_data",
    }
    assert found.posterior["sensitivity"].dims == ("chain", "draw", "metagene")
    assert found.posterior["location_weights"].dims == ("chain", "draw", "location")
    np.testing.assert_allclose(found.posterior["location_weights"].sum("location"), 1.0, rtol=1e-12)
    one = found.posterior["noise"].sel(metagene="m2", chain=1, draw=7)
    assert float(one) == float(draws.noise[1, 7, 1])
    likelihood = found.log_likelihood["cells"].sel(cell="cell 4", chain=1, draw=7)
    at = MappingParams(
        draws.sensitivity[1, 7], draws.background[1, 7], draws.noise[1, 7], draws.log_location_weights[1, 7]
    )
    np.testing.assert_allclose(likelihood, log_density(at, x, r)[4], rtol=1e-12)
    assert found.constant_data["loadings"].sel(gene="c", metagene="m3") == loadings[2, 2]
    assert found.constant_data["reference"].dims == ("location", "metagene")
    assert found.observed_data["cells"].dims == ("cell", "metagene")
    simulated = found.posterior_predictive
    assert simulated["cells"].shape == (2, 50, 6, METAGENES)
    origin = simulated["origin"].values
    mapped = draws.sensitivity[:, :, None] * r[origin] + draws.background[:, :, None]
    residual = (simulated["cells"].values - mapped) / draws.noise[:, :, None]
    assert abs(float(residual.std()) - 1) < 0.08


def test_summary_and_loo_run(problem):
    draws, x, r, _ = problem
    az = import_arviz()
    fit = types.SimpleNamespace(draws=draws, statistics={"diverging": np.zeros((2, 50), bool)})
    found = to_arviz(fit, x, r, labels=LABELS)
    assert "diverging" in found.sample_stats
    summary = az.summary(found, var_names=["sensitivity", "noise"], round_to="none")
    assert list(summary.index)[:2] == ["sensitivity[m1]", "sensitivity[m2]"]
    names = [f"{name}[m{i}]" for name in ("sensitivity", "noise") for i in (1, 2, 3)]
    values = np.concatenate(
        [np.asarray(each).reshape(100, 3) for each in (draws.sensitivity, draws.noise)], 1
    )
    np.testing.assert_allclose(summary.loc[names, "mean"].astype(float), values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(summary.loc[names, "sd"].astype(float), values.std(axis=0, ddof=1), rtol=1e-9)
    assert (summary["r_hat"].astype(float) < 1.1).all()
    by_user = az.loo(found, pointwise=True)
    loo = leave_one_out(found)
    np.testing.assert_allclose(
        loo.elpd.sum(), float(by_user["elpd" if "elpd_i" in dir(by_user) else "elpd_loo"])
    )
    assert loo.elpd.shape == loo.pareto_k.shape == (CELLS,)
    likelihood = np.asarray(found.log_likelihood["cells"])
    # Of a left-out cell, importance sampling without smoothing says -ln E[1 / p]; p_loo is what it lost.
    plain = -np.log(np.exp(-likelihood).mean(axis=(0, 1)))
    alone = leave_one_out(likelihood)
    np.testing.assert_allclose(alone.elpd, plain, atol=0.05)
    seen = np.log(np.exp(likelihood).mean(axis=(0, 1)))
    np.testing.assert_allclose(alone.effective_parameters, (seen - alone.elpd).sum(), rtol=1e-6)
    assert abs(loo.elpd.sum() - alone.elpd.sum()) < 0.5  # other estimates of efficiency


def test_wrong_labels_are_refused(problem):
    draws, x, r, _ = problem
    with pytest.raises(PerlerInputError, match="40 labels of cell"):
        to_arviz(draws, x, r, labels={"cell": ["one"]})
    with pytest.raises(PerlerInputError, match="found cells"):
        to_arviz(draws, x, r, labels={"cells": LABELS["cell"]})
    with pytest.raises(PerlerInputError, match="same metagenes"):
        check_sides(x, r[:, :2])


def normal_log_likelihood(y, sd, rng, n_draws=400):
    """Draws of the mean of a normal of known sd, and the cells' densities under them."""
    mean = y.mean() + sd / np.sqrt(len(y)) * rng.normal(size=n_draws)
    return stats.norm(mean[:, None], sd).logpdf(y)[None]


def test_loo_equals_the_exact_leave_one_out_density():
    rng = np.random.default_rng(0)
    y = rng.normal(size=60)
    table = compare_log_likelihoods(
        {"right": normal_log_likelihood(y, 1.0, rng), "wide": normal_log_likelihood(y, 3.0, rng)}
    )
    assert list(table.index) == ["right", "wide"]
    for name, sd in (("right", 1.0), ("wide", 3.0)):
        rest = (y.sum() - y) / (len(y) - 1)
        exact = stats.norm(rest, sd * np.sqrt(1 + 1 / (len(y) - 1))).logpdf(y)
        np.testing.assert_allclose(table.loc[name, "elpd"], exact.sum(), atol=0.3)
        np.testing.assert_allclose(table.loc[name, "standard_error"], np.sqrt(60) * exact.std(), rtol=0.05)
    np.testing.assert_allclose(table.loc["right", "effective_parameters"], 1.0, atol=0.35)
    assert table.loc["right", "difference"] == 0
    assert table.loc["wide", "difference"] < -2 * table.loc["wide", "difference_error"]
    with pytest.raises(PerlerInputError, match="same cells"):
        compare_log_likelihoods({"a": np.zeros((1, 9, 4)), "b": np.zeros((1, 9, 5))})


@pytest.fixture(scope="module")
def landmarks():
    """Cells and reference in four landmarks, of which two directions carry location."""
    rng = np.random.default_rng(8)
    h = rng.normal(size=(12, 4)) * np.array([2.0, 1.5, 0.0, 0.0]) + 0.3 * rng.normal(size=(12, 4))
    y = h[rng.integers(12, size=150), :2] @ np.eye(2, 4) + 0.6 * rng.normal(size=(150, 4))
    return y - y.mean(axis=0), h - h.mean(axis=0)


def test_comparison_finds_the_metagenes_that_carry_location(landmarks):
    found = compare_metagenes(*landmarks, [("plsc", 1), ("plsc", 2)], n_draws=100, progress=False)
    assert found.loc["plsc 1", "elpd"] < found.loc["plsc 2", "elpd"] - 20
    assert list(found.index) == ["plsc 2", "plsc 1"]
    assert (found["effective_parameters"] > 3).all()


def test_comparison_finds_heavy_tails():
    rng = np.random.default_rng(1)
    h = rng.normal(size=(40, 3))
    y = h[rng.integers(40, size=300)] + 0.4 * rng.standard_t(2.5, size=(300, 1)) * rng.normal(size=(300, 3))
    choices = [("pca", 3), ("pca", 3, StudentT(3.0))]
    found = compare_metagenes(y - y.mean(axis=0), h - h.mean(axis=0), choices, n_draws=60, progress=False)
    assert found.index[0] == "pca 3 StudentT(df=3.0)"
    assert found.loc["pca 3", "difference"] < -4 * found.loc["pca 3", "difference_error"]


@pytest.mark.parametrize("reduction", ["plsc", "pca"])
def test_completed_density_is_a_density_of_landmarks(reduction):
    """Of cells whose density is known: the model of all metagenes comes near it."""
    rng = np.random.default_rng(3)
    h = rng.normal(size=(40, 4)) * np.array([1.0, 2.0, 3.0, 4.0])
    spread = np.array([0.3, 0.5, 0.4, 0.6])
    y = h[rng.integers(40, size=400)] + spread * rng.normal(size=(400, 4))
    squares = (((y[:, None] - h) / spread) ** 2).sum(axis=-1)
    truth = logsumexp(-0.5 * squares, axis=1) - np.log(40) - np.log(spread).sum() - 2 * np.log(2 * np.pi)
    sides = y - y.mean(axis=0), h - h.mean(axis=0)
    found = landmark_log_likelihood(*sides, reduction, 4, n_draws=20, seed=0)
    assert abs(found.mean() - truth.mean()) < 0.2
    loadings = fit_metagenes(*sides, n_metagenes=4, reduction=reduction).cell_loadings
    stretched = abs(np.linalg.slogdet(loadings)[1])
    assert reduction == "pca" or stretched > 5, "else the change of variables is not tried"


def test_what_cannot_be_compared_is_refused(landmarks):
    y, h = landmarks
    with pytest.raises(PerlerInputError, match="1 to 4 metagenes by plsc, found 5"):
        compare_metagenes(y, h, [("plsc", 5)])
    with pytest.raises(PerlerInputError, match="4 to 4 metagenes by none"):
        compare_metagenes(y, h, [("none", 2)])
    twice = np.column_stack([h, h[:, 0]])
    with pytest.raises(PerlerInputError, match="linearly independent"):
        compare_metagenes(np.column_stack([y, y[:, 0]]), twice, [("plsc", 2)], progress=False)
