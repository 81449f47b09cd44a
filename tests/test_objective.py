"""The held-out objective equals the formula, its slopes equal differences, and the tuner finds optima."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

from perler_jax.errors import PerlerInputError
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.held_out.nested import nested_by_newton, nested_by_refit
from perler_jax.held_out.objective import HeldOutObjective, held_out_objective
from perler_jax.held_out.prediction import HeldOutParams, make_held_out_data
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.tuner import tune
from perler_jax.inference.map_em import fit_map_em
from perler_jax.inference.priors import data_scaled_priors
from perler_jax.prediction.regression import regression_coefficients, standard_landmarks

CELLS, LOCATIONS, LANDMARKS, METAGENES = 45, 36, 9, 5
FOLDS = make_folds(LANDMARKS, 4, seed=1)  # of three and of two genes
RNG = np.random.default_rng(9)
EVERYTHING = HeldOutParams(
    alpha=np.array([0.07, 0.2]),
    beta=np.array([0.4, 0.1]),
    shares=np.array([1.0, 0.5, 0.3]),
    metagene_weights=RNG.uniform(0.5, 2.0, METAGENES),
    landmark_weights=RNG.uniform(0.5, 2.0, LANDMARKS),
    smoothing=0.9,
    smoothed=0.7,
    ridge=0.8,
    prior_strengths=np.array([20.0, 5.0, 8.0]),
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def sides():
    """Cells from known places of a sheet whose patterns are waves."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    waves = np.cos(places @ rng.normal(0, 0.7, (2, 4)) + rng.uniform(0, 6, 4))
    h = waves @ rng.normal(size=(4, LANDMARKS)) + 0.3 * rng.normal(size=(LOCATIONS, LANDMARKS))
    y = 0.8 * h[rng.integers(LOCATIONS, size=CELLS)] + 0.5 * rng.normal(size=(CELLS, LANDMARKS))
    return y - y.mean(axis=0), h - h.mean(axis=0), places


@pytest.fixture(scope="module")
def objective(sides):
    return make_objective(*sides)


def make_objective(y, h, places):
    with jax.enable_x64(True):
        options = {"n_metagenes": METAGENES, "tolerance": 1e-13, "max_steps": 2000, "dtype": np.float64}
        fits = fit_held_out(y, h, FOLDS, **options)
        data = make_held_out_data(y, h, places, n_neighbours=LOCATIONS, dtype=np.float64)
        return HeldOutObjective(fits, data)


def formula(params, fit, y, h, places):
    """Scores of one fold, dense and in plain steps."""
    x, r = y @ np.asarray(fit.cell_loadings), h @ np.asarray(fit.reference_loadings)
    whole = data_scaled_priors(jnp.asarray(x), jnp.asarray(r))
    (a_mean, a_sd), (b_mean, b_sd), (shape, scale) = (
        whole.sensitivity,
        whole.background,
        whole.noise_variance,
    )
    of_a, of_b, of_noise = params.prior_strengths
    priors = dataclasses.replace(
        whole,
        sensitivity=(a_mean, a_sd / np.sqrt(of_a)),
        background=(b_mean, b_sd / np.sqrt(of_b)),
        noise_variance=(shape * of_noise, scale * of_noise),
    )
    mapping = fit_map_em(jnp.asarray(x), jnp.asarray(r), priors, fit.params, tolerance=1e-13).params
    a, b, noise = (np.asarray(each) for each in (mapping.sensitivity, mapping.background, mapping.noise))
    shares = params.metagene_weights / params.metagene_weights.mean()
    loadings = np.asarray(fit.cell_loadings) / np.asarray(fit.params.noise)
    values, vectors = np.linalg.eigh(loadings @ loadings.T)
    values = np.where(values > 1e-9 * values.max(), values, np.inf)
    onto = vectors / np.sqrt(values) @ vectors.T @ loadings  # (LL')^{-1/2} L
    importance = params.landmark_weights / params.landmark_weights.mean()
    squared = np.zeros((len(x), len(r)))
    for n in range(len(x)):
        for k in range(len(r)):
            difference = onto @ (np.sqrt(shares) * (x[n] - a * r[k] - b) / noise)
            squared[n, k] = importance @ difference**2
    genes = np.asarray(fit.genes)[np.asarray(fit.held)]
    kept = np.setdiff1d(np.arange(LANDMARKS), genes)
    lines = regression_coefficients(standard_landmarks(y)[:, kept], y[:, genes], params.ridge)
    rest = y[:, genes] - standard_landmarks(y)[:, kept] @ lines
    predicted = standard_landmarks(h)[:, kept] @ lines
    for alpha, beta, share in zip(params.alpha, params.beta, params.shares[:-1], strict=True):
        w = np.exp(-alpha * squared - beta * np.sqrt(squared))
        w /= w.sum(axis=1, keepdims=True)
        predicted = predicted + share / params.shares.sum() * (w.T @ rest / w.sum(axis=0)[:, None])
    apart = ((places[:, None] - places) ** 2).sum(axis=-1)
    near = np.exp(-0.5 * apart / params.smoothing**2)
    smooth = near / near.sum(axis=1, keepdims=True) @ predicted
    predicted = params.smoothed * smooth + (1 - params.smoothed) * predicted
    return genes, [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, h[:, genes].T, strict=True)]


def test_scores_with_everything_on_equal_the_formula(objective, sides):
    found = objective.scores(EVERYTHING)
    for index in range(len(FOLDS)):
        fit = jax.tree.map(lambda leaf, at=index: leaf[at], objective.fits)
        genes, expected = formula(EVERYTHING, fit, *sides)
        np.testing.assert_allclose(found[genes], expected, atol=1e-5)
    terms = np.asarray(objective(EVERYTHING))
    np.testing.assert_allclose(
        terms, [-0.5 * np.log(1 - found[fold] ** 2).sum() for fold in FOLDS], rtol=1e-9
    )


def test_what_is_off_leaves_what_tuning_had_before(objective, sides):
    """Without extras the scores are those of the scorer."""
    y, h, _ = sides
    scorer = HeldOutScorer(objective.fits, jnp.asarray(y), jnp.asarray(h))
    plain = objective.scores(HeldOutParams(0.07, 0.4))
    np.testing.assert_allclose(plain, scorer(np.array([[0.07, 0.4]]))[0], rtol=1e-9)


def test_every_slope_equals_finite_differences(objective):
    """In all nine parameters, through the EM of the priors too."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), EVERYTHING)
    _, slopes = objective.with_slopes(params)
    rng = np.random.default_rng(2)
    towards = jax.tree.map(lambda leaf: leaf * rng.normal(size=leaf.shape), params)

    def at(step, **only):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, params, towards)
        return np.asarray(objective(dataclasses.replace(params, **{k: getattr(moved, k) for k in only})))

    for name in (field.name for field in dataclasses.fields(params)):
        difference = (at(1e-4, **{name: 1}) - at(-1e-4, **{name: 1})) / 2e-4
        along = np.asarray(getattr(slopes, name) * getattr(towards, name)).reshape(len(FOLDS), -1).sum(axis=1)
        np.testing.assert_allclose(along, difference, rtol=1e-6, atol=1e-9, err_msg=name)
        assert np.abs(along).max() > 1e-5, f"{name} changes nothing"


def test_the_sum_differentiates_by_itself(objective):
    params = HeldOutParams(0.07, 0.4, smoothing=0.9, ridge=0.8)
    terms, slopes = objective.with_slopes(params)
    both = jax.jit(jax.value_and_grad(lambda at: held_out_objective(at, objective.fits, objective.data)))
    value, gradient = both(params)
    np.testing.assert_allclose(value, np.sum(terms), rtol=1e-9)
    for one, parts in zip(*map(jax.tree.leaves, (gradient, slopes)), strict=True):
        np.testing.assert_allclose(one, np.sum(parts), rtol=1e-8)


def test_the_weight_of_a_landmark_held_out_says_nothing(objective):
    """Only ratios of weights count: alpha and beta take up the change of the mean, and nothing is left."""
    raised = np.array(EVERYTHING.landmark_weights)
    raised[FOLDS[0]] += 1.0
    ratio = raised.mean() / EVERYTHING.landmark_weights.mean()
    alpha, beta = EVERYTHING.alpha * ratio, EVERYTHING.beta * np.sqrt(ratio)
    params = dataclasses.replace(EVERYTHING, landmark_weights=raised, alpha=alpha, beta=beta)
    before, after = objective.scores(EVERYTHING), objective.scores(params)
    np.testing.assert_allclose(after[FOLDS[0]], before[FOLDS[0]], rtol=1e-8)
    assert np.abs(after - before)[FOLDS[1]].max() > 1e-4, "in the other folds it does"


def test_the_reference_of_a_held_out_gene_is_never_seen(objective, sides):
    """Its scores follow from its truth alone: with the truth negated they are negated."""
    y, h, places = sides
    changed = h.copy()
    changed[:, FOLDS[0]] *= -1
    before, after = objective.scores(EVERYTHING), make_objective(y, changed, places).scores(EVERYTHING)
    np.testing.assert_allclose(after[FOLDS[0]], -before[FOLDS[0]], rtol=1e-6, atol=1e-9)


def test_every_fold_may_have_its_own_parameters(objective):
    points = [(0.07, 0.4), (0.5, 0.1), (0.01, 2.0), (0.2, 0.0)]
    own = objective.scores(HeldOutParams(*np.array(points).T), per_fold=True)
    for fold, point in zip(FOLDS, points, strict=True):
        np.testing.assert_allclose(own[fold], objective.scores(HeldOutParams(*point))[fold], rtol=1e-9)


def test_what_the_data_cannot_bear_is_refused(objective, sides):
    without = HeldOutObjective(objective.fits, make_held_out_data(*sides[:2], dtype=np.float64))
    with pytest.raises(PerlerInputError, match="expected positions for smoothing"):
        without(HeldOutParams(0.1, 0.3, smoothing=1.0))
    with pytest.raises(PerlerInputError, match="expected 9 landmark_weights, found shape"):
        objective(HeldOutParams(0.1, 0.3, landmark_weights=np.ones(4)))
    with pytest.raises(PerlerInputError, match="found 'roc'"):
        HeldOutObjective(objective.fits, objective.data, "roc")


# Made-up objectives: each fold's term is a hill in logarithms.
TOPS = np.random.default_rng(5).normal(0.0, 0.4, (12, 3))
HEIGHTS = np.random.default_rng(6).uniform(0.5, 2.0, (12, 3))


def hills(params):
    """(folds,) quadratic in the logarithms, so that Newton's step is exact."""
    at = jnp.concatenate([jnp.log(params["scale"])[None], jnp.log(params["weights"])])
    return 3.0 - 0.5 * jnp.sum(HEIGHTS * (at - TOPS) ** 2, axis=1)


def top(keep):
    """Where the sum of some hills is highest."""
    return (HEIGHTS[keep] * TOPS[keep]).sum(axis=0) / HEIGHTS[keep].sum(axis=0)


def logs(params):
    return np.log(np.concatenate([np.atleast_1d(params["scale"]), params["weights"]]))


START = {"scale": 3.0, "weights": np.array([0.2, 5.0])}


def test_the_tuner_finds_the_top_of_terms_and_of_their_sum():
    for function in (hills, lambda params: hills(params).sum()):
        found = tune(function, START, tolerance=1e-9, progress=False)
        assert found.converged
        np.testing.assert_allclose(logs(found.params), top(np.arange(12)), atol=1e-3)
        np.testing.assert_allclose(found.value, hills(found.params).sum(), rtol=1e-9)
        assert found.path[0][1] == pytest.approx(float(hills(START).sum()))
        assert max(value for _, value in found.path) == found.value
        assert repr(found).startswith("Tuned(converged, value ")


def test_weights_leave_folds_out():
    weights = np.r_[np.zeros(5), np.ones(7)]
    found = tune(hills, START, weights=weights, tolerance=1e-9, progress=False)
    np.testing.assert_allclose(logs(found.params), top(np.arange(5, 12)), atol=1e-3)


def test_the_search_begins_at_the_best_of_several_starts():
    """Two basins; the start lies in the worse one."""

    def basins(z):
        return jnp.exp(-((z + 2) ** 2)) + 2 * jnp.exp(-((z - 2) ** 2))

    options = {"support": constraints.real, "progress": False, "tolerance": 1e-8}
    assert float(tune(basins, -1.8, **options).params) == pytest.approx(-2, abs=1e-2)
    found = tune(basins, -1.8, starts=[0.0, 1.5], **options)
    assert float(found.params) == pytest.approx(2, abs=1e-2)
    assert len(found.path) > 3


def test_support_keeps_parameters_inside():
    support = {"scale": constraints.interval(1.5, 4.0), "weights": constraints.positive}
    found = tune(hills, START, support=support, tolerance=1e-9, max_steps=200, progress=False)
    assert 1.5 <= float(found.params["scale"]) < 1.51, "its top lies below"
    np.testing.assert_allclose(logs(found.params)[1:], top(np.arange(12))[1:], atol=1e-3)
    with pytest.raises(PerlerInputError, match=r"expected a start inside .*\['scale'\] = -1"):
        tune(hills, {"scale": -1.0, "weights": np.ones(2)}, progress=False)


def test_a_search_cut_short_says_so_and_nonsense_is_refused():
    assert not tune(hills, START, tolerance=1e-12, max_steps=1, progress=False).converged
    with pytest.raises(PerlerInputError, match="expected a finite objective"):
        tune(lambda z: jnp.log(z - 5.0), 2.0, progress=False)


def test_nested_parameters_are_the_optima_without_each_fold():
    tuned = tune(hills, START, tolerance=1e-10, progress=False)
    newton = nested_by_newton(hills, tuned, verify=2, progress=False)
    refit = nested_by_refit(hills, START, make_folds(12, 4), tolerance=1e-10, progress=False)
    for fold in range(12):
        own = jax.tree.map(lambda leaf, at=fold: leaf[at], newton.params)
        np.testing.assert_allclose(logs(own), top(np.arange(12) != fold), atol=5e-3)
    for group in make_folds(12, 4):
        expected = top(np.setdiff1d(np.arange(12), group))
        for fold in group:
            own = jax.tree.map(lambda leaf, at=fold: leaf[at], refit.params)
            np.testing.assert_allclose(logs(own), expected, atol=5e-3)
    assert len(newton.shortfall) == 2
    assert all(0 <= each < 1e-4 for each in newton.shortfall.values())
    assert set(newton.shortfall) == set(np.argsort(-newton.moved)[:2].tolist())


def test_nested_parameters_need_the_folds_apart():
    def total(params):
        return hills(params).sum()

    with pytest.raises(PerlerInputError, match="term of every fold"):
        nested_by_newton(total, tune(total, START, progress=False), progress=False)
    with pytest.raises(PerlerInputError, match="in one group"):
        nested_by_refit(hills, START, [np.arange(6), np.arange(5, 12)], progress=False)


def test_a_fold_has_no_say_in_its_nested_parameters():
    """Its hill moves far away: the common optimum follows, its own nested parameters do not."""
    tops = TOPS.copy()
    tops[3] += 2.0

    def moved(params):
        at = jnp.concatenate([jnp.log(params["scale"])[None], jnp.log(params["weights"])])
        return 3.0 - 0.5 * jnp.sum(HEIGHTS * (at - tops) ** 2, axis=1)

    tuned = tune(moved, START, tolerance=1e-10, progress=False)
    assert np.abs(logs(tuned.params) - top(np.arange(12))).max() > 0.1
    own = jax.tree.map(lambda leaf: leaf[3], nested_by_newton(moved, tuned, progress=False).params)
    np.testing.assert_allclose(logs(own), top(np.arange(12) != 3), atol=5e-3)


def test_tuning_by_gradient_is_at_least_as_good_as_a_grid(objective):
    grid = itertools.product((0.05, 0.2), (0.1, 0.6), (0.5, 1.0), (0.3, 1.0, 3.0))
    best = max(
        float(np.sum(objective(HeldOutParams(alpha, beta, smoothing=length, ridge=ridge))))
        for alpha, beta, length, ridge in grid
    )
    start = HeldOutParams(0.1, 0.3, smoothing=0.8, ridge=1.0)
    found = tune(objective, start, tolerance=1e-6, progress=False)
    assert found.value > best - 1e-3
    nested = nested_by_newton(objective, found, progress=False)
    scores = objective.scores(nested.params, per_fold=True)
    assert np.isfinite(scores).all()
    assert scores.mean() < objective.scores(found.params).mean() + 0.02
