"""Panels: both criteria against loops, the search against exhaustive search, truths of made-up tissues."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax import fit_perler, simulate_embryo
from perler_jax.errors import PerlerInputError
from perler_jax.preprocessing import centre
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.streaming import Tiles
from perler_jax.trust.landmark_space import landmark_space, space_of_fit
from perler_jax.trust.panel import choose_panel, panel_entropy
from perler_jax.trust.panel_criteria import RemainingEntropy, UnpredictedLandmarks, log_evidence_without


def made_up_tissue(seed, n_cells=60, n_locations=45, useful=6, useless=2):
    """Landmarks that vary smoothly over a line of places, and ones whose cells were shuffled."""
    rng = np.random.default_rng(seed)
    place = np.linspace(0, 1, n_locations)
    angles = np.outer(place, rng.uniform(2, 9, useful + useless)) + rng.uniform(0, 6, useful + useless)
    reference = centre(np.sin(angles))[0]
    origin = rng.integers(0, n_locations, n_cells)
    cells = reference[origin] * 1.5 + 0.4 * rng.normal(size=(n_cells, useful + useless))
    for gene in range(useful, useful + useless):
        cells[:, gene] = rng.permutation(cells[:, gene])
    genes = np.array([f"useful{i}" for i in range(useful)] + [f"useless{i}" for i in range(useless)])
    return centre(cells)[0], reference, genes, origin


@pytest.fixture(scope="module")
def space():
    """In float64, with location weights that are not uniform."""
    cells, reference, genes, _ = made_up_tissue(0)
    weights = np.log(np.random.default_rng(1).gamma(2.0, size=len(reference)))
    with device_precision("float64"):
        yield landmark_space(cells, reference, genes, log_location_weights=weights, dtype=np.float64)


def oracle_entropy(space, panel):
    """Mean over cells of minus the log posterior of the panel, averaged by that of all landmarks."""
    z, m = np.asarray(space.cells), np.asarray(space.locations)
    pi = np.exp(np.asarray(space.log_location_weights))
    pi = pi / pi.sum()
    total = 0.0
    for cell in z:
        posteriors = []
        for genes in (range(z.shape[1]), panel):
            density = np.array(
                [
                    p * np.exp(-0.5 * sum((cell[g] - place[g]) ** 2 for g in genes))
                    for p, place in zip(pi, m, strict=True)
                ]
            )
            posteriors.append(density / density.sum())
        total -= posteriors[0] @ np.log(posteriors[1])
    return total / len(z)


def oracle_unpredicted(space, panel, ridge):
    """One regression per landmark on standardised sides."""
    y, h = ((v - v.mean(0)) / v.std(0) for v in (np.asarray(space.cells), np.asarray(space.reference)))
    scores = []
    for gene in range(y.shape[1]):
        others = [g for g in panel if g != gene]
        if not others:  # nothing is said of it
            scores.append(0.0)
            continue
        penalty = ridge * len(y) * np.eye(len(others))
        b = np.linalg.solve(y[:, others].T @ y[:, others] + penalty, y[:, others].T @ y[:, gene])
        scores.append(np.corrcoef(h[:, others] @ b, h[:, gene])[0, 1])
    return 1 - np.mean(scores)


PANELS = [range(8), [0, 3, 5], [1, 6], [2, 4, 5, 7]]


@pytest.mark.parametrize("panel", PANELS)
def test_criteria_equal_loops(space, panel):
    panel = list(panel)
    kept = np.isin(np.arange(8), panel)
    entropy, unpredicted = RemainingEntropy(space), UnpredictedLandmarks(space)
    assert entropy.of(kept) == pytest.approx(oracle_entropy(space, panel), abs=1e-9)
    assert unpredicted.of(kept) == pytest.approx(
        oracle_unpredicted(space, panel, unpredicted.ridge), abs=1e-9
    )
    for criterion, oracle in ((entropy, oracle_entropy), (unpredicted, oracle_unpredicted)):
        extra = () if criterion is entropy else (unpredicted.ridge,)
        expected = [oracle(space, [g for g in panel if g != gone], *extra) for gone in panel]
        np.testing.assert_allclose(criterion.without(kept, np.array(panel)), expected, atol=1e-9)


def test_ridge_is_the_one_that_predicts_best(space):
    ridge = UnpredictedLandmarks(space).ridge
    losses = {each: oracle_unpredicted(space, range(8), each) for each in (0.5, 2.0, 8.0)}
    assert losses[ridge] == min(losses.values())


def test_with_everything_it_is_the_entropy_of_the_posterior(space):
    z, m = np.asarray(space.cells), np.asarray(space.locations)
    logits = np.asarray(space.log_location_weights) - 0.5 * ((z[:, None] - m) ** 2).sum(-1)
    gamma = np.exp(logits - logits.max(1, keepdims=True))
    gamma /= gamma.sum(1, keepdims=True)
    entropy = -(gamma * np.log(np.where(gamma > 0, gamma, 1))).sum(1).mean()
    assert panel_entropy(space, space.genes) == pytest.approx(entropy, abs=1e-9)
    assert entropy < panel_entropy(space, ["useful0", "useful1"]) < np.log(45)


@pytest.mark.parametrize("tiles", [Tiles(60, 45), Tiles(7, 45), Tiles(60, 11), Tiles(13, 8)])
def test_tiles_change_nothing(space, tiles):
    arguments = (
        space.cells,
        space.locations,
        space.log_location_weights,
        jnp.array([1.0, 1, 0, 1, 1, 1, 0, 1]),
        jnp.array([3, -1, 7]),
    )
    np.testing.assert_allclose(
        log_evidence_without(*arguments, tiles=tiles), log_evidence_without(*arguments), rtol=1e-12
    )


@pytest.mark.parametrize("criterion", ["entropy", "loo"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_equals_exhaustive_elimination(criterion, seed):
    cells, reference, genes, _ = made_up_tissue(seed, n_cells=80, useful=9, useless=3)
    with device_precision("float64"):
        space = landmark_space(cells, reference, genes, dtype=np.float64)
        found = choose_panel(space, 4, criterion=criterion, progress=False)
        measure = (RemainingEntropy if criterion == "entropy" else UnpredictedLandmarks)(space)
        left, gone, values = list(range(12)), [], []
        while len(left) > 4:
            losses = [measure.of(np.isin(np.arange(12), [g for g in left if g != out])) for out in left]
            values.append(min(losses))
            gone.append(left.pop(int(np.argmin(losses))))
    assert found.trace.index.tolist() == genes[gone].tolist()
    np.testing.assert_allclose(found.trace["value"], values, atol=1e-9)
    np.testing.assert_array_equal(found.trace["size"], np.arange(11, 3, -1))
    assert set(found.panel) == set(genes[left])


def test_shuffled_landmarks_go_first():
    cells, reference, genes, _ = made_up_tissue(3, n_cells=200, useful=6, useless=3)
    found = choose_panel(landmark_space(cells, reference, genes), 2, progress=False)
    assert sorted(found.trace.index[:3]) == ["useless0", "useless1", "useless2"]
    assert np.all(np.diff(found.trace["value"]) > 0)


def test_one_of_two_twins_goes():
    """A landmark measured twice is worth less than either of two different ones."""
    cells, reference, genes, _ = made_up_tissue(4, n_cells=300, useful=5, useless=0)
    twin = cells[:, :1] + 1e-3 * np.random.default_rng(0).normal(size=(300, 1))
    both = np.concatenate([cells, twin], axis=1), np.concatenate([reference, reference[:, :1]], axis=1)
    # The twins share their noise, which landmark space takes for independent: only the regression can know.
    found = choose_panel(
        landmark_space(*(centre(v)[0] for v in both), np.append(genes, "twin")),
        5,
        criterion="loo",
        progress=False,
    )
    assert found.trace.index[0] in ("useful0", "twin")


def test_larger_panels_are_nested_and_some_landmarks_stay(space):
    small = choose_panel(space, 2, progress=False)
    for size in (2, 5, 8):
        assert len(set(small.of_size(size))) == size
        assert set(small.panel) <= set(small.of_size(size))
    np.testing.assert_array_equal(small.of_size(5)[:2], small.panel)
    assert set(small.of_size(5)) == set(choose_panel(space, 5, progress=False).panel)
    kept = choose_panel(space, 3, keep=["useless1"], progress=False)
    assert "useless1" in kept.panel
    assert "useless1" not in small.of_size(5)
    with pytest.raises(PerlerInputError, match="from 2 to 8, found 9"):
        small.of_size(9)
    with pytest.raises(PerlerInputError, match="from 2 to 8, found 1"):
        small.of_size(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 8}, "1 to 7 landmarks"),
        ({"n": 0}, "1 to 7 landmarks"),
        ({"n": 1, "keep": ["useful0", "useful1"]}, "2 must stay"),
        ({"n": 3, "keep": ["Useful0"]}, "Useful0"),
        ({"n": 3, "criterion": "variance"}, "entropy or loo"),
    ],
)
def test_unusable_requests_are_refused(space, arguments, message):
    with pytest.raises(PerlerInputError, match=message):
        choose_panel(space, progress=False, **arguments)


def test_a_constant_landmark_is_refused():
    cells, reference, genes, _ = made_up_tissue(0)
    reference[:, 3] = 0.0
    with pytest.raises(PerlerInputError, match=r"1 constant in the reference .*useful3"):
        landmark_space(cells, reference, genes)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=2, n_locations=200, n_cells=200, n_genes=60, n_landmarks=24)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = PerlerSettings(n_metagenes=10)
    return fit_perler(embryo.cells, embryo.reference, settings=settings, weights=(0.5, 0.0), progress=False)


def test_a_fit_gives_the_same_space_and_a_panel_that_beats_chance(embryo, fit):
    """The chosen third places cells of known origin better than random thirds do."""
    space = space_of_fit(fit)
    assert space.cells.shape == (200, 24)
    found = choose_panel(fit, 8, progress=False)
    np.testing.assert_array_equal(found.panel, choose_panel(space, 8, progress=False).panel)

    coordinates, origin = embryo.reference.obsm["spatial"], embryo.cells.obs["true_location"].to_numpy()
    distances = np.linalg.norm(coordinates[origin][:, None] - coordinates, axis=2)

    def error(panel):
        kept = np.isin(space.genes, panel)
        z, m = np.asarray(space.cells)[:, kept], np.asarray(space.locations)[:, kept]
        logits = -0.5 * ((z[:, None] - m) ** 2).sum(-1)
        gamma = np.exp(logits - logits.max(1, keepdims=True))
        return (gamma * distances).sum(1).mean() / gamma.sum(1).mean()

    rng = np.random.default_rng(0)
    random = np.array([error(rng.choice(space.genes, 8, replace=False)) for _ in range(20)])
    assert error(found.panel) < random.mean() - random.std()
    assert error(found.panel) < np.quantile(random, 0.1)


def test_a_fit_without_cells_is_refused(fit):
    with pytest.raises(PerlerInputError, match="expression of its cells"):
        choose_panel(dataclasses.replace(fit, cells=None), 8)
