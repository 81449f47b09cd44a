"""Intervals learned on held-out genes: coverage of genes whose truth is known, closed forms, refusals."""

import numpy as np
import pytest

from perler_jax.errors import PerlerInputError
from perler_jax.reconstruction import zscore
from perler_jax.trust.conformal import Intervals, calibration_error, coverage_by_gene, learn_intervals

LOCATIONS = 400


def draw_genes(n_genes, seed, *, on_sd=0.0, error_weight=0.0):
    """Prediction, its error, truth in other units; residuals grow with the error and where a gene is on."""
    rng = np.random.default_rng(seed)
    prediction = rng.normal(size=(LOCATIONS, n_genes))
    error = rng.uniform(0.05, 0.6, size=prediction.shape)
    sd = 0.3 + on_sd * np.maximum(prediction, 0) + error_weight * error
    # Genes differ in how well they are predicted, as real ones do.
    sd = sd * rng.lognormal(0.0, 0.3, n_genes)
    truth = 0.8 * prediction + sd * rng.normal(size=prediction.shape)
    units = rng.lognormal(size=(2, n_genes))
    return units[0] * prediction + rng.normal(size=n_genes), units[0] * error, 40 + 7 * units[1] * truth


def interval(intervals, prediction, error, level=0.9):
    half = intervals.half_width(prediction, error, level)
    return prediction - half, prediction + half


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_new_genes_are_covered_as_promised(level):
    intervals = learn_intervals(*draw_genes(60, 0, on_sd=0.5))
    prediction, error, truth = draw_genes(500, 1, on_sd=0.5)
    found = coverage_by_gene(
        intervals.place(truth, prediction), *interval(intervals, prediction, error, level)
    )
    assert abs(found.mean() - level * (1 + 1 / 60)) < 0.02


def test_coverage_holds_where_a_gene_is_on_and_where_errors_are_large():
    intervals = learn_intervals(*draw_genes(80, 0, on_sd=0.8, error_weight=1.5))
    prediction, error, truth = draw_genes(300, 1, on_sd=0.8, error_weight=1.5)
    lower, upper = interval(intervals, prediction, error)
    placed = intervals.place(truth, prediction)
    relative = error / prediction.std(axis=0)
    for part in (zscore(prediction) > 1, zscore(prediction) < 0, relative > 0.5, relative < 0.15):
        assert abs(np.nanmean(coverage_by_gene(placed, lower, upper, part)) - 0.9) < 0.05
    # One width for all, at the same coverage on the whole, fails there.
    flat = np.abs(placed - prediction) / prediction.std(axis=0)
    wide = np.quantile(flat, 0.9) * prediction.std(axis=0)
    same = coverage_by_gene(placed, prediction - wide, prediction + wide, zscore(prediction) > 1)
    assert same.mean() < 0.8


def test_the_scale_finds_what_errors_are_made_of():
    rng = np.random.default_rng(2)
    prediction, error = rng.normal(size=(LOCATIONS, 50)), rng.uniform(0, 1, size=(LOCATIONS, 50))
    sign = rng.choice([-1.0, 1.0], size=prediction.shape)
    spread = 0.2 + 0.5 * error + 0.7 * np.maximum(prediction, 0)
    found = learn_intervals(prediction, error, 2 * prediction + sign * spread)
    # In units of the standardised truth, and with the slope of the standardised prediction on the error.
    unit = (2 * prediction + sign * spread).std(axis=0).mean()
    np.testing.assert_allclose(found.slope, 2 / unit, rtol=0.02)
    np.testing.assert_allclose(found.scale * unit, [0.2, 0.5 / found.slope, 0.7], rtol=0.15, atol=0.02)


def test_intervals_follow_the_units_of_the_prediction_and_not_those_of_the_truth():
    prediction, error, truth = draw_genes(30, 3)
    one = learn_intervals(prediction, error, truth)
    other = learn_intervals(5 * prediction - 2, 5 * error, 0.01 * truth + 9)
    np.testing.assert_allclose(other.nonconformity, one.nonconformity, rtol=1e-8)
    np.testing.assert_allclose(
        other.half_width(5 * prediction - 2, 5 * error, 0.8),
        5 * one.half_width(prediction, error, 0.8),
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        other.place(0.01 * truth + 9, 5 * prediction - 2), 5 * one.place(truth, prediction) - 2, rtol=1e-8
    )


def test_a_placed_truth_is_its_prediction_where_that_explains_all():
    rng = np.random.default_rng(4)
    prediction = rng.normal(size=(LOCATIONS, 12))
    noisy = learn_intervals(
        prediction, np.ones_like(prediction), prediction + rng.normal(size=prediction.shape)
    )
    placed = noisy.place(3 * prediction + 1, prediction)
    slope = [np.polyfit(p, t, 1)[0] for p, t in zip(prediction.T, placed.T, strict=True)]
    np.testing.assert_allclose(slope, 1 / noisy.slope, rtol=1e-10)
    np.testing.assert_allclose(placed.mean(axis=0), prediction.mean(axis=0), atol=1e-12)


def test_the_quantile_is_corrected_for_the_number_of_genes():
    scores = np.random.default_rng(5).exponential(size=(50, 20))
    intervals = Intervals(0.5, np.ones(3), scores)
    assert intervals.quantile(0.8) == np.quantile(scores, 0.8 * 21 / 20)
    assert intervals.quantile(20 / 21) == scores.max()
    assert intervals.quantile(0.96) == np.inf
    with pytest.raises(PerlerInputError, match=r"at least 24 .* found 20"):
        intervals.half_width(np.ones((50, 1)), np.ones((50, 1)), 0.96)
    for level in (0.0, 1.0, 90.0):
        with pytest.raises(PerlerInputError, match="between 0 and 1"):
            intervals.half_width(np.ones((50, 1)), np.ones((50, 1)), level)


def test_a_gene_without_pattern_has_no_interval():
    intervals = learn_intervals(*draw_genes(20, 6))
    prediction = np.ones((LOCATIONS, 2))
    prediction[:, 1] += np.arange(LOCATIONS)
    half = intervals.half_width(prediction, np.ones_like(prediction), 0.9)
    assert np.isnan(half[:, 0]).all()
    assert (half[:, 1] > 0).all()


def test_useless_predictions_are_refused():
    prediction, error, truth = draw_genes(20, 7)
    with pytest.raises(PerlerInputError, match="better than by chance"):
        learn_intervals(prediction, error, -truth)


def test_coverage_counts_what_is_kept():
    truth = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    lower, upper = np.full((3, 2), 1.0), np.full((3, 2), 4.0)
    np.testing.assert_allclose(coverage_by_gene(truth, lower, upper), [2 / 3, 2 / 3])
    keep = np.array([[True, False], [False, False], [True, False]])
    np.testing.assert_allclose(coverage_by_gene(truth, lower, upper, keep), [0.5, np.nan])


def test_calibration_error_is_the_area_between_curve_and_diagonal():
    levels = np.linspace(0.01, 0.99, 99)
    assert calibration_error(levels, levels) == 0
    np.testing.assert_allclose(
        calibration_error(levels, levels + 0.3 * levels * (1 - levels)), 0.3 / 6, rtol=1e-3
    )
    bent = levels + 0.1 * np.sin(2 * np.pi * levels)  # above and below do not cancel
    np.testing.assert_allclose(calibration_error(levels, bent), 0.2 / np.pi, rtol=1e-3)
