"""Experts, their mixture and their shares: against dense weights, plain regressions and known answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax import PerlerInputError
from perler_jax.grams import landmark_grams
from perler_jax.held_out.cross_validation import held_out_predictions
from perler_jax.held_out.expert_grams import ExpertScorer
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.metagenes import fit_metagenes, reduce_landmarks
from perler_jax.mixture import MappingParams
from perler_jax.prediction.assembly import Mapped, make_predictor
from perler_jax.prediction.choice import Choice, ExpertMixture, plain_choice
from perler_jax.prediction.experts import (
    EXPERTS,
    POLISHES,
    Average,
    Expert,
    Polish,
    Space,
    usable_experts,
    usable_polishes,
)
from perler_jax.prediction.mixed_weights import MixedWeights, Points, space_of, stack_spaces
from perler_jax.prediction.polishing import Polisher, smoothers
from perler_jax.prediction.regression import prepare_regression
from perler_jax.prediction.shares import Shares, correlations, learn_shares, nested_shares
from perler_jax.tiles import Tiles
from perler_jax.weights import WeightParams
from tests import oracle

CELLS, LOCATIONS, LANDMARKS = 40, 30, 6


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def zscore(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def ridge(features, targets, penalty):
    gram = features.T @ features / len(features) + penalty * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ targets / len(features))


@pytest.fixture(scope="module")
def sides():
    """Centred landmarks of cells and locations that share patterns, and positions."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 10, size=(LOCATIONS, 2))
    waves = np.sin(positions @ rng.normal(size=(2, LANDMARKS)))
    y = waves[rng.integers(0, LOCATIONS, CELLS)] * 2 + 0.5 * rng.normal(size=(CELLS, LANDMARKS))
    y += rng.normal(size=(CELLS, 1))  # a level of each cell
    return y - y.mean(axis=0), waves - waves.mean(axis=0), positions


@pytest.fixture(scope="module")
def scorer(sides):
    with jax.enable_x64(True):
        return make_scorer(*sides)


def make_scorer(y, h, positions, experts=None):
    folds, grams = make_folds(LANDMARKS, None), landmark_grams(y, h)
    fits = {
        levels: fit_held_out(y, h, folds, n_metagenes=4, grams=grams, levels=levels, dtype=np.float64)
        for levels in (True, False)
    }
    neighbours = np.random.default_rng(1).integers(0, CELLS, size=(CELLS, 5))
    return ExpertScorer(fits, y, h, grams, experts or EXPERTS, POLISHES, positions, neighbours)


@pytest.mark.parametrize("tiles", [None, Tiles(7, 6)], ids=["whole", "tiles"])
def test_mixed_weights_are_the_sum_of_the_dense_ones(tiles):
    rng = np.random.default_rng(3)
    spaces = [(rng.normal(size=(CELLS, m)), rng.normal(size=(LOCATIONS, m))) for m in (3, 2)]
    points = [(0.3, 0.4, 0), (0.0, 1.6, 1), (0.1, 0.0, 1)]
    shares, votes, pi = (
        np.array([0.5, 0.2, 0.3]),
        rng.uniform(0.1, 1, CELLS),
        rng.dirichlet(np.ones(LOCATIONS)),
    )
    values = rng.normal(size=(CELLS, 4))
    mixed = np.zeros((CELLS, LOCATIONS))
    each = []
    for (alpha, beta, space), share in zip(points, shares, strict=True):
        near, far = spaces[space]
        w = oracle.weights(oracle.mahalanobis(near, far, np.eye(near.shape[1])), pi, alpha, beta)
        each.append(oracle.weighted_mean(w * votes[:, None], values))
        mixed += share * w * votes[:, None] / (w * votes[:, None]).sum(axis=0)
    alpha, beta, space = (jnp.asarray(column) for column in zip(*points, strict=True))
    near, far = stack_spaces([(jnp.asarray(one), jnp.asarray(other)) for one, other in spaces])
    source = MixedWeights(
        Points(alpha, beta, space.astype(jnp.int32)),
        jnp.asarray(shares),
        near,
        far,
        jnp.asarray(np.log(pi)),
        votes=jnp.asarray(votes),
    )
    np.testing.assert_allclose(source.each_mean(jnp.asarray(values), tiles=tiles), each, rtol=1e-9)
    np.testing.assert_allclose(source.total(jnp.asarray(values), tiles=tiles), mixed.T @ values, rtol=1e-9)
    squared = source.squared_total(jnp.asarray(values), tiles=tiles)
    np.testing.assert_allclose(squared, (mixed**2).T @ values, rtol=1e-9)
    np.testing.assert_allclose(source.total(jnp.ones((CELLS, 1))), 1.0, rtol=1e-12)


def test_a_distance_shared_with_neighbours_is_the_mean_of_theirs():
    rng = np.random.default_rng(4)
    x, r = jnp.asarray(rng.normal(size=(CELLS, 3))), jnp.asarray(rng.normal(size=(LOCATIONS, 3)))
    params = MappingParams(jnp.array([1.0, 0.5, 2.0]), jnp.zeros(3), jnp.array([0.7, 1.0, 0.4]))
    neighbours = rng.integers(0, CELLS, size=(CELLS, 4))
    near, far = space_of(Space(), params, x, r, None)
    plain = ((np.asarray(near)[:, None] - np.asarray(far)[None]) ** 2).sum(axis=2)
    near, far = space_of(Space(neighbours=0.35), params, x, r, jnp.asarray(neighbours))
    found = ((np.asarray(near)[:, None] - np.asarray(far)[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(found, 0.65 * plain + 0.35 * plain[neighbours].mean(axis=1), rtol=1e-9)


def test_metagenes_without_levels_are_those_of_rows_less_their_mean(sides):
    y, h, _ = sides
    keep = np.arange(LANDMARKS) != 2
    maps = reduce_landmarks(landmark_grams(y, h), n_metagenes=3, keep=keep, levels=False)
    flat = [side[:, keep] - side[:, keep].mean(axis=1, keepdims=True) for side in (y, h)]
    expected = fit_metagenes(*flat, n_metagenes=3)
    for side, rows, loadings, by_hand in (
        (y, flat[0], maps.cell_loadings, expected.cell_loadings),
        (h, flat[1], maps.reference_loadings, expected.reference_loadings),
    ):
        np.testing.assert_allclose(np.abs(side @ loadings), np.abs(rows @ by_hand), atol=1e-8)
    assert np.abs(maps.cell_loadings[~keep]).max() == 0


@pytest.mark.parametrize("levels", [True, False])
def test_regression_from_gram_matrices_is_ridge_regression(sides, levels):
    y, h, _ = sides
    genes = np.random.default_rng(5).normal(size=(CELLS, 3)) + y[:, :1]
    kept = np.arange(LANDMARKS) != 4

    def features(side, used):
        rows = side[:, used]
        return zscore(rows if levels else rows - rows.mean(axis=1, keepdims=True))

    regression = prepare_regression(y.T @ y / CELLS, h.T @ h / LOCATIONS, kept, ridge=0.7, levels=levels)
    centred = genes - genes.mean(axis=0)
    of_cells, of_reference = regression.coefficients(y.T @ centred / CELLS)
    expected = ridge(features(y, kept), centred, 0.7)
    np.testing.assert_allclose(y @ of_cells, features(y, kept) @ expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(h @ of_reference, features(h, kept) @ expected, rtol=1e-8, atol=1e-10)


def test_a_landmark_takes_no_part_in_its_own_regression(sides):
    y, h, _ = sides
    everything = np.ones(LANDMARKS, bool)
    regression = prepare_regression(y.T @ y / CELLS, h.T @ h / LOCATIONS, everything, ridge=0.7)
    _, of_reference = regression.coefficients(y.T @ y[:, 1:2] / CELLS, np.array([1]))
    others = np.arange(LANDMARKS) != 1
    expected = zscore(h[:, others]) @ ridge(zscore(y[:, others]), y[:, 1:2], 0.7)
    np.testing.assert_allclose(h @ of_reference, expected, rtol=1e-8, atol=1e-10)


def test_polishes_are_a_gaussian_mean_and_a_projection_on_the_maps(sides):
    _, h, positions = sides
    maps, patterns = zscore(h), np.random.default_rng(6).normal(size=(LOCATIONS, 2))
    polisher = Polisher(POLISHES, maps, smoothers(POLISHES, positions))
    spacing = np.median(np.sort(np.linalg.norm(positions[:, None] - positions[None], axis=2), axis=1)[:, 1])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=2) / (1.1 * spacing)
    gaussian = np.where(distance <= 4, np.exp(-0.5 * distance**2), 0)
    smooth = gaussian / gaussian.sum(axis=1, keepdims=True) @ patterns

    def project(values):
        centred = values - values.mean(axis=0)
        return values.mean(axis=0) + maps @ ridge(maps, centred, 0.05)

    expected = [patterns, smooth, project(patterns), project(smooth)]
    for found, wanted in zip(polisher.each(patterns), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    mixed = sum(share * each for share, each in zip(shares, expected, strict=True))
    np.testing.assert_allclose(polisher.mixed(patterns, shares), mixed, rtol=1e-9, atol=1e-12)


def test_the_plain_expert_is_the_papers_held_out_prediction(sides, scorer):
    y, h, _ = sides
    at = next(i for i, each in enumerate(EXPERTS) if each.is_plain)
    average = EXPERTS[at].average
    point = WeightParams.single(average.alpha, average.beta, np.float64)
    expected = held_out_predictions(scorer.fits[True], point, jnp.asarray(y), jnp.asarray(h))
    for fold in range(LANDMARKS):
        genes, patterns = scorer.patterns(fold)
        np.testing.assert_allclose(patterns[at * len(POLISHES)], expected[:, genes], rtol=1e-5, atol=1e-6)


def test_the_predictor_of_a_choice_is_the_mixture_of_what_was_scored(sides, scorer):
    """One expert of each kind, all polishes: the mixture of held-out patterns is what the predictor gives."""
    y, h, positions = sides
    shares = Shares(np.random.default_rng(7).dirichlet(np.ones(len(EXPERTS))), np.array([0.1, 0.2, 0.3, 0.4]))
    genes, patterns = scorer.patterns(3)
    kept = ~np.isin(np.arange(LANDMARKS), genes)
    mapped = {}
    for levels, fits in scorer.fits.items():
        fold = jax.tree.map(lambda leaf: leaf[3], fits)
        x, r = jnp.asarray(y) @ fold.cell_loadings, jnp.asarray(h) @ fold.reference_loadings
        mapped[levels] = Mapped(fold.params, x, r)
    names = np.array([f"g{i}" for i in range(LANDMARKS)], dtype=object)
    predictor = make_predictor(
        Choice(EXPERTS, POLISHES, shares),
        mapped,
        (names, y, h),
        kept=kept,
        coordinates=positions,
        neighbours=scorer.neighbours,
    )
    expected = np.einsum("p,plg->lg", shares.flat, patterns)
    np.testing.assert_allclose(predictor.predict(names[genes], y[:, genes]), expected, rtol=1e-4, atol=1e-5)


def test_nothing_of_a_held_out_landmarks_map_is_in_its_patterns(sides, scorer):
    y, h, positions = sides
    genes, before = scorer.patterns(2)
    other = h.copy()
    other[:, genes] = np.random.default_rng(8).normal(size=(LOCATIONS, len(genes)))
    _, after = make_scorer(y, other - other.mean(axis=0), positions).patterns(2)
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-7)


def test_a_cell_without_a_vote_changes_no_held_out_pattern(sides):
    """Foreign cells: what such a cell expresses of the held-out gene reaches no weighted mean."""
    y, h, positions = sides
    scorer = make_scorer(y, h, positions, tuple(each for each in EXPERTS if each.is_plain))
    votes = jnp.ones((LANDMARKS, CELLS)).at[:, 4].set(0.0)
    fits = {levels: dataclasses.replace(each, votes=votes) for levels, each in scorer.fits.items()}
    genes = scorer.patterns(3)[0]
    louder = y.copy()
    louder[4, genes] += 30.0
    heard, before = (dataclasses.replace(scorer, fits=each).patterns(3)[1] for each in (scorer.fits, fits))
    louder_scorer = dataclasses.replace(scorer, cells=louder)
    after = dataclasses.replace(louder_scorer, fits=fits).patterns(3)[1]
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-7)
    assert np.abs(louder_scorer.patterns(3)[1] - heard).max() > 0.1, "with a vote it is heard"


def grams_of(predictions, maps):
    """Products as `ExpertScorer` keeps them, of predictions (pairs, locations, genes) and maps."""
    rows = np.concatenate([predictions, maps[None]])
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.einsum("plg,qlg->gpq", rows, rows) / maps.shape[0]


@pytest.fixture(scope="module")
def known():
    """Maps made of two experts, one of them after the second polish, beside an expert of noise."""
    rng = np.random.default_rng(9)
    experts = rng.normal(size=(3, 50, 20))
    polished = np.stack([experts, -0.5 * experts + rng.normal(size=experts.shape)], axis=1)
    u, v = np.array([0.7, 0.3, 0.0]), np.array([0.25, 0.75])
    maps = np.einsum("a,l,alkg->kg", u, v, polished)
    return grams_of(polished.reshape(6, 50, 20), maps), u, v


def test_shares_of_a_known_mixture_are_found(known):
    grams, u, v = known
    found = learn_shares(grams, 2)
    np.testing.assert_allclose(found.experts, u, atol=0.02)
    np.testing.assert_allclose(found.polishes, v, atol=0.02)
    assert found.experts[2] == 0
    assert correlations(grams, found.flat).min() > 0.999
    without = learn_shares(grams, 2, candidates=[1, 2])
    assert without.experts[0] == 0


def test_nested_shares_never_see_their_own_fold(known):
    grams, _, _ = known
    folds = [np.arange(start, start + 5) for start in range(0, 20, 5)]
    before = nested_shares(grams, 2, folds)
    changed = grams.copy()
    changed[folds[1], :-1, -1] *= -1  # as if the maps of this fold were the opposite
    changed[folds[1], -1, :-1] *= -1
    after = nested_shares(changed, 2, folds)
    np.testing.assert_array_equal(before[1].experts, after[1].experts)
    np.testing.assert_array_equal(before[1].polishes, after[1].polishes)
    assert np.abs(before[0].experts - after[0].experts).max() > 0.01


def test_maps_that_go_with_no_expert_leave_all_alike(known):
    grams, _, _ = known
    opposite = grams.copy()
    opposite[:, :-1, -1] = -np.abs(opposite[:, :-1, -1])
    found = learn_shares(opposite, 2)
    np.testing.assert_allclose(found.experts, 1 / 3)
    np.testing.assert_array_equal(found.polishes, [1, 0])


def test_a_mixture_is_plain_values_and_reads_back():
    shares = [Shares(np.eye(len(EXPERTS))[at], np.eye(len(POLISHES))[1]) for at in (0, 3)]
    mixture = ExpertMixture.of(EXPERTS, POLISHES, shares[0], shares)
    assert mixture.choice.experts == EXPERTS
    assert mixture.choice_of_fold(1).used() == [(EXPERTS[3], 1.0)]
    table = mixture.choice.table
    assert table["kind"].tolist() == ["expert", "polish"]
    assert table["share"].tolist() == [1.0, 1.0]
    assert plain_choice(0.2, 0.4).experts[0].is_plain
    assert "100%" in repr(mixture)


def test_what_the_data_lack_is_not_used():
    assert not any(e.average and e.average.space.neighbours for e in usable_experts(neighbours=False))
    assert usable_experts(neighbours=True) == EXPERTS
    assert not any(each.smoothing for each in usable_polishes(positions=False))
    beside = {each.regression for each in EXPERTS if each.average is not None} - {None}
    assert len(beside) == 1, "one regression stands beside the averages: `Predictor.rest` takes one off"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Expert(), "expected an expert with an average, a regression or both"),
        (lambda: Expert(Average(-0.1, 0.0)), "expected alpha and beta >= 0"),
        (lambda: Expert(ridge=0.0), "expected ridge > 0"),
    ],
)
def test_impossible_experts_are_refused(wrong, message):
    with pytest.raises(PerlerInputError, match=message):
        wrong()
    assert Polish(1.1, 0.05).name == "smoothed over 1.1 spacings, drawn to the landmarks' maps"
