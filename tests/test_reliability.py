"""Reliability: signals against dense loops, the model against least squares, flags against the truth."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from perler_jax import PerlerInputError, PerlerSettings, fit_perler, simulate_embryo
from perler_jax.scores.metrics import morans_i
from perler_jax.trust import split_halves
from perler_jax.trust.predictor import landmark_table, whole_predictor
from perler_jax.trust.reliability import gene_reliability
from perler_jax.trust.reliability_model import fit_reliability
from perler_jax.trust.signals import SIGNALS, gene_signals, reference_agreement
from perler_jax.trust.split_halves import SplitHalves, random_halves
from tests import oracle

SETTINGS = PerlerSettings(n_metagenes=5, folds=6)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=5, n_locations=150, n_cells=300, n_genes=200, n_landmarks=16)


@pytest.fixture(scope="module")
def fit(embryo):
    return fit_perler(embryo.cells, embryo.reference, settings=SETTINGS, progress=False)


@pytest.fixture(scope="module")
def table(fit):
    return gene_reliability(fit, seed=0)


def correlation(one, other):
    return np.corrcoef(one, other)[0, 1]


def test_signals_are_those_of_the_dense_weights(fit):
    landmarks = landmark_table(fit, fit.cells)
    predictor = whole_predictor(fit, fit.cells, plain=True)
    genes = ["stripe14_1", "flat2", "mix1"]
    values = np.asarray(fit.preprocessing.apply(fit.cells.dense(genes)), np.float64)
    values = values - values.mean(axis=0)
    halves = random_halves(len(values), 3, seed=1)
    parts = SplitHalves(predictor, halves)
    found = gene_signals(
        predictor, predictor, np.array(genes, dtype=object), values, parts, fit.reference.coordinates
    )
    assert tuple(found) == SIGNALS

    near, far = (np.asarray(side, np.float64) for side in fit.distance_space())
    point = float(fit.weights.alpha[0]), float(fit.weights.beta[0])
    w = oracle.weights(oracle.mahalanobis(near, far, np.eye(near.shape[1])), np.ones(len(far)), *point)
    whole = oracle.weighted_mean(w, values)
    for gene in range(3):
        r, share = [], []
        for pair in halves:
            one, other = (oracle.weighted_mean(w[part], values[part])[:, gene] for part in pair)
            r.append(correlation(one, other))
            share.append(np.cov(one, other, ddof=0)[0, 1] / values[:, gene].var())
        halved = max(np.mean(r), 0)
        np.testing.assert_allclose(found["split_half"][gene], 2 * halved / (1 + halved), atol=1e-3)
        np.testing.assert_allclose(found["spatial_share"][gene], np.mean(share), rtol=1e-2, atol=1e-4)
        among = [correlation(values[:, gene], landmark) for landmark in landmarks.cells.T]
        placed = [correlation(whole[:, gene], landmark) for landmark in landmarks.reference.T]
        np.testing.assert_allclose(found["agreement_predicted"][gene], correlation(among, placed), atol=1e-3)
        standard = landmarks.cells / landmarks.cells.std(axis=0)
        ridge = np.sqrt(2 * len(values)) * np.eye(16)
        coefficients = np.linalg.lstsq(
            np.vstack([standard, ridge]), np.append(values[:, gene], np.zeros(16)), rcond=None
        )[0]
        carried = landmarks.reference / landmarks.reference.std(axis=0) @ coefficients
        np.testing.assert_allclose(
            found["regression_agreement"][gene], correlation(whole[:, gene], carried), atol=1e-3
        )
    np.testing.assert_allclose(found["morans_i"], morans_i(whole, fit.reference.coordinates), atol=1e-3)

    names = np.array(genes, dtype=object)
    padded = gene_signals(predictor, predictor, names, values, parts, None, width=7)
    np.testing.assert_allclose(padded["split_half"], found["split_half"], atol=1e-4)
    assert np.isnan(padded["morans_i"]).all()


def test_halves_share_no_cell_and_are_of_one_size():
    for n_cells in (7, 8):
        halves = random_halves(n_cells, 5, seed=0)
        assert halves.shape == (5, 2, n_cells // 2)
        for pair in halves:
            assert len(np.unique(pair)) == 2 * (n_cells // 2)
            assert pair.min() >= 0
            assert pair.max() < n_cells
        assert not (halves == halves[:1]).all()


def test_few_genes_in_one_pass_are_predicted_as_many_are(fit, monkeypatch):
    """The mixture, regressions included: of all cells and of each half."""
    predictor = whole_predictor(fit, fit.cells)
    assert predictor.regressed.any(), "else nothing is shown of regressions"
    names = np.array(["stripe14_1", "flat2", str(fit.landmarks[0])], dtype=object)
    values = np.asarray(fit.preprocessing.apply(fit.cells.dense(list(names))), np.float64)
    values = values - values.mean(axis=0)
    many = predictor.predict(names, values)
    np.testing.assert_allclose(predictor.predict_few(names, values), many, atol=1e-4 * np.ptp(many))
    halves = SplitHalves(predictor, random_halves(len(values), 2, seed=1))
    together = np.array(list(halves.patterns(names, values)))
    assert together.shape == (2, 2, len(fit.reference.locations), 3)
    monkeypatch.setattr(split_halves, "_MOST_COLUMNS", 0)
    alone = np.array(list(halves.patterns(names, values)))
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.ptp(alone))
    assert np.abs(together[0, 0] - together[0, 1]).max() > 0.01 * np.ptp(alone)


def test_agreement_compares_correlations_with_the_other_landmarks():
    rng = np.random.default_rng(0)
    cells, reference = rng.normal(size=(30, 5)), rng.normal(size=(20, 5))
    found = reference_agreement(cells, reference)
    for gene in range(5):
        others = [other for other in range(5) if other != gene]
        among = [correlation(cells[:, gene], cells[:, other]) for other in others]
        placed = [correlation(reference[:, gene], reference[:, other]) for other in others]
        np.testing.assert_allclose(found[gene], correlation(among, placed), rtol=1e-10)
    np.testing.assert_allclose(reference_agreement(cells, 3 * cells[::-1] + 1), 1.0)


def test_the_table_has_a_row_for_every_gene_that_is_asked_for(fit, table, embryo):
    assert list(table.index) == list(embryo.cells.var_names)
    assert set(table["flag"]) <= {"good", "doubtful", "poor"}
    landmarks = table[table["is_landmark"]]
    assert list(landmarks.index) == list(fit.landmarks)
    np.testing.assert_allclose(landmarks["nested"], fit.scores["nested"])
    unknown = table.loc[~table["is_landmark"], ["nested", "agreement", "predicted_with_reference"]]
    assert unknown.isna().all(axis=None)
    assert (table["predicted_lower"] < table["predicted"]).all()
    assert (table["predicted"] < table["predicted_upper"]).all()
    np.testing.assert_allclose(table["detection_rate"], (embryo.cells.X.toarray() > 0).mean(axis=0))
    assert sorted(table["spatial_rank"]) == list(range(1, 201))

    some = gene_reliability(fit, ["flat3", "gap2", "stripe14_2"], seed=0)
    assert list(some.index) == ["flat3", "gap2", "stripe14_2"]
    columns = [name for name in table if name not in ("reason", "spatial_rank")]
    pd.testing.assert_frame_equal(some[columns], table.loc[some.index, columns], rtol=1e-3, atol=1e-4)


def test_genes_without_a_pattern_come_last_and_are_flagged(table, embryo):
    flat = (embryo.truth.var["class"] == "unspatial").to_numpy()
    ranks = rankdata(-table["spatial_rank"].to_numpy(float))
    patterned = ~flat
    wins = ranks[patterned].sum() - patterned.sum() * (patterned.sum() + 1) / 2
    assert wins / (patterned.sum() * flat.sum()) > 0.85
    assert (table["flag"][flat] == "poor").mean() > 0.7
    assert (table["flag"][patterned] != "poor").mean() > 0.75
    assert table["reason"][flat].str.contains("halves of the cells").mean() > 0.7


def test_a_landmark_whose_reference_is_of_another_gene_is_found_out(embryo):
    """Its signals are fine, and only its reference can tell: agreement and held-out score do."""
    reference = embryo.reference.copy()
    at = list(reference.var_names).index("gap3")
    reference.X[:, at] = reference.X[::-1, at].copy()
    wrong = fit_perler(embryo.cells, reference, settings=SETTINGS, progress=False)
    found = gene_reliability(wrong, list(wrong.landmarks), seed=0)
    assert found["agreement"].idxmin() == "gap3"
    assert found.loc["gap3", "flag"] == "poor"
    assert "held out" in found.loc["gap3", "reason"]
    assert found.loc["gap3", "predicted_with_reference"] < found.loc["gap3", "predicted"] - 0.1


def test_genes_in_few_cells_and_constant_genes_are_poor(embryo):
    cells = embryo.cells.copy()
    counts = cells.X.toarray()
    counts[:, 198] = 0
    counts[4:, 199] = 0
    counts[:4, 199] = 3
    cells.X = counts
    fit = fit_perler(cells, embryo.reference, settings=SETTINGS, progress=False)
    found = gene_reliability(fit, list(cells.var_names[196:]), seed=0)
    assert list(found["flag"][2:]) == ["poor", "poor"]
    assert list(found["reason"][2:]) == [f"seen in {n} of 300 cells: too few for a pattern" for n in (0, 4)]


def test_what_cannot_be_judged_is_refused(fit, embryo):
    given = fit_perler(embryo.cells, embryo.reference, weights=(0.2, 0.2), progress=False)
    with pytest.raises(PerlerInputError, match="held-out landmarks"):
        gene_reliability(given, seed=0)
    with pytest.raises(PerlerInputError, match="unknown"):
        gene_reliability(fit, ["nobody"], seed=0)
    with pytest.raises(PerlerInputError, match="expression of the cells"):
        gene_reliability(dataclasses.replace(fit, cells=None), seed=0)


def draw_landmarks(n, seed):
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(n, 3)) * [1.0, 5.0, 0.2] + [3.0, -2.0, 0.0]
    score = np.tanh(0.8 + 0.3 * (signals[:, 0] - 3) - 0.1 * signals[:, 1] + 0.15 * rng.normal(size=n))
    return signals, score


def test_the_model_is_ridge_with_coefficients_that_cannot_be_negative():
    signals, scores = draw_landmarks(60, 0)
    model = fit_reliability(signals, scores)
    assert model.coefficients[1] == 0  # what truly lowers the score is not learned
    standard = (signals - signals.mean(axis=0)) / signals.std(axis=0)
    target = np.arctanh(scores)
    used = np.flatnonzero(model.coefficients)
    gram = standard[:, used].T @ standard[:, used] + 0.1 * 60 * np.eye(len(used))
    expected = np.linalg.solve(gram, standard[:, used].T @ (target - target.mean()))
    np.testing.assert_allclose(model.coefficients[used], expected, rtol=1e-8)
    np.testing.assert_allclose(
        model.predict(signals)[0], np.tanh(target.mean() + standard[:, used] @ expected)
    )


def test_landmarks_are_predicted_by_models_that_never_saw_them():
    signals, scores = draw_landmarks(25, 1)
    predicted, lower, upper = fit_reliability(signals, scores).predict_landmarks(level=0.8)
    for own in (0, 7, 24):
        others = np.arange(25) != own
        expected = fit_reliability(signals[others], scores[others]).predict(signals[[own]])[0]
        np.testing.assert_allclose(predicted[own], expected[0], rtol=1e-10)
    changed = scores.copy()
    changed[7] = -0.9
    again = fit_reliability(signals, changed).predict_landmarks(level=0.8)
    np.testing.assert_allclose(next(each[7] for each in again), predicted[7], rtol=1e-10)
    assert (lower < predicted).all()
    assert (predicted < upper).all()


def test_intervals_of_scores_hold_new_genes():
    model = fit_reliability(*draw_landmarks(80, 2))
    signals, scores = draw_landmarks(4000, 3)
    _, lower, upper = model.predict(signals, level=0.8)
    assert abs(((scores >= lower) & (scores <= upper)).mean() - 0.8) < 0.06
    few = fit_reliability(*draw_landmarks(6, 4)).predict(signals[:1], level=0.9)
    assert (few[1], few[2]) == (-1, 1)  # six landmarks cannot promise nine in ten


def test_signals_that_cannot_be_learned_from_are_refused():
    signals, scores = draw_landmarks(20, 5)
    with pytest.raises(PerlerInputError, match="at least 3 landmarks"):
        fit_reliability(signals[:2], scores[:2])
    signals[3, 1] = np.nan
    with pytest.raises(PerlerInputError, match="finite"):
        fit_reliability(signals, scores)
