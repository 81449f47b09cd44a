"""The released program's printed numbers on the real fly embryo, from the `released` preset.

Its tutorial prints log-likelihoods, distances and a table of predictions for weights that it had tuned. Its
input file had four decimals, so the logarithms are rounded alike and given as logarithms.
"""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from perler_jax.datasets import load_fly
from perler_jax.held_out.cross_validation import correlation
from perler_jax.inputs.intake import as_cells
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.weights import distance_space, weighted_means


@pytest.fixture(scope="module")
def golden(fly_directory):
    return json.loads((fly_directory / "perler_tutorial_golden.json").read_text())


@pytest.fixture(scope="module")
def fly(fly_directory):
    return load_fly(fly_directory)


@pytest.fixture(scope="module")
def cells(fly, golden):
    """The landmarks and the printed genes, as the released program read them."""
    printed = golden["zscored_result_head"]["columns"]
    genes = [*fly.reference.var_names, *(name for name in printed if name not in fly.reference.var_names)]
    counts = fly.cells[:, genes].X.toarray().astype(np.float64)
    totals = fly.cells.obs["norm_total"].to_numpy()[:, None]
    logs = np.round(np.log2(1 + counts * totals.max() / totals), 4)
    return as_cells(pd.DataFrame(logs, index=fly.cells.obs_names, columns=genes), scale="log2")


@pytest.fixture(scope="module")
def fit(fly, cells, golden):
    roots = golden["plr_res"]  # the released program keeps the square roots of alpha and beta
    weights = (roots[0] ** 2, roots[1] ** 2)
    return fit_perler(
        cells, fly.reference, settings=PerlerSettings.released(), weights=weights, progress=False
    )


def distances(fit, covariance):
    """Corners of the table that the released program prints, locations x cells."""
    with device_precision("float64"):
        sides = (jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes))
        near, far = map(np.asarray, distance_space(fit.em.params, *sides, covariance))
    return [np.linalg.norm(far[ends][:, None] - near[ends], axis=-1) for ends in (slice(3), slice(-3, None))]


def test_the_totals_are_those_of_the_published_table(fly):
    assert fly.cells.obs["norm_total"].max() == 134910


def test_the_preset_is_what_the_program_did():
    settings = PerlerSettings.released()
    assert (settings.n_metagenes, settings.reduction, settings.learn_location_weights) == (60, "plsc", False)
    assert (settings.covariance, settings.stop_rule, settings.tolerance) == ("pooled", "released", 0.01)
    assert (settings.search_used, settings.dtype) == ("grid", "float64")


@pytest.mark.parametrize("iteration", ["5", "10", "15"])
def test_log_likelihoods_of_em(fit, golden, iteration):
    np.testing.assert_allclose(
        fit.em.history[int(iteration)], golden["em_loglik"][iteration], rtol=0, atol=1e-4
    )


def test_em_ends_where_the_program_ended(fit, golden):
    assert bool(fit.em.converged)
    expected = golden["em_loglik_final_recomputed_here"]
    np.testing.assert_allclose(fit.em.log_likelihood, expected, rtol=0, atol=1e-4)


def test_distances_are_those_of_the_pooled_covariance(fit, golden):
    first, last = distances(fit, fit.settings.covariance)
    np.testing.assert_allclose(first, golden["DM_first3rows_first3cols"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(last, golden["DM_last3rows_last3cols"], rtol=0, atol=1e-5)


def test_the_distance_of_the_papers_text_is_another(fit):
    """Eq. 23 with the fitted noise: the first row as recomputed when the difference was found."""
    first, _ = distances(fit, "fitted")
    np.testing.assert_allclose(first[0], [8.77489532, 10.96613486, 11.12541694], rtol=0, atol=1e-5)


def test_predictions_are_those_printed(fit, golden):
    table = golden["zscored_result_head"]
    found = fit.reconstruct(table["columns"], standardise=True)
    assert list(found.var_names) == table["columns"]
    np.testing.assert_allclose(found.X[: len(table["rows"])], table["rows"], rtol=0, atol=1e-5)


def test_correlations_with_the_reference(fit, fly, golden):
    """Means over landmarks: reference as log2(1 + h), raw reference, and the distance of Eq. 23."""
    expected = golden["recomputed_here"]
    found = fit.scores["reconstruction"].mean()
    np.testing.assert_allclose(found, expected["reconstruction_aCC_log2p1_reference"], atol=5e-5)
    predicted = fit.reconstruct(list(fit.landmarks)).X
    raw = fly.reference.to_df()[list(fit.landmarks)].to_numpy()
    with device_precision("float64"):
        against_raw = correlation(jnp.asarray(predicted.T), jnp.asarray(raw.T)).mean()
        sides = (jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes))
        near, far = distance_space(fit.em.params, *sides, "fitted")
        logs = jnp.asarray(fit.cells.dense(list(fit.landmarks)))
        by_text = weighted_means(fit.weights, near, far, None, logs)[0]
        by_text = correlation(by_text.T, jnp.log2(1 + jnp.asarray(raw.T))).mean()
    np.testing.assert_allclose(against_raw, expected["reconstruction_aCC_raw_reference"], atol=5e-5)
    np.testing.assert_allclose(by_text, expected["same_res_but_VI_inv_Sigma_aCC_log2p1"], atol=5e-5)
