"""The virtual embryo: its shape, its truth, and a measurement that follows the stated rules."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError
from perler_jax.simulation.simulate import simulate_embryo
from perler_jax.simulation.virtual_embryo import SEMI_AXES, draw_patterns, egg_length, half_ellipsoid

SMALL = {"n_locations": 400, "n_cells": 300, "n_genes": 80, "n_landmarks": 30}


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, **SMALL)


def test_sizes_names_and_repr(embryo):
    assert embryo.cells.shape == (300, 80)
    assert embryo.reference.shape == (400, 30)
    assert embryo.truth.shape == (400, 80)
    assert list(embryo.cells.var_names) == list(embryo.truth.var_names)
    assert embryo.cells.obs_names.is_unique
    assert set(embryo.truth.var_names) >= {"gap1", "stripe7_8", "stripe14_4", "dv8", "mix1", "flat1"}
    assert repr(embryo) == "SimulatedEmbryo(300 cells x 80 genes; 400 locations x 30 landmarks)"


def test_points_lie_on_the_right_half_near_uniformly():
    points = half_ellipsoid(1200)
    np.testing.assert_allclose(((points / SEMI_AXES) ** 2).sum(1), 1.0)
    assert points[:, 1].min() >= 0
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    assert nearest.min() > 0.5 * np.median(nearest)
    assert nearest.max() < 1.5 * np.median(nearest)
    assert abs(points[:, [0, 2]].mean(0)).max() < 2.0


def test_same_seed_same_embryo_other_seed_other(embryo):
    again, other = simulate_embryo(seed=0, **SMALL), simulate_embryo(seed=1, **SMALL)
    assert (embryo.cells.X != again.cells.X).nnz == 0
    np.testing.assert_array_equal(embryo.reference.X, again.reference.X)
    assert (embryo.cells.X != other.cells.X).nnz > 0
    assert not np.array_equal(embryo.truth.X, other.truth.X)


def test_measuring_differently_leaves_the_truth_alone(embryo):
    noisier = simulate_embryo(seed=0, **(SMALL | {"n_cells": 50}), cell_noise=2.0, reference_noise=0.5)
    np.testing.assert_array_equal(noisier.truth.X, embryo.truth.X)


def test_counts_are_sparse_whole_numbers(embryo):
    counts = embryo.cells.X
    assert sparse.issparse(counts)
    assert counts.format == "csr"
    assert np.all(counts.data == np.round(counts.data))
    assert counts.data.min() >= 1
    assert np.all(np.asarray(counts.sum(1)) > 0)


def test_segment_polarity_is_held_out(embryo):
    kinds, landmark = embryo.truth.var["class"], embryo.truth.var["landmark"]
    assert list(embryo.truth.var_names[landmark]) == list(embryo.reference.var_names)
    assert not landmark[kinds.isin(["segment-polarity", "unspatial"])].any()
    assert landmark[kinds.isin(["gap", "pair-rule", "dorsoventral"])].all()


def test_no_mixture_contains_fourteen_stripes():
    """Mixtures are positive sums and products of the other patterns: without those, they vanish."""
    points = half_ellipsoid(600)
    patterns, kinds = draw_patterns(points, n_mixtures=80, n_unspatial=0, rng=np.random.default_rng(0))
    named = patterns[:, kinds.isin(["gap", "pair-rule", "dorsoventral"])]
    axial = patterns[:, kinds.isin(["gap", "pair-rule"])]
    across = patterns[:, kinds == "dorsoventral"]
    products = (axial[:, :, None] * across[:, None]).reshape(len(points), -1)
    basis = np.concatenate([named, products], axis=1)
    mixtures = patterns[:, kinds == "mixture"]
    residual = mixtures - basis @ np.linalg.lstsq(basis, mixtures, rcond=None)[0]
    assert np.abs(residual).max() < 1e-8
    assert patterns.min() >= 0


def test_unspatial_genes_are_flat_and_others_are_not(embryo):
    spread = np.ptp(embryo.truth.X, axis=0)
    flat = (embryo.truth.var["class"] == "unspatial").to_numpy()
    assert np.all(spread[flat] == 0)
    assert np.all(spread[~flat] > 0.2)


def test_egg_length_leans_as_the_real_stripes_do():
    posterior_dorsal, posterior_ventral = np.array([[125.0, 0.0, 78.0]]), np.array([[125.0, 0.0, -78.0]])
    lateral = np.array([[125.0, 78.0, 0.0]])
    assert egg_length(lateral) == pytest.approx(0.75)
    # A stripe in the rear is farther anterior on the dorsal side: there the same x is a later position.
    assert egg_length(posterior_dorsal)[0] > 0.75 > egg_length(posterior_ventral)[0]


def test_without_noise_the_cells_are_their_locations():
    embryo = simulate_embryo(seed=2, **SMALL, cell_noise=0.0, dropout=0.0, depth=1e6, reference_noise=0.0)
    origin = embryo.cells.obs["true_location"].to_numpy()
    counts = embryo.cells.X.toarray()
    shares = counts / counts.sum(1, keepdims=True)
    gene = list(embryo.truth.var_names).index("stripe7_4")
    assert np.corrcoef(shares[:, gene], embryo.truth.X[origin, gene])[0, 1] > 0.97
    # In situ: monotone in the truth, on a scale of its own.
    landmark = embryo.reference[:, "stripe7_4"].X[:, 0]
    order = np.argsort(embryo.truth.X[:, gene])
    assert np.all(np.diff(landmark[order]) >= -1e-12)
    assert np.ptp(embryo.reference.X.max(0)) > 0.3


def test_depth_dropout_and_noise_do_what_they_say(embryo):
    totals = np.asarray(embryo.cells.X.sum(1)).ravel()
    assert 1500 < np.median(totals) < 2500
    deeper = simulate_embryo(seed=0, **SMALL, depth=8000.0)
    assert 3.5 < np.median(np.asarray(deeper.cells.X.sum(1))) / np.median(totals) < 4.5
    lossy = simulate_embryo(seed=0, **SMALL, depth=1e6, dropout=0.3)
    assert 1 - lossy.cells.X.nnz / np.prod(lossy.cells.shape) == pytest.approx(0.3, abs=0.02)
    clean = simulate_embryo(seed=0, **SMALL, reference_noise=0.0).reference.X
    assert 0.02 < np.median((embryo.reference.X - clean).std(0) / clean.max(0)) < 0.15


def test_cells_follow_the_location_weights():
    weights = np.zeros(400)
    weights[[5, 17]] = [1.0, 3.0]
    origin = simulate_embryo(seed=0, **SMALL, location_weights=weights).cells.obs["true_location"]
    assert set(origin) == {5, 17}
    assert 2.0 < (origin == 17).sum() / (origin == 5).sum() < 4.5


@pytest.mark.parametrize("weights", [np.ones(3), np.zeros(400), -np.ones(400), np.full(400, np.nan)])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(PerlerInputError, match="400 location weights"):
        simulate_embryo(seed=0, **SMALL, location_weights=weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_genes": 30}, "at least 28 patterned genes, found 21 of 30"),
        ({"n_landmarks": 53}, "between 2 and 52 landmarks"),
        ({"n_locations": 50}, "at least 100 locations"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(PerlerInputError, match=message):
        simulate_embryo(seed=0, **(SMALL | change))
