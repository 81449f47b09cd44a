"""The facade: one answer from every kind of input and order, untouched inputs, errors before any work."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import TypeCheckError

import perler_jax.perler as facade
from perler_jax.em import fit_em
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.intake import as_cells
from perler_jax.perler import fit_perler
from perler_jax.preprocessing import log_reference
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo
from tests import oracle

CELLS, LOCATIONS, GENES, LANDMARKS, METAGENES = 80, 100, 50, 10, 6
SETTINGS = PerlerSettings(n_metagenes=METAGENES, dtype="float64")
WEIGHTS = (0.1, 0.7)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, n_locations=LOCATIONS, n_cells=CELLS, n_genes=GENES, n_landmarks=LANDMARKS)


@pytest.fixture(scope="module")
def tuned(embryo):
    return fit(embryo)


@pytest.fixture(scope="module")
def given(embryo):
    """Alpha and beta given: nothing is held out."""
    return fit(embryo, weights=WEIGHTS)


def fit(embryo, cells=None, reference=None, settings=SETTINGS, **options):
    return fit_perler(
        embryo.cells if cells is None else cells,
        embryo.reference if reference is None else reference,
        settings=settings,
        progress=False,
        **options,
    )


def content(adata):
    """Every byte and name of an AnnData."""
    x = adata.X
    parts = (x.data, x.indices, x.indptr) if sp.issparse(x) else (x,)
    arrays = [np.asarray(part).tobytes() for part in (*parts, *adata.obsm.values())]
    return arrays, adata.obs.to_json(), adata.var.to_json(), list(adata.uns)


def test_a_fit_reports_scores_parameters_and_provenance(tuned):
    assert list(tuned.scores.columns) == [
        *("fold", "held_out", "nested", "nested_paper", "reconstruction", "alpha", "beta")
    ]
    assert tuned.scores.index.name == "landmark"
    assert list(tuned.scores.index) == list(tuned.landmarks)
    assert np.isfinite(tuned.scores.to_numpy()).all()
    np.testing.assert_array_equal(tuned.scores["fold"], np.arange(LANDMARKS))
    np.testing.assert_array_equal(tuned.scores["nested_paper"], tuned.tuning.nested_scores)
    assert 0.3 < tuned.scores["nested"].mean() < tuned.scores["reconstruction"].mean() < 1
    assert list(tuned.parameters.columns) == ["sensitivity", "background", "noise"]
    assert tuned.loadings.shape == (LANDMARKS, METAGENES)
    assert list(tuned.loadings.index) == list(tuned.landmarks)
    record = tuned.provenance()
    assert (record["n_metagenes"], record["n_landmarks"], record["em_converged"]) == (
        METAGENES,
        LANDMARKS,
        True,
    )
    assert (record["alpha"], record["beta"]) == (tuned.tuning.alpha, tuned.tuning.beta)
    assert set(record["seconds"]) == {"inputs", "em", "held_out", "tuning", "reconstruction"}
    assert repr(tuned).startswith(
        f"PerlerFit({CELLS} cells on {LOCATIONS} locations by {LANDMARKS} landmarks, "
        f"{tuned.describe_predictor()}, "
    )
    assert f"nested score {tuned.scores['nested'].mean():.3f}" in repr(tuned)


def test_metagenes_are_those_of_the_centred_logarithms(tuned, embryo):
    counts = embryo.cells.X.toarray().astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    logs = np.log2(1 + counts * np.median(totals) / totals)
    y = logs[:, embryo.cells.var_names.get_indexer(tuned.landmarks)]
    h = np.log2(1 + embryo.reference.X)
    x, r = oracle.metagenes(y - y.mean(axis=0), h - h.mean(axis=0), METAGENES)
    signs = np.sign((tuned.cell_metagenes * x).sum(axis=0))
    np.testing.assert_allclose(tuned.cell_metagenes * signs, x, atol=1e-4 * np.abs(x).max())  # float32 counts
    np.testing.assert_allclose(tuned.reference_metagenes * signs, r, atol=1e-4 * np.abs(r).max())


def test_reconstruction_score_is_the_correlation_of_the_reconstruction(tuned, embryo):
    predicted = tuned.reconstruct(list(tuned.landmarks)).X
    expected = oracle.correlations(predicted, log_reference(embryo.reference.X))
    np.testing.assert_allclose(tuned.scores["reconstruction"], expected, atol=1e-6)


def test_inputs_are_the_same_bytes_after_as_before(embryo):
    before = content(embryo.cells), content(embryo.reference)
    fitted = fit(embryo, weights=WEIGHTS)
    fitted.reconstruct(standardise=True)
    fitted.posterior([0])
    assert (content(embryo.cells), content(embryo.reference)) == before


def test_a_fit_is_immutable(given):
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.weights = None
    with pytest.raises(ValueError, match="read-only"):
        given.reference.values[0, 0] = 1.0


def test_order_of_genes_cells_and_locations_does_not_matter(embryo, tuned):
    rng = np.random.default_rng(1)
    cells = embryo.cells[rng.permutation(CELLS), rng.permutation(GENES)].copy()
    reference = embryo.reference[rng.permutation(LOCATIONS), rng.permutation(LANDMARKS)].copy()
    moved = fit(embryo, cells, reference)
    np.testing.assert_allclose(moved.em.log_likelihood, tuned.em.log_likelihood, rtol=1e-6)
    table = moved.scores.loc[tuned.scores.index]
    scores, weights = ["held_out", "nested", "reconstruction"], ["alpha", "beta"]
    np.testing.assert_allclose(table[scores], tuned.scores[scores], atol=1e-3)
    np.testing.assert_allclose(table[weights], tuned.scores[weights], rtol=2e-2, atol=1e-3)  # along a ridge
    names = ["gap1", "stripe14_1"]
    expected = tuned.reconstruct(names).to_df().loc[moved.reference.locations]
    pd.testing.assert_frame_equal(moved.reconstruct(names).to_df(), expected, rtol=1e-3)


KINDS = {
    "AnnData, CSC": lambda cells: AnnData(sp.csc_matrix(cells.X), obs=cells.obs, var=cells.var),
    "AnnData, dense": lambda cells: AnnData(cells.X.toarray(), obs=cells.obs, var=cells.var),
    "DataFrame": lambda cells: cells.to_df(),
    "DataFrame of integers": lambda cells: cells.to_df().astype(int),
    "CellExpression": as_cells,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_fit(embryo, given, kind):
    found = fit(embryo, KINDS[kind](embryo.cells), weights=WEIGHTS)
    np.testing.assert_allclose(found.em.log_likelihood, given.em.log_likelihood, rtol=1e-6)
    expected = given.reconstruct(["dv1", "flat1"]).X
    np.testing.assert_allclose(found.reconstruct(["dv1", "flat1"]).X, expected, atol=1e-5)


def test_a_reference_table_does_as_well_as_anndata(embryo, given):
    found = fit(embryo, reference=embryo.reference.to_df(), weights=WEIGHTS)
    np.testing.assert_allclose(found.scores["reconstruction"], given.scores["reconstruction"], rtol=1e-9)
    assert "spatial" not in found.reconstruct(["gap1"]).obsm


def test_given_weights_skip_held_out_fits_and_tuning(given):
    assert given.held_out is None
    assert given.tuning is None
    assert (float(given.weights.alpha[0]), float(given.weights.beta[0])) == WEIGHTS
    assert given.scores[["held_out", "nested", "alpha", "beta"]].isna().to_numpy().all()
    assert given.scores["reconstruction"].notna().all()
    assert set(given.seconds) == {"inputs", "em", "reconstruction"}
    assert "nested" not in repr(given)


def test_a_given_covariance_of_landmarks_is_used_by_name(embryo, given):
    """A table in any order; twice the covariance is the distance over the square root of two."""
    names = given.landmarks[::-1]
    matrix = pd.DataFrame(np.cov(given.reference.values[:, ::-1], rowvar=False), index=names, columns=names)
    one = fit(embryo, weights=WEIGHTS, covariance=matrix)
    near, far = one.distance_space()
    loadings = one.metagenes.cell_loadings
    in_order = matrix.loc[list(given.landmarks), list(given.landmarks)].to_numpy()
    params = one.em.params
    mapped = np.asarray(params.sensitivity) * one.reference_metagenes + np.asarray(params.background)
    expected = oracle.mahalanobis(one.cell_metagenes[:3], mapped[:4], loadings.T @ in_order @ loadings)
    found = np.linalg.norm(np.asarray(near)[:3, None] - np.asarray(far)[:4], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    scaled = fit(embryo, weights=(2 * WEIGHTS[0], np.sqrt(2) * WEIGHTS[1]), covariance=2 * in_order)
    np.testing.assert_allclose(scaled.scores["reconstruction"], one.scores["reconstruction"], rtol=1e-8)


def test_equal_location_weights_are_the_default(embryo, given):
    found = fit(embryo, weights=WEIGHTS, location_weights=np.full(LOCATIONS, 3.0))
    np.testing.assert_allclose(found.em.history, given.em.history, rtol=1e-9)
    np.testing.assert_allclose(
        found.reconstruct(["gap1"]).X, given.reconstruct(["gap1"]).X, rtol=1e-7, atol=1e-9
    )


def test_a_location_without_weight_takes_no_cell(embryo):
    areas = np.ones(LOCATIONS)
    areas[7] = 0
    found = fit(embryo, weights=WEIGHTS, location_weights=areas)
    assert (found.posterior()["location8"] == 0).all()
    assert np.isfinite(found.reconstruct().X).all()


def test_location_weights_can_be_learned(embryo, given):
    settings = dataclasses.replace(SETTINGS, learn_location_weights=True)
    found = fit(embryo, settings=settings, weights=WEIGHTS)
    learned = np.exp(found.em.params.log_location_weights)
    np.testing.assert_allclose(learned.sum(), 1.0, rtol=1e-9)
    assert np.ptp(learned) > 0.01
    assert found.em.log_likelihood > given.em.log_likelihood


def test_posterior_rows_are_probabilities(given):
    table = given.posterior(["cell7", "cell3"])
    assert table.shape == (2, LOCATIONS)
    assert list(table.index) == ["cell7", "cell3"]
    assert list(table.columns) == list(given.reference.locations)
    assert (table.to_numpy() >= 0).all()
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-12)
    params = given.em.params
    expected = oracle.responsibilities(
        given.cell_metagenes[[6, 2]],
        *(np.asarray(each) for each in (params.sensitivity, params.background, params.noise)),
        np.full(LOCATIONS, 1 / LOCATIONS),
        given.reference_metagenes,
    )
    np.testing.assert_allclose(table, expected, rtol=1e-8, atol=1e-12)


def test_reconstruction_is_labelled_and_annotated(tuned, embryo):
    whole = tuned.reconstruct()
    assert list(whole.var_names) == list(embryo.cells.var_names)
    assert list(whole.obs_names) == list(embryo.reference.obs_names)
    np.testing.assert_array_equal(whole.obsm["spatial"], embryo.reference.obsm["spatial"])
    assert whole.var.loc[list(tuned.landmarks), "is_landmark"].all()
    assert whole.var["is_landmark"].sum() == LANDMARKS
    np.testing.assert_array_equal(whole.var.loc[tuned.scores.index, "score_nested"], tuned.scores["nested"])
    assert whole.uns["perler"]["units"] == "log2(1 + expression) of the normalised cells"
    part = tuned.reconstruct(["flat1", "gap2"])
    np.testing.assert_allclose(part.X, whole[:, ["flat1", "gap2"]].X, rtol=1e-12)
    scaled = tuned.reconstruct(standardise=True)
    np.testing.assert_allclose(scaled.X.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(scaled.X.std(axis=0), 1, rtol=1e-10)
    assert scaled.uns["perler"]["units"] == "z-score over locations"


def test_unseen_stripes_are_predicted(tuned, embryo):
    """Patterned genes that are no landmarks come out like the truth; unpatterned ones cannot."""
    predicted, truth = tuned.reconstruct(), embryo.truth
    genes = truth.var_names[(truth.var["class"] == "mixture") & ~truth.var["landmark"]]
    rho = oracle.correlations(predicted[:, genes].X, truth[:, genes].X)
    assert np.median(rho) > 0.5


def test_unknown_genes_are_named_with_near_misses(given):
    with pytest.raises(PerlerInputError, match="Gap1"):
        given.reconstruct(["Gap1"])


def test_float64_stays_inside_and_float32_is_close(embryo, given):
    assert not jax.config.jax_enable_x64
    assert given.em.params.noise.dtype == given.weights.alpha.dtype == np.float64
    assert given.cell_metagenes.dtype == given.reconstruct(["gap1"]).X.dtype == np.float64
    single = fit(embryo, settings=dataclasses.replace(SETTINGS, dtype="float32"), weights=WEIGHTS)
    assert single.em.params.noise.dtype == single.reconstruct(["gap1"]).X.dtype == np.float32
    np.testing.assert_allclose(single.em.log_likelihood, given.em.log_likelihood, rtol=1e-4)
    np.testing.assert_allclose(single.scores["reconstruction"], given.scores["reconstruction"], atol=5e-3)


def test_folds_and_binary_references(embryo):
    """Three folds, scored by ROC AUC."""
    table = embryo.reference.to_df()
    binary = (table > table.quantile(0.7)).astype(float)
    found = fit(embryo, reference=binary, settings=dataclasses.replace(SETTINGS, folds=3, objective="roc"))
    assert sorted(found.scores["fold"].value_counts()) == [3, 3, 4]
    scores = found.scores[["held_out", "nested", "reconstruction"]]
    assert ((scores >= 0) & (scores <= 1)).to_numpy().all()
    assert scores["nested"].mean() > 0.6
    assert found.scores.groupby("fold")["alpha"].nunique().max() == 1
    predicted = found.reconstruct(list(found.landmarks)).X
    expected = [
        oracle.auc(values, on) for values, on in zip(predicted.T, binary.to_numpy().T > 0, strict=True)
    ]
    np.testing.assert_allclose(found.scores["reconstruction"], expected, rtol=1e-9)


def test_a_default_number_of_metagenes_is_lowered_without_a_warning(embryo, caplog):
    found = fit(embryo, settings=PerlerSettings(), weights=WEIGHTS)
    assert found.cell_metagenes.shape[1] == LANDMARKS - 1
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_fewer_metagenes_and_an_unfinished_em_are_said(embryo, caplog):
    found = fit(embryo, settings=dataclasses.replace(SETTINGS, n_metagenes=59, max_steps=2), weights=WEIGHTS)
    assert found.cell_metagenes.shape[1] == LANDMARKS - 1
    assert "n_metagenes lowered from 59 to 9" in caplog.text
    assert not found.provenance()["em_converged"]
    assert "EM did not converge in 2 steps" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location_weights": np.ones(3)}, "expected 100 location weights"),
        ({"location_weights": -np.ones(LOCATIONS)}, "expected 100 location weights >= 0"),
        ({"totals": np.ones(3)}, "expected 80 positive totals"),
        ({"covariance": np.eye(3)}, "expected a symmetric positive definite covariance of the 10 landmarks"),
        ({"covariance": -np.eye(LANDMARKS)}, "that is not one"),
        ({"weights": (-0.1, 0.3)}, r"expected weights \(alpha, beta\) >= 0, found \(-0.1, 0.3\)"),
        ({"weights": (0.1, np.nan)}, "expected weights"),
        ({"settings": dataclasses.replace(SETTINGS, folds=11)}, "expected 2 to 10 folds"),
        ({"reference": "renamed"}, "expected at least 3 landmarks with the same name"),
        ({"cells": "text"}, "expected an AnnData"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(embryo, monkeypatch, options, message):
    def work(*arguments, **keywords):
        raise AssertionError("EM was started")

    monkeypatch.setattr(facade, "fit_em", work)
    if "reference" in options:
        table = embryo.reference.to_df()
        options = {"reference": table.rename(columns=str.upper)}
    elif "cells" in options:
        options = {"cells": [1, 2, 3]}
    with pytest.raises(PerlerInputError, match=message):
        fit(embryo, **options)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"reduction": "umap"}, "expected reduction to be one of plsc, pca, none; found 'umap'"),
        ({"covariance": "full"}, "expected covariance to be one of"),
        ({"n_metagenes": 0}, "expected n_metagenes >= 1"),
        ({"tolerance": 0.0}, "expected tolerance > 0"),
        ({"objective": "roc", "search": "gradient"}, "expected search 'grid' with objective 'roc'"),
    ],
)
def test_impossible_settings_are_refused(choice, message):
    # Under the runtime checker a name that does not exist is refused even earlier.
    checked = (PerlerInputError, TypeCheckError)
    with pytest.raises(checked, match=f"{message}|whilst typechecking parameter '{next(iter(choice))}'"):
        PerlerSettings(**choice)


def test_repeated_fits_compile_nothing_new(embryo):
    fit(embryo, weights=WEIGHTS)  # here: what an earlier test compiled may have been forgotten for its memory
    before = fit_em._cache_size()
    fit(embryo, weights=(0.2, 0.2))
    assert fit_em._cache_size() == before
