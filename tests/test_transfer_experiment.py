"""The experiment on transferred labels: votes and scores by hand, a mapping that is known."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from experiments.transfer.__main__ import codes_of, halves, paired, predictions, scored
from experiments.transfer.methods import nearest_weights, tangram_weights, votes


def test_votes_by_hand():
    weights = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 3.0]])
    np.testing.assert_allclose(votes(weights, np.array([0, 0, 1]), 2), [[0.5, 0.5], [0, 1]], atol=1e-9)


def test_nearest_cells_vote():
    cells = np.array([[0.0], [1.0], [10.0]])
    np.testing.assert_array_equal(nearest_weights(cells, cells, 1), np.eye(3))


def test_tangram_like_weights_find_cells_that_are_the_map():
    """As many genes as cells, each cell with one of its own: only one mapping makes the map."""
    order = np.array([2, 0, 3, 1])
    cells = np.eye(4) + 0.01
    weights = tangram_weights(cells, cells[order], epochs=200, learning_rate=0.1, seed=0)
    np.testing.assert_array_equal(weights.argmax(axis=0), order)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


def test_scores_by_hand():
    found = scored(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    assert found["right"] == 0.5
    assert found["sure"] == pytest.approx(0.75)
    assert found["calibration_error"] == pytest.approx((0.1 + 0.6) / 2)
    gain, error = paired(np.array([1.0, 1, 0, 1]), np.array([0.0, 1, 0, 1]))
    assert (gain, error) == (0.25, pytest.approx(0.25))  # differences 1, 0, 0, 0: sd 1/2, of four
    table = AnnData(np.zeros((2, 1)), obs=pd.DataFrame({"kind": ["a", "new"]}, index=["1", "2"]))
    np.testing.assert_array_equal(codes_of(table, "kind", ["a", "b"]), [0, -1])


def test_labels_are_found_where_expression_tells_them():
    """240 cells in two regions; every method but the one that looks at nothing finds them."""
    rng = np.random.default_rng(0)
    region = rng.integers(0, 2, 240)
    rates = np.where(np.arange(12) % 2 == region[:, None], 12.0, 3.0) * rng.uniform(0.5, 1.5, 12)
    obs = pd.DataFrame({"region": np.array(["left", "right"])[region]}, index=[f"c{n}" for n in range(240)])
    located = AnnData(rng.poisson(rates).astype(float), obs=obs)
    located.obsm["spatial"] = rng.uniform(0, 90, (240, 2)) + 100 * region[:, None]
    cells, places = halves(located, 0)
    assert not set(cells.obs_names) & set(places.obs_names)
    config = {"labels": ["region"], "neighbours": [10], "epochs": 100, "learning_rate": 0.1, "seed": 0}
    seconds: dict[str, float] = {}
    right = {
        name: scored(found, codes_of(places, label, categories))["right"]
        for name, label, categories, found in predictions(cells, places, config, seconds)
    }
    assert right["perler_jax"] > 0.9
    assert right["10 nearest neighbours"] > 0.9
    assert right["Tangram-like weights"] > 0.7
    assert right["all cells alike"] < 0.7
