"""Scores against hand-made numbers and independent implementations."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import zscore

from perler_jax.errors import PerlerInputError
from perler_jax.scores import metrics


@pytest.fixture
def patterns():
    rng = np.random.default_rng(0)
    reference = rng.gamma(2.0, size=(200, 5))
    return reference + rng.gamma(2.0, size=(200, 5)), reference


def test_pearson_is_numpys(patterns):
    expected = [np.corrcoef(p, r)[0, 1] for p, r in zip(patterns[0].T, patterns[1].T, strict=True)]
    np.testing.assert_allclose(metrics.pearson_by_gene(*patterns), expected)
    assert metrics.average_correlation(*patterns) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_prediction_is_undefined_not_noise(patterns, dtype):
    prediction, reference = (side.astype(dtype) for side in patterns)
    prediction[:, 1] = 0.3
    prediction[::3, 1] = np.nextafter(
        dtype(0.3), dtype(1)
    )  # what a weighted mean of equal numbers looks like
    correlations = metrics.pearson_by_gene(prediction, reference)
    assert np.isnan(correlations).tolist() == [False, True, False, False, False]
    assert metrics.average_correlation(prediction, reference) == pytest.approx(np.nanmean(correlations))
    assert np.isnan(metrics.average_correlation(prediction[:, 1:2], reference[:, 1:2]))


def test_nan_in_one_gene_stays_there(patterns):
    prediction = patterns[0].copy()
    prediction[3, 2] = np.nan
    assert np.isnan(metrics.pearson_by_gene(prediction, patterns[1])).tolist() == [0, 0, 1, 0, 0]


def test_roc_auc_counts_pairs():
    rng = np.random.default_rng(1)
    prediction = rng.integers(0, 4, (60, 3)).astype(float)  # many ties
    binary = (rng.random((60, 3)) < 0.4).astype(float)
    expected = []
    for score, on in zip(prediction.T, binary.T, strict=True):
        difference = score[on == 1][:, None] - score[on == 0]
        expected.append(np.mean((difference > 0) + 0.5 * (difference == 0)))
    np.testing.assert_allclose(metrics.roc_auc_by_gene(prediction, binary), expected)
    np.testing.assert_allclose(metrics.roc_auc_by_gene(prediction, binary == 1), expected)


def test_roc_auc_of_one_class_is_undefined():
    prediction = np.arange(8.0).reshape(4, 2)
    binary = np.array([[0, 1], [0, 1], [1, 1], [1, 1]], dtype=float)
    np.testing.assert_array_equal(metrics.roc_auc_by_gene(prediction, binary), [1.0, np.nan])
    with pytest.raises(PerlerInputError, match="0 and 1"):
        metrics.roc_auc_by_gene(prediction, binary * 0.5)


def test_ssim_of_li_et_al(patterns):
    expected = []
    for p, r in zip(patterns[0].T, patterns[1].T, strict=True):
        p, r = p / p.max(), r / r.max()
        c1, c2, c3 = 0.01**2, 0.03**2, 0.03**2 / 2
        covariance = np.cov(p, r, bias=True)
        sp, sr = np.sqrt(np.diag(covariance))
        light = (2 * p.mean() * r.mean() + c1) / (p.mean() ** 2 + r.mean() ** 2 + c1)
        expected.append(
            light * (2 * sp * sr + c2) / (sp**2 + sr**2 + c2) * (covariance[0, 1] + c3) / (sp * sr + c3)
        )
    np.testing.assert_allclose(metrics.ssim_by_gene(*patterns), expected)
    np.testing.assert_allclose(metrics.ssim_by_gene(3 * patterns[1], patterns[1]), 1.0)


def test_js_is_scipys_in_nats(patterns):
    expected = jensenshannon(*patterns, axis=0) ** 2
    np.testing.assert_allclose(metrics.js_divergence_by_gene(*patterns), expected)
    apart = metrics.js_divergence_by_gene(np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]]))
    np.testing.assert_allclose(apart, np.log(2))


def test_rmse_of_z_is_the_rmse_of_z(patterns):
    expected = np.sqrt(np.mean((zscore(patterns[0]) - zscore(patterns[1])) ** 2, axis=0))
    np.testing.assert_allclose(metrics.rmse_of_z_by_gene(*patterns), expected)


@pytest.mark.parametrize("score", [metrics.ssim_by_gene, metrics.js_divergence_by_gene])
def test_negative_scales_are_refused(patterns, score):
    prediction, reference = patterns
    with pytest.raises(PerlerInputError, match="prediction"):
        score(prediction - 1.0, reference)
    with pytest.raises(PerlerInputError, match="reference"):
        score(prediction, reference * np.inf)
    prediction = prediction.copy()
    prediction[:, 0] = 0
    assert np.isnan(score(prediction, reference)).tolist() == [True, False, False, False, False]


def test_moran_against_the_dense_formula():
    rng = np.random.default_rng(2)
    coordinates, values = rng.random((80, 3)), rng.random((80, 4))
    distances = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    np.fill_diagonal(distances, np.inf)
    weights = np.zeros((80, 80))
    np.put_along_axis(weights, np.argsort(distances, axis=1)[:, :6], 1.0, axis=1)
    z = values - values.mean(0)
    expected = 80 / weights.sum() * np.einsum("ig,ij,jg->g", z, weights, z) / (z**2).sum(0)
    np.testing.assert_allclose(metrics.morans_i(values, coordinates), expected)


def test_moran_of_smooth_random_and_shared_positions():
    rng = np.random.default_rng(3)
    coordinates = rng.random((400, 2))
    values = np.stack([coordinates[:, 0], rng.random(400), np.ones(400)], axis=1)
    smooth, random, constant = metrics.morans_i(values, coordinates)
    assert smooth > 0.9
    assert abs(random) < 0.1
    assert np.isnan(constant)
    # Two locations at each place: the nearest neighbour is the twin, never the location itself.
    twins = np.repeat(coordinates[:50], 2, axis=0)
    alternating = np.tile([1.0, -1.0], 50)[:, None]
    np.testing.assert_allclose(metrics.morans_i(alternating, twins, n_neighbors=1), -1.0)
    with pytest.raises(PerlerInputError, match="between 1 and 399"):
        metrics.morans_i(values, coordinates, n_neighbors=400)


def test_position_error_takes_indices_and_positions():
    coordinates = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    truth = np.array([0, 1])
    np.testing.assert_allclose(metrics.position_error(coordinates, np.array([1, 1]), truth), [5.0, 0.0])
    between = np.array([[0.0, 1.0], [3.0, 4.0]])
    np.testing.assert_allclose(metrics.position_error(coordinates, between, truth), [1.0, 0.0])
    with pytest.raises(PerlerInputError, match="from 0 to 2"):
        metrics.position_error(coordinates, np.array([3, 0]), truth)
