"""Ranked locations: every rule against loops, and what each is for."""

import numpy as np
import pytest

from perler_jax.errors import PerlerInputError
from perler_jax.trust import ranked_locations
from perler_jax.trust.ranked_locations import LocationRanking


@pytest.fixture
def places():
    rng = np.random.default_rng(0)
    coordinates = rng.normal(size=(30, 3))
    posterior = rng.gamma(0.2, size=(7, 30))
    return coordinates, posterior / posterior.sum(1, keepdims=True)


def oracle(coordinates, row, n, rule):
    def distance(i, j):
        return np.sqrt(((coordinates[i] - coordinates[j]) ** 2).sum())

    everywhere = range(len(row))
    if rule == "posterior":
        return sorted(everywhere, key=lambda k: -row[k])[:n]
    if rule == "distance":
        return sorted(everywhere, key=lambda c: sum(row[k] * distance(c, k) for k in everywhere))[:n]
    near = {c: sorted(everywhere, key=lambda k, c=c: distance(c, k))[:n] for c in everywhere}
    gain = {
        c: sum(row[k] / np.mean([distance(member, k) for member in near[c]]) for k in everywhere)
        for c in everywhere
    }
    return near[max(gain, key=gain.get)]


@pytest.mark.parametrize("rule", ["posterior", "distance", "neighbourhood"])
@pytest.mark.parametrize("block", [1, 300, 10**6])
def test_rules_equal_loops(places, rule, block, monkeypatch):
    monkeypatch.setattr(ranked_locations, "_BLOCK_ENTRIES", block)
    coordinates, posterior = places
    found = LocationRanking(coordinates, n=5, rule=rule)(posterior)
    assert found.tolist() == [oracle(coordinates, row, 5, rule) for row in posterior]


def test_two_places_are_not_averaged():
    """A cell from one of two ends: expected distance says the middle, the neighbourhood one end."""
    coordinates = np.arange(21.0)[:, None]
    posterior = np.zeros((1, 21))
    posterior[0, [0, 1, 2, 10, 18, 19, 20]] = [0.1, 0.26, 0.1, 0.06, 0.12, 0.24, 0.12]
    middle = LocationRanking(coordinates, n=3, rule="distance")(posterior)[0]
    end = LocationRanking(coordinates, n=3, rule="neighbourhood")(posterior)[0]
    assert end.tolist() in ([1, 0, 2], [1, 2, 0], [19, 18, 20], [19, 20, 18])
    assert all(3 < place < 18 for place in middle)


def test_unusable_input_is_refused(places):
    coordinates, posterior = places
    with pytest.raises(PerlerInputError, match="posterior, distance, neighbourhood"):
        LocationRanking(coordinates, rule="mode")
    with pytest.raises(PerlerInputError, match="2 to 30 locations"):
        LocationRanking(coordinates, n=31)
    with pytest.raises(PerlerInputError, match="no two locations in one place"):
        LocationRanking(np.concatenate([coordinates, coordinates[:1]]))
    with pytest.raises(PerlerInputError, match="over 30 locations, found 29"):
        LocationRanking(coordinates)(posterior[:, :29])
