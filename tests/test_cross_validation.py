"""Held-out fits: each equals a fit on data from which the genes were deleted, and nothing leaks into it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.errors import PerlerInputError
from perler_jax.held_out.cross_validation import correlation, held_out_predictions, held_out_scores, roc_auc
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.weights import WeightParams
from tests import oracle

CELLS, LOCATIONS, LANDMARKS, METAGENES, STEPS = 23, 17, 6, 3, 4
POINT = (0.11, 0.31)
FOLDS = {
    "one gene at a time": make_folds(LANDMARKS),
    "folds of unequal size": [np.array([0, 3]), np.array([1]), np.array([2, 4, 5])],
}
REDUCE = {
    "plsc": lambda cells, reference: oracle.metagenes(cells, reference, METAGENES),
    "none": lambda cells, reference: (cells, reference),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def sides():
    """Centred expression of cells from known locations, with related genes."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(LOCATIONS, 3)) @ rng.normal(size=(3, LANDMARKS))
    h += 0.3 * rng.normal(size=h.shape)
    y = 0.8 * h[rng.integers(LOCATIONS, size=CELLS)] + 0.4 * rng.normal(size=(CELLS, LANDMARKS))
    return y - y.mean(axis=0), h - h.mean(axis=0)


def fit(y, h, folds, reduction="plsc"):
    """A fixed number of EM steps, so that the loops can follow."""
    return fit_held_out(
        y,
        h,
        folds,
        n_metagenes=METAGENES,  # also without a reduction, where the largest fold leaves so many
        reduction=reduction,
        max_steps=STEPS,
        tolerance=0.0,
        accelerate=False,
        dtype=np.float64,
    )


def point(alpha=POINT[0], beta=POINT[1]):
    return WeightParams(jnp.array([alpha]), jnp.array([beta]))


def predict(fits, y, h, **options):
    return np.asarray(held_out_predictions(fits, point(), jnp.asarray(y), jnp.asarray(h), **options))


def score(fits, weights, y, h, **options):
    return np.asarray(held_out_scores(fits, weights, jnp.asarray(y), jnp.asarray(h), **options))


@pytest.mark.parametrize(
    ("folds", "reduction", "covariance"),
    [
        ("one gene at a time", "plsc", "fitted"),
        ("folds of unequal size", "plsc", "pooled"),
        ("folds of unequal size", "none", "given"),
    ],
)
def test_a_fold_equals_a_fit_without_its_genes(sides, folds, reduction, covariance):
    y, h = sides
    fits = fit(y, h, FOLDS[folds], reduction)
    matrix = np.cov(y, rowvar=False)
    choice = (
        {"landmark_covariance": jnp.asarray(matrix)} if covariance == "given" else {"covariance": covariance}
    )
    found = predict(fits, y, h, **choice)
    expected = np.empty_like(h)
    for fold in FOLDS[folds]:
        expected[:, fold] = oracle.held_out_prediction(
            y, h, fold, STEPS, *POINT, REDUCE[reduction], matrix if covariance == "given" else covariance
        )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(fits.n_steps, STEPS)
    if (reduction, covariance) == ("plsc", "fitted"):
        scores = score(fits, point(), y, h)
        np.testing.assert_allclose(scores, oracle.correlations(expected, h)[None], rtol=1e-6)


def test_the_fit_of_a_sample_is_only_a_start(monkeypatch):
    """The optimum is that of all cells and locations; a location weight goes with its location."""
    rng = np.random.default_rng(1)
    h = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 9)) + 0.2 * rng.normal(size=(60, 9))
    y = 0.8 * h[rng.integers(60, size=400)] + 0.3 * rng.normal(size=(400, 9))
    y, h, folds = y - y.mean(axis=0), h - h.mean(axis=0), make_folds(9, 3)
    log_pi = jnp.log(jnp.linspace(1.0, 2.0, len(h)))
    options = {"n_metagenes": 4, "tolerance": 1e-13, "max_steps": 1000, "dtype": np.float64}
    whole = fit_held_out(y, h, folds, log_location_weights=log_pi, **options)
    monkeypatch.setattr("perler_jax.held_out.fold_em._LEAST_CELLS", 100)
    monkeypatch.setattr("perler_jax.held_out.fold_em._LEAST_LOCATIONS", 30)
    monkeypatch.setattr("perler_jax.held_out.fold_em._SMALL_PART", 8)
    sampled = fit_held_out(y, h, folds, log_location_weights=log_pi, **options)
    assert not np.array_equal(sampled.n_steps, whole.n_steps), "another start takes other steps"
    for name in ("sensitivity", "background", "noise", "log_location_weights"):
        found, expected = (np.asarray(getattr(each.params, name)) for each in (sampled, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_short_folds_are_padded_and_the_padding_counts_nothing(sides):
    fits = fit(*sides, FOLDS["folds of unequal size"])
    np.testing.assert_array_equal(fits.held, [[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(np.asarray(fits.genes)[np.asarray(fits.held)], [0, 3, 1, 2, 4, 5])
    for row, fold in enumerate(FOLDS["folds of unequal size"]):
        for loadings in (fits.cell_loadings[row], fits.reference_loadings[row]):
            zero = np.flatnonzero((np.asarray(loadings) == 0).all(axis=1))
            np.testing.assert_array_equal(zero, fold)
    assert repr(fits) == "HeldOutFits(3 folds of 6 landmarks, 3 metagenes)"


@pytest.mark.parametrize("corruption", [1e4, -3.0])
def test_corrupting_a_held_out_gene_on_both_sides_changes_nothing_of_its_fold(sides, corruption):
    """Fold {2, 4, 5}: gene 4 is spoiled; its own fit and the predictions of 2 and 5 stay, bit for bit."""
    folds = FOLDS["folds of unequal size"]
    before = fit(*sides, folds)
    y, h = (each.copy() for each in sides)
    rng = np.random.default_rng(1)
    y[:, 4] = corruption * rng.normal(size=CELLS)
    h[:, 4] = corruption * rng.normal(size=LOCATIONS)
    after = fit(y, h, folds)
    own = [jax.tree.map(lambda leaf: np.asarray(leaf[2]), each) for each in (before, after)]
    jax.tree.map(np.testing.assert_array_equal, *own)
    unspoiled = predict(before, *sides)
    spoiled = predict(after, y, h)
    np.testing.assert_array_equal(spoiled[:, [2, 5]], unspoiled[:, [2, 5]])
    others = [jax.tree.map(lambda leaf: np.asarray(leaf[:2]), each.params) for each in (before, after)]
    assert np.abs(others[0].noise - others[1].noise).max() > 1e-3, "the folds that use gene 4 do see it"


def test_a_prediction_uses_the_gene_in_cells_only(sides):
    y, h = sides
    fits = fit(y, h, FOLDS["one gene at a time"])
    before = predict(fits, y, h)
    other_h = h.copy()
    other_h[:, 3] = np.random.default_rng(2).normal(size=LOCATIONS)
    np.testing.assert_array_equal(predict(fits, y, other_h)[:, 3], before[:, 3])
    other_y = y.copy()
    other_y[:, 3] = 5.0 * y[:, 3] - 2.0
    np.testing.assert_allclose(predict(fits, other_y, h)[:, 3], 5.0 * before[:, 3] - 2.0, rtol=1e-10)


def test_scores_of_several_points_and_of_points_per_fold(sides):
    folds = FOLDS["folds of unequal size"]
    fits = fit(*sides, folds)
    alphas, betas = np.array([0.5, 0.11, 0.0]), np.array([0.0, 0.31, 1.0])
    together = score(fits, WeightParams(jnp.asarray(alphas), jnp.asarray(betas)), *sides)
    assert together.shape == (3, LANDMARKS)
    own = score(fits, WeightParams(jnp.asarray(alphas[:, None]), jnp.asarray(betas[:, None])), *sides)
    for row, fold in enumerate(folds):
        np.testing.assert_allclose(own[0, fold], together[row, fold], rtol=1e-10)


def test_genes_that_no_fold_holds_out_have_no_score(sides):
    fits = fit(*sides, FOLDS["one gene at a time"])
    some = dataclasses.replace(fits, held=fits.held.at[jnp.array([2, 4])].set(False))
    lacking = [False, False, True, False, True, False]
    np.testing.assert_array_equal(np.isnan(score(some, point(), *sides)[0]), lacking)
    np.testing.assert_array_equal(np.isnan(predict(some, *sides)).all(axis=0), lacking)
    kept = np.flatnonzero(~np.array(lacking))
    np.testing.assert_array_equal(predict(some, *sides)[:, kept], predict(fits, *sides)[:, kept])


def test_slopes_of_scores_equal_finite_differences(sides):
    y, h = map(jnp.asarray, sides)
    fits = fit(*sides, FOLDS["one gene at a time"])

    def scores(values):
        return held_out_scores(fits, WeightParams(values[:1], values[1:]), y, h)[0]

    slopes = jax.jit(jax.jacfwd(scores))(jnp.array(POINT))
    step = 1e-5
    for axis in range(2):
        move = step * np.eye(2)[axis]
        difference = (scores(jnp.array(POINT + move)) - scores(jnp.array(POINT - move))) / (2 * step)
        np.testing.assert_allclose(slopes[:, axis], difference, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("n", "folds"), [(84, 10), (1020, 10), (7, 3), (7, 7), (5, None)])
def test_folds_cover_every_landmark_once_and_none_is_empty(n, folds):
    made = make_folds(n, folds, seed=3)
    sizes = [len(fold) for fold in made]
    assert len(made) == (folds or n)
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(made)), np.arange(n))


def test_folds_follow_the_seed():
    same, again, other = (np.concatenate(make_folds(30, 4, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


@pytest.mark.parametrize("folds", [0, 1, 6])
def test_impossible_folds_are_refused(folds):
    with pytest.raises(PerlerInputError, match=f"expected 2 to 5 folds .* found {folds}"):
        make_folds(5, folds)


def test_correlation_is_pearson_and_zero_without_variance():
    rng = np.random.default_rng(4)
    prediction, reference = rng.normal(size=(2, 4, 30))
    prediction[2] = 1.5
    found, slopes = jax.jit(jax.vmap(jax.value_and_grad(correlation)))(prediction, reference)
    rest = [0, 1, 3]
    expected = oracle.correlations(prediction[rest].T, reference[rest].T)
    np.testing.assert_allclose(found[jnp.array(rest)], expected, rtol=1e-12)
    assert found[2] == 0
    assert np.isfinite(slopes).all()


def test_roc_auc_counts_pairs_and_halves_ties():
    rng = np.random.default_rng(5)
    prediction = rng.integers(6, size=(5, 40)).astype(float)  # many ties
    reference = (rng.random((5, 40)) < 0.3).astype(float)
    prediction[4] = reference[4]
    found = roc_auc(jnp.asarray(prediction), jnp.asarray(reference))
    expected = [oracle.auc(p, on) for p, on in zip(prediction, reference > 0, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[4] == 1


def test_auc_of_held_out_genes(sides):
    y, h = sides
    binary = (h > 0.3).astype(float)
    fits = fit(y, h, FOLDS["one gene at a time"])
    found = score(fits, point(), y, binary, score="auc")[0]
    # The loadings are those of the fit, so that the reference's other columns place the locations anew.
    prediction = predict(fits, y, binary)
    expected = [oracle.auc(prediction[:, gene], binary[:, gene] > 0) for gene in range(LANDMARKS)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_repeated_folds_and_points_trace_once(sides):
    y, h = sides
    fits = fit(y, h, FOLDS["one gene at a time"])
    score(fits, point(), y, h)
    before = held_out_scores._cache_size()
    score(fit(y[::-1].copy(), h, FOLDS["one gene at a time"]), point(0.3, 0.0), y[::-1].copy(), h)
    assert held_out_scores._cache_size() == before
