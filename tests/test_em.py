"""EM: every M step is weighted least squares, the likelihood climbs, and known parameters come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.em import fit_em, initial_params, m_step
from perler_jax.em_loop import _still_to_gain, run_em
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.streaming import Tiles
from tests import oracle

CELLS, LOCATIONS, METAGENES = 60, 17, 4
UNIFORM = np.full(LOCATIONS, 1 / LOCATIONS)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def sides():
    """Cells of random origins and their reference, as NumPy arrays."""
    rng = np.random.default_rng(4)
    r = rng.normal(size=(LOCATIONS, METAGENES))
    x = 1.5 * r[rng.integers(LOCATIONS, size=CELLS)] + 0.5 + 0.7 * rng.normal(size=(CELLS, METAGENES))
    return x, r


@pytest.fixture
def params():
    rng = np.random.default_rng(2)
    return MappingParams(
        sensitivity=jnp.asarray(rng.normal(size=METAGENES)),
        background=jnp.asarray(rng.normal(size=METAGENES)),
        noise=jnp.asarray(rng.uniform(0.3, 1.5, METAGENES)),
        log_location_weights=jnp.asarray(np.log(rng.dirichlet(np.ones(LOCATIONS)))),
    )


def arrays(params):
    """a, b, sigma in NumPy."""
    return tuple(np.asarray(each) for each in (params.sensitivity, params.background, params.noise))


def fit(x, r, start=None, tolerance=1e-6, **static):
    """The tolerance is always handed over: one that is left out is a constant of another program."""
    return fit_em(jnp.asarray(x), jnp.asarray(r), start, tolerance=tolerance, **static)


def begin(x, r, log_pi=None):
    """The paper's start with location weights written out, so that most fits here share one program."""
    log_pi = np.log(UNIFORM) if log_pi is None else log_pi
    return jax.jit(initial_params)(jnp.asarray(x), jnp.asarray(r), jnp.asarray(log_pi))


def test_start_has_the_moments_of_the_cells(sides):
    found = arrays(initial_params(*map(jnp.asarray, sides)))
    for each, expected in zip(found, oracle.initial_mapping(*sides), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-12)


def test_m_step_is_weighted_least_squares(sides, params):
    x, r = sides
    gamma = oracle.responsibilities(x, *arrays(params), np.exp(params.log_location_weights), r)
    statistics = expected_statistics(params, jnp.asarray(x), jnp.asarray(r))
    fixed = m_step(statistics, params)
    for each, expected in zip(arrays(fixed), oracle.weighted_least_squares(gamma, x, r), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-9)
    np.testing.assert_array_equal(fixed.log_location_weights, params.log_location_weights)
    learned = m_step(statistics, params, learn_location_weights=True)
    np.testing.assert_allclose(
        np.exp(learned.log_location_weights), oracle.location_weights(gamma), rtol=1e-9
    )


def test_m_step_is_a_maximum_of_the_expected_log_likelihood(sides, params):
    """Eqs. 12-15 maximise Q: no small move of any parameter may raise it."""
    x, r = sides
    gamma = oracle.responsibilities(x, *arrays(params), np.exp(params.log_location_weights), r)
    statistics = expected_statistics(params, jnp.asarray(x), jnp.asarray(r))
    best = m_step(statistics, params, learn_location_weights=True)
    a, b, sigma = arrays(best)
    pi = np.exp(best.log_location_weights)

    def expected(a, b, sigma, pi):
        return (gamma * oracle.log_joint(x, a, b, sigma, pi, r)).sum()

    top = expected(a, b, sigma, pi)
    for factor in (0.99, 1.01):
        assert expected(a * factor, b, sigma, pi) < top
        assert expected(a, b * factor, sigma, pi) < top
        assert expected(a, b, sigma * factor, pi) < top
    tilted = pi * np.linspace(0.99, 1.01, LOCATIONS)
    assert expected(a, b, sigma, tilted / tilted.sum()) < top


@pytest.mark.parametrize("weighted", [False, True], ids=["uniform", "given weights"])
def test_steps_equal_the_loops(sides, params, weighted):
    x, r = sides
    log_pi = params.log_location_weights if weighted else None
    start = begin(x, r, log_pi) if weighted else None
    found = fit(x, r, start, max_steps=5, tolerance=0.0, accelerate=False)
    *expected, history = oracle.em(x, r, np.exp(log_pi) if weighted else UNIFORM, 5)
    for each, loop in zip(arrays(found.params), expected, strict=True):
        np.testing.assert_allclose(each, loop, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.history, history, rtol=1e-10)
    assert int(found.n_steps) == 5
    assert not bool(found.converged)
    assert "NOT converged in 5 steps" in repr(found)


@pytest.mark.parametrize("learn", [False, True], ids=["fixed weights", "learned weights"])
def test_log_likelihood_never_falls(sides, learn):
    found = fit(*sides, begin(*sides), learn_location_weights=learn, tolerance=1e-12)
    gains = np.diff(found.history)
    assert len(gains) > 5
    assert gains.min() > -1e-10 * abs(found.log_likelihood)
    assert gains[0] > 1.0


def test_acceleration_reaches_the_same_optimum_in_fewer_steps(sides):
    plain = fit(*sides, begin(*sides), tolerance=1e-9, accelerate=False)
    fast = fit(*sides, begin(*sides), tolerance=1e-9)
    assert int(fast.n_steps) < 0.6 * int(plain.n_steps)
    np.testing.assert_allclose(fast.log_likelihood, plain.log_likelihood, rtol=1e-7)
    for each, expected in zip(arrays(fast.params), arrays(plain.params), strict=True):
        np.testing.assert_allclose(each, expected, atol=2e-3)


def test_tiles_change_nothing(sides):
    whole, tiled = fit(*sides, begin(*sides)), fit(*sides, begin(*sides), tiles=Tiles(6, 5))
    np.testing.assert_allclose(tiled.history, whole.history, rtol=1e-11)
    np.testing.assert_allclose(tiled.params.noise, whole.params.noise, rtol=1e-9)


def test_history_steps_and_convergence_are_reported(sides):
    done = fit(*sides, begin(*sides))
    assert bool(done.converged)
    assert done.log_likelihoods.shape == (201,)
    assert np.isfinite(done.history).all()
    assert len(done.history) == int(done.n_steps) + 1
    assert np.isnan(np.asarray(done.log_likelihoods)[int(done.n_steps) + 1 :]).all()
    x, r = sides
    last = oracle.log_density(x, *arrays(done.params), UNIFORM, r).sum()
    np.testing.assert_allclose(done.log_likelihood, last, rtol=1e-12)
    assert repr(done) == (
        f"EMResult(converged in {int(done.n_steps)} steps, log-likelihood {done.log_likelihood:.2f})"
    )


@pytest.mark.parametrize(("rule", "tolerance"), [("relative", 1e-4), ("released", 0.01)])
@pytest.mark.parametrize("accelerate", [False, True], ids=["plain", "accelerated"])
def test_stop_rules_stop_at_the_first_small_gain(sides, rule, tolerance, accelerate):
    """Accelerated, the gain is that of two steps together."""
    static = {} if rule == "relative" else {"stop_rule": rule}
    static |= {} if accelerate else {"accelerate": False}
    found = fit(*sides, begin(*sides), tolerance, **static)
    history = found.history
    before = np.concatenate([history[:1], history])[: len(history) - 1] if accelerate else history[:-1]
    small = history[1:] - before < (tolerance * np.abs(history[1:]) if rule == "relative" else tolerance)
    assert bool(found.converged)
    np.testing.assert_array_equal(np.flatnonzero(small), [len(small) - 1])


def test_what_is_still_to_gain_is_the_rest_of_a_geometric_series():
    """Gains 8, 4, 2 leave 1 + 1/2 + ... = 2; a step that gains little by accident promises nothing."""

    def left(gains):
        history = np.cumsum([-100.0, *gains, np.nan, np.nan])
        return float(_still_to_gain(jnp.asarray(history), jnp.asarray(len(gains))))

    np.testing.assert_allclose(left([8.0, 4.0, 2.0]), 2.0, rtol=1e-12)
    np.testing.assert_allclose(left([1000.0, 8.0, 4.0, 2.0]), 2.0, rtol=1e-12)
    assert left([8.0, 4.0]) == np.inf, "two gains show no rate"
    assert left([8.0, 4.0, 0.01]) >= 0.01, "the larger of both rates counts"
    assert left([2.0, 4.0, 3.0]) == np.inf, "gains grow"


def test_a_run_ends_within_the_tolerance_of_its_optimum_sooner_than_by_its_last_gain(sides):
    optimum = fit(*sides, tolerance=1e-14, max_steps=1000)
    loose = fit(*sides, tolerance=1e-5)
    assert bool(loose.converged)
    assert 0 <= optimum.log_likelihood - loose.log_likelihood < 2e-5 * abs(optimum.log_likelihood)


def test_other_steps_can_be_put_in(sides):
    """`run_em` takes any E and M step: with the M step switched off nothing moves and one step converges."""
    x, r = map(jnp.asarray, sides)
    start = initial_params(x, r)
    e_step = functools.partial(expected_statistics, cells=x, reference=r)
    found = run_em(start, e_step, lambda statistics, params: params, tolerance=1e-9, max_steps=7)
    assert int(found.n_steps) == 1
    np.testing.assert_array_equal(found.params.noise, start.noise)
    assert found.history[0] == found.history[1]


@pytest.fixture(scope="module")
def generated():
    """3000 cells from a known mapping, with unequal use of 25 locations."""
    rng = np.random.default_rng(3)
    a, b, sigma = np.array([2.0, 0.7, 1.3]), np.array([-1.0, 0.4, 0.0]), np.array([0.3, 0.5, 0.2])
    r, pi = rng.normal(size=(25, 3)), rng.dirichlet(np.full(25, 5.0))
    origin = rng.choice(25, 3000, p=pi)
    x = a * r[origin] + b + sigma * rng.normal(size=(3000, 3))
    return x, r, (a, b, sigma), np.bincount(origin, minlength=25) / 3000


def test_known_parameters_are_recovered(generated):
    x, r, truth, used = generated
    start = begin(x, r, np.log(used))
    found = fit(x, r, start, tolerance=1e-10)
    for each, expected in zip(arrays(found.params), truth, strict=True):
        np.testing.assert_allclose(each, expected, atol=0.03)  # standard errors are about 0.01


def test_learned_location_weights_are_the_share_of_cells(generated):
    x, r, truth, used = generated
    start = begin(x, r, np.zeros(25))
    found = fit(x, r, start, learn_location_weights=True, tolerance=1e-10, max_steps=500)
    learned = np.exp(found.params.log_location_weights)
    np.testing.assert_allclose(learned.sum(), 1.0, rtol=1e-12)
    assert np.abs(learned - used).sum() < 0.1 < np.abs(1 / 25 - used).sum()
    np.testing.assert_allclose(found.params.sensitivity, truth[0], atol=0.03)


def test_uniform_start_learns_location_weights_too(sides):
    """Without given weights (None is uniform) learning gives what it gives from explicit equal weights."""
    x, r = sides
    explicit = initial_params(jnp.asarray(x), jnp.asarray(r), jnp.full(LOCATIONS, -np.log(LOCATIONS)))
    statistics = expected_statistics(explicit, jnp.asarray(x), jnp.asarray(r))
    expected = m_step(statistics, explicit, learn_location_weights=True).log_location_weights
    implicit = initial_params(jnp.asarray(x), jnp.asarray(r))
    found = m_step(statistics, implicit, learn_location_weights=True).log_location_weights
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    fitted = fit(x, r, learn_location_weights=True)
    assert fitted.params.log_location_weights is not None


@pytest.mark.parametrize("side", ["cells", "locations"])
def test_order_does_not_matter(sides, params, side):
    x, r = sides
    log_pi = params.log_location_weights
    before = fit(x, r, begin(x, r, log_pi))
    if side == "cells":
        x = np.random.default_rng(4).permutation(x)
    else:
        order = np.random.default_rng(4).permutation(LOCATIONS)
        r, log_pi = r[order], log_pi[order]
    after = fit(x, r, begin(x, r, log_pi))
    assert int(after.n_steps) == int(before.n_steps)
    np.testing.assert_allclose(after.history, before.history, rtol=1e-11)
    for each, expected in zip(arrays(after.params), arrays(before.params), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-8, atol=1e-10)


def test_affine_change_of_cells_changes_the_mapping_alike(sides):
    """x' = scale x + shift  has  a' = scale a,  b' = scale b + shift,  sigma' = scale sigma."""
    x, r = sides
    scale, shift = np.array([0.2, 3.0, 50.0, 1.0]), np.array([4.0, -1.0, 0.0, 9.0])
    before = fit(x, r, begin(x, r), stop_rule="released")
    after = fit(scale * x + shift, r, begin(scale * x + shift, r), stop_rule="released")
    a, b, sigma = arrays(before.params)
    assert int(after.n_steps) == int(before.n_steps)
    for each, expected in zip(
        arrays(after.params), (scale * a, scale * b + shift, scale * sigma), strict=True
    ):
        np.testing.assert_allclose(each, expected, rtol=1e-7)
    jacobian = CELLS * np.log(scale).sum()
    np.testing.assert_allclose(after.history, before.history - jacobian, rtol=1e-10)


@pytest.mark.parametrize("level", [0.0, 0.3, -2.0], ids="level {}".format)
@pytest.mark.parametrize("side", ["cells", "reference", "both"])
def test_a_constant_metagene_says_nothing(sides, side, level):
    """The other metagenes are fitted as if it were not there, and its own parameters stay sensible."""
    x, r = (each.copy() for each in sides)
    expected = fit(x[:, :3], r[:, :3], begin(x[:, :3], r[:, :3]), tolerance=1e-13)
    if side in ("cells", "both"):
        x[:, 3] = level
    if side in ("reference", "both"):
        r[:, 3] = level
    found = fit(x, r, begin(x, r), tolerance=1e-13)
    for each, alone in zip(arrays(found.params), arrays(expected.params), strict=True):
        np.testing.assert_allclose(each[:3], alone, rtol=1e-5)
        assert np.abs(each[3]) < 10
    a, b, sigma = (each[3] for each in arrays(found.params))
    np.testing.assert_allclose(a * r[:, 3] + b, x[:, 3].mean(), atol=1e-6)
    assert sigma > 0
    assert np.isfinite(found.history).all()


def test_float32_stays_float32_and_close(sides):
    x, r = sides
    single = fit_em(*(jnp.asarray(each, jnp.float32) for each in sides))
    assert single.params.noise.dtype == single.log_likelihoods.dtype == jnp.float32
    double = fit(x, r, begin(x, r))
    np.testing.assert_allclose(single.log_likelihood, double.log_likelihood, rtol=1e-5)
    for each, expected in zip(arrays(single.params), arrays(double.params), strict=True):
        np.testing.assert_allclose(each, expected, atol=2e-2)


def test_repeated_fits_trace_once(sides):
    """New values, another start and another tolerance of the same shapes run the same program."""
    x, r = sides
    fit(x, r, begin(x, r), tolerance=1e-6)
    before = fit_em._cache_size()
    fit(x + 1, 2 * r, begin(x + 1, 2 * r), tolerance=1e-3)
    assert fit_em._cache_size() == before
