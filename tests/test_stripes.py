"""Stripes: the real reference has seven, the axis is learned without the gene that is counted."""

import numpy as np
import pytest

from perler_jax.datasets import load_fly
from perler_jax.errors import PerlerInputError
from perler_jax.scores.stripes import axis_profile, count_stripes, dorsoventral_angle, fit_axis
from perler_jax.simulation.simulate import simulate_embryo


@pytest.fixture(scope="module")
def reference(fly_directory):
    return load_fly(fly_directory).reference


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, n_cells=10, n_genes=60, n_landmarks=30)


@pytest.fixture(scope="module")
def reference_axis(reference):
    return fit_axis(reference.obsm["spatial"], columns(reference, ["ftz", "eve", "h"]))


@pytest.fixture(scope="module")
def embryo_axis(embryo):
    return fit_axis(embryo.truth.obsm["spatial"], columns(embryo.reference, ["stripe7_1", "stripe7_4"]))


def columns(table, genes):
    return np.asarray(table[:, genes].X, dtype=np.float64)


def test_reference_ftz_eve_h_have_seven_stripes(reference, reference_axis):
    coordinates, axis = reference.obsm["spatial"], reference_axis
    for gene in ("ftz", "eve", "h"):
        profile = axis_profile(columns(reference, [gene])[:, 0], coordinates, axis)
        assert count_stripes(*profile).n == 7
        # Not an accident of the threshold: any prominence from 2 % to 30 % of the range finds the same seven.
        assert [count_stripes(*profile, prominence=p).n for p in (0.02, 0.1, 0.3)] == [7, 7, 7]
    assert axis.misalignment[1] < 0.3 * axis.misalignment[0]


@pytest.mark.parametrize("gene", ["ftz", "eve", "h"])
def test_axis_learned_from_other_genes_counts_the_same(reference, gene):
    coordinates = reference.obsm["spatial"]
    others = [name for name in ("ftz", "eve", "h") if name != gene]
    axis = fit_axis(coordinates, columns(reference, others))
    stripes = count_stripes(*axis_profile(columns(reference, [gene])[:, 0], coordinates, axis))
    assert stripes.n == 7
    assert np.all(np.diff(stripes.positions) > 20)


def test_gap_gene_has_few_stripes(reference, reference_axis):
    kruppel = columns(reference, ["Kr"])[:, 0]
    assert count_stripes(*axis_profile(kruppel, reference.obsm["spatial"], reference_axis)).n <= 2


def test_angle_is_zero_ventrally(reference):
    coordinates = reference.obsm["spatial"]
    angle = dorsoventral_angle(coordinates)
    for gene, expected in (("twi", 0), ("zen", 180)):
        weight = columns(reference, [gene])[:, 0] ** 4
        assert abs(np.average(angle, weights=weight) - expected) < 45


def test_straightening_recovers_the_simulated_axis(embryo):
    coordinates = embryo.truth.obsm["spatial"]
    axis = fit_axis(coordinates, columns(embryo.reference, ["stripe7_1", "stripe7_4", "stripe7_6"]))
    egg = embryo.truth.obs["egg_length"].to_numpy()
    seen = (np.abs(dorsoventral_angle(coordinates) - 90) < 60) & (egg > 0.3) & (egg < 0.85)
    error = axis.position(coordinates)[seen] - (500 * egg[seen] - 250)
    plain = coordinates[seen, 0] - (500 * egg[seen] - 250)
    assert error.std() < 0.25 * plain.std()
    assert error.std() < 3.0


def test_simulated_genes_have_seven_and_fourteen(embryo, embryo_axis):
    coordinates, axis = embryo.truth.obsm["spatial"], embryo_axis
    for name, expected in (("stripe7_3", 7), ("stripe14_1", 14), ("stripe14_2", 14)):
        profile = axis_profile(columns(embryo.truth, [name])[:, 0], coordinates, axis)
        assert count_stripes(*profile).n == expected


def test_lateral_line_is_its_own_axis(embryo):
    axis = fit_axis(
        embryo.truth.obsm["spatial"], columns(embryo.reference, ["stripe7_1", "stripe7_4"]), degree=(1, 1)
    )
    lateral = np.array([[-100.0, 80.0, 0.0], [50.0, 90.0, 0.0]])
    np.testing.assert_allclose(axis.position(lateral), lateral[:, 0])


def test_count_by_hand():
    positions = np.arange(0.0, 100.0)
    profile = np.zeros(100)
    profile[[10, 40, 70]] = [1.0, 0.5, 0.05]
    stripes = count_stripes(positions, profile)
    assert stripes.n == 2
    np.testing.assert_allclose(stripes.positions, [10.0, 40.0])
    np.testing.assert_allclose(stripes.prominences, [1.0, 0.5])
    assert count_stripes(positions, profile, prominence=0.01).n == 3
    assert count_stripes(positions, np.ones(100)).n == 0


def test_profile_is_the_local_mean(embryo, embryo_axis):
    coordinates, axis = embryo.truth.obsm["spatial"], embryo_axis
    positions, profile = axis_profile(2.0 * axis.position(coordinates) + 1.0, coordinates, axis)
    np.testing.assert_allclose(profile, 2.0 * positions + 1.0, atol=10.0)
    assert (positions[0], positions[-1]) == pytest.approx(axis.trunk(), abs=1.0)


def test_a_gap_in_the_map_gives_no_nan(embryo, embryo_axis):
    coordinates, axis = embryo.truth.obsm["spatial"], embryo_axis
    kept = np.abs(coordinates[:, 0]) > 60
    profile = axis_profile(np.ones(kept.sum()), coordinates[kept], axis, bandwidth=0.5)[1]
    np.testing.assert_allclose(profile, 1.0)


def test_unusable_patterns_are_refused(embryo):
    coordinates = embryo.truth.obsm["spatial"]
    with pytest.raises(PerlerInputError, match=r"constant columns \[1\]"):
        fit_axis(coordinates, np.stack([coordinates[:, 0], np.ones(len(coordinates))], axis=1))
    with pytest.raises(PerlerInputError, match="at least 50 locations"):
        fit_axis(coordinates[:20], coordinates[:20])
