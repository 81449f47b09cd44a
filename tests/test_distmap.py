"""DistMap: binarisation, Matthews correlation and prediction against loops, by hand and on the fly data."""

import numpy as np
import pandas as pd
import pytest

from perler_jax.datasets import load_fly
from perler_jax.errors import PerlerInputError
from perler_jax.scores.distmap import (
    best_locations,
    binarise_cells,
    mapping_scores,
    matthews_correlation,
    virtual_in_situ,
)
from perler_jax.scores.metrics import pearson_by_gene


def oracle_matthews(first, second):
    """From the four counts of the confusion table, one pair of vectors at a time."""
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    tp, tn = pairs.count((1, 1)), pairs.count((0, 0))
    fp, fn = pairs.count((0, 1)), pairs.count((1, 0))
    scale = np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    return (tp * tn - fp * fn) / scale if scale else 0.0


def oracle_scores(cells, locations):
    return np.array([[oracle_matthews(cell, place) for place in locations] for cell in cells])


@pytest.fixture
def tables():
    """Binary landmarks with a constant cell and a constant location among them, and log expression."""
    rng = np.random.default_rng(0)
    cells, locations = rng.random((11, 7)) < 0.4, rng.random((17, 7)) < 0.5
    cells[2], locations[5] = False, True
    expression = rng.gamma(1.0, 2.0, (11, 4)) * (rng.random((11, 4)) < 0.6)
    return cells, locations, expression


def test_matthews_correlation_by_hand():
    # On in both: 2; off in both: 1; on in one only: 1 and 1. (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2) = 1 / 6.
    both, first, second = np.array([2.0]), np.array([3.0]), np.array([3.0])
    np.testing.assert_allclose(matthews_correlation(both, first, second, 5), [1 / 6])
    assert oracle_matthews(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])) == pytest.approx(1 / 6)
    np.testing.assert_array_equal(matthews_correlation(np.array([0.0]), np.array([0.0]), second, 5), [0.0])


def test_scores_equal_the_confusion_table_and_pearson(tables):
    cells, locations, _ = tables
    scores = mapping_scores(cells, locations)
    np.testing.assert_allclose(scores, oracle_scores(cells, locations), atol=1e-12)
    assert np.all(scores[2] == 0)
    assert np.all(scores[:, 5] == 0)
    assert scores[0, 3] == pytest.approx(np.corrcoef(cells[0], locations[3])[0, 1])


@pytest.mark.parametrize("tile", [1, 4, 11, 100])
def test_best_locations_whatever_the_tile(tables, tile):
    cells, locations, _ = tables
    found = best_locations(cells, locations, n=6, tile=tile)
    table = mapping_scores(cells, locations)
    for cell, row in enumerate(table):
        order = sorted(range(len(row)), key=lambda place, row=row: (-row[place], place))[:6]
        assert found.locations[cell].tolist() == order
        assert found.n_best[cell] == (row == row.max()).sum()
        np.testing.assert_array_equal(found.scores[cell], row[order])
    assert found.n_best[2] == len(locations)  # a cell with nothing on fits everywhere alike


def test_equal_counts_are_ties():
    """Scores of equal worth are equal to the last digit, else ambiguous cells would pass for certain ones."""
    rng = np.random.default_rng(1)
    locations = rng.random((400, 84)) < 0.3
    twins = np.concatenate([locations, locations[:, rng.permutation(84)], locations])
    found = best_locations(locations[:50], twins, n=3)
    np.testing.assert_array_equal(found.n_best, 2)
    np.testing.assert_array_equal(found.locations[:, :2], np.arange(50)[:, None] + [0, 800])


def test_binarisation_equals_a_loop():
    rng = np.random.default_rng(2)
    locations = rng.random((60, 5)) < [0.2, 0.4, 0.5, 0.6, 0.3]
    locations[:, 1] = locations[:, 0] | (rng.random(60) < 0.1)
    expression = rng.gamma(1.0, 2.0, (40, 5)) * (rng.random((40, 5)) < 0.7)
    expression[:, 1] += expression[:, 0]
    quantiles = (0.1, 0.35, 0.6, 0.85)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    losses, tables = [], []
    for quantile in quantiles:
        on = np.zeros(expression.shape, bool)
        for gene in range(5):
            column = expression[:, gene]
            on[:, gene] = column > np.quantile(column[column > 0], quantile)
        squares = [
            (oracle_matthews(on[:, i], on[:, j]) - oracle_matthews(locations[:, i], locations[:, j])) ** 2
            for i, j in pairs
        ]
        losses.append(np.sqrt(np.mean(squares)))
        tables.append(on)
    found = binarise_cells(expression, locations, quantiles=quantiles)
    np.testing.assert_allclose(found.mismatch, losses)
    best = int(np.argmin(losses))
    assert 0 < best < len(quantiles) - 1 or len(set(losses)) == len(losses)
    assert found.quantile == quantiles[best]
    np.testing.assert_array_equal(found.on, tables[best])
    np.testing.assert_array_equal(found.on, expression > found.thresholds)


@pytest.mark.parametrize(("tile", "threshold"), [(None, 0.0), (3, 0.0), (None, 0.5), (4, 0.5)])
def test_virtual_in_situ_equals_loops(tables, tile, threshold):
    cells, locations, expression = tables
    expression[:, 3] = 0.0  # no cell expresses it
    predicted = virtual_in_situ(cells, locations, expression, threshold=threshold, tile=tile)
    scores = oracle_scores(cells, locations)
    expected = np.zeros((len(locations), expression.shape[1]))
    for place in range(len(locations)):
        for gene in range(expression.shape[1]):
            positive = [n for n in range(len(cells)) if expression[n, gene] > 0]
            weight = sum(np.exp(scores[n, place]) for n in positive)
            if positive:
                mean = sum(np.exp(scores[n, place]) * expression[n, gene] for n in positive) / weight
                expected[place, gene] = mean / (1 + mean)
    expected[expected < np.quantile(expected, threshold, axis=0)] = 0.0
    np.testing.assert_allclose(predicted, expected, atol=1e-12)
    assert np.all(predicted[:, 3] == 0)


def test_unusable_input_is_refused(tables):
    cells, locations, expression = tables
    with pytest.raises(PerlerInputError, match="7 and 6 columns"):
        mapping_scores(cells, locations[:, :6])
    with pytest.raises(PerlerInputError, match="at least 2 landmarks"):
        mapping_scores(cells[:, :1], locations[:, :1])
    with pytest.raises(PerlerInputError, match="1 to 17 ranks"):
        best_locations(cells, locations, n=18)
    with pytest.raises(PerlerInputError, match="11 binarised cells, found 10"):
        virtual_in_situ(cells, locations, expression[:10])
    with pytest.raises(PerlerInputError, match="threshold from 0 to 1"):
        virtual_in_situ(cells, locations, expression, threshold=75.0)
    seven = np.abs(np.random.default_rng(0).normal(size=(11, 7)))
    with pytest.raises(PerlerInputError, match="before centring"):
        binarise_cells(seven - 1, locations)
    seven[:, 4] = 0.0
    with pytest.raises(PerlerInputError, match=r"found 1 in none \(columns \[4\]\)"):
        binarise_cells(seven, locations)
    with pytest.raises(PerlerInputError, match="quantiles from 0"):
        binarise_cells(seven + 0.1, locations, quantiles=(23.0,))


def test_fly_equals_the_published_tables(fly_directory):
    """Every entry of DistMap's own binarisation, every one of the ten best bins, and the paper's accuracy."""
    fly = load_fly(fly_directory)
    landmarks = list(fly.reference.var_names)
    in_situ = fly.binary_reference[landmarks].to_numpy().astype(bool)
    totals = fly.cells.obs["norm_total"].to_numpy()[:, None]
    counts = fly.cells[:, landmarks].X.toarray().astype(np.float64)
    expression = np.log2(1 + counts * 134910 / totals)
    binarised = binarise_cells(expression, in_situ)
    published = pd.read_csv(fly_directory / "scrna_landmark_binary_distmap.tsv.gz", sep="\t", index_col=0)
    assert binarised.quantile == 0.23
    np.testing.assert_array_equal(binarised.on, published[landmarks].to_numpy() == 1)

    best = best_locations(binarised.on, in_situ)
    table = pd.read_csv(fly_directory / "distmap_top10_bins.tsv.gz", sep="\t")
    np.testing.assert_array_equal(best.locations + 1, table.filter(regex=r"^bin\d").to_numpy())
    np.testing.assert_array_equal(best.n_best, table["n_ties"])
    np.testing.assert_allclose(best.scores[:, 0], table["mcc_max"], atol=1e-6)
    assert (best.n_best > 1).sum() == 287

    # 0.56 is the accuracy of DistMap's reconstruction that Okochi et al. 2021 print.
    predicted = virtual_in_situ(binarised.on, in_situ, expression, threshold=0.0)
    reference = np.log2(1 + fly.reference.to_df().to_numpy())
    assert pearson_by_gene(predicted, reference).mean() == pytest.approx(0.5635, abs=5e-4)
