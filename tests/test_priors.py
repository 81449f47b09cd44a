"""Priors: what is improper is refused, densities equal SciPy's, the M step is the maximum it claims to be."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.optimize import minimize

from perler_jax.em import m_step
from perler_jax.errors import PerlerInputError
from perler_jax.inference.map_em import map_m_step
from perler_jax.inference.priors import (
    ConjugatePriors,
    MappingPriors,
    data_scaled_priors,
    log_prior,
    site_priors,
)
from perler_jax.mixture import MappingParams, expected_statistics
from tests import oracle

CELLS, LOCATIONS, METAGENES = 31, 9, 3


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def sides():
    rng = np.random.default_rng(5)
    r = rng.normal(size=(LOCATIONS, METAGENES))
    x = 1.5 * r[rng.integers(LOCATIONS, size=CELLS)] + 0.5 + 0.7 * rng.normal(size=(CELLS, METAGENES))
    return jnp.asarray(x), jnp.asarray(r)


@pytest.fixture
def params():
    rng = np.random.default_rng(6)
    return MappingParams(
        sensitivity=jnp.asarray(rng.normal(size=METAGENES)),
        background=jnp.asarray(rng.normal(size=METAGENES)),
        noise=jnp.asarray(rng.uniform(0.3, 1.5, METAGENES)),
        log_location_weights=jnp.asarray(np.log(rng.dirichlet(np.ones(LOCATIONS)))),
    )


PRIORS = ConjugatePriors(
    sensitivity=(np.array([1.0, -2.0, 0.5]), 0.3),
    background=(0.2, np.array([0.1, 1.0, 4.0])),
    noise_variance=(3.0, 0.4),
    location_concentration=2.5,
)


@pytest.mark.parametrize(
    "given",
    [
        {"sensitivity": (0.0, 0.0)},
        {"sensitivity": (0.0, np.inf)},
        {"sensitivity": (np.nan, 1.0)},
        {"sensitivity": 3.0},
        {"background": (0.0, np.array([1.0, -1.0]))},
        {"noise_variance": (0.0, 1.0)},
        {"noise_variance": (1.0, 0.0)},
        {"location_concentration": 0.0},
        {"location_concentration": np.nan},
    ],
    ids=str,
)
def test_improper_priors_are_refused(given):
    with pytest.raises(PerlerInputError, match=r"expected .* found|expected a finite mean"):
        ConjugatePriors(**given)


def test_priors_of_another_shape_are_refused():
    for wrong in (
        ConjugatePriors(sensitivity=(np.zeros(2), 1.0)),
        ConjugatePriors(location_concentration=np.ones(4)),
        MappingPriors(noise=dist.HalfNormal(jnp.ones(2))),
        MappingPriors(location_weights=dist.Dirichlet(jnp.ones(4))),
    ):
        with pytest.raises(PerlerInputError, match=r"expected .* found shape|over .* found"):
            site_priors(wrong, METAGENES, LOCATIONS)
    with pytest.raises(PerlerInputError, match="distribution or a function, found float"):
        site_priors(MappingPriors(noise=1.0), METAGENES, LOCATIONS)


def test_a_scalar_prior_holds_for_every_metagene():
    found = site_priors(MappingPriors(noise=dist.HalfNormal(1.0)), METAGENES, LOCATIONS)
    assert found.noise.batch_shape == ()
    assert found.noise.event_shape == (METAGENES,)


def test_log_prior_equals_scipy(params):
    found = log_prior(params, site_priors(PRIORS, METAGENES, LOCATIONS))
    a, b, sigma = (np.asarray(each) for each in (params.sensitivity, params.background, params.noise))
    variance = stats.invgamma(3.0, scale=0.4).logpdf(sigma**2) + np.log(2 * sigma)  # as density of sigma
    expected = (
        stats.norm(PRIORS.sensitivity[0], 0.3).logpdf(a).sum()
        + stats.norm(0.2, PRIORS.background[1]).logpdf(b).sum()
        + variance.sum()
        + stats.dirichlet(np.full(LOCATIONS, 2.5)).logpdf(np.exp(params.log_location_weights))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_flat_priors_have_no_density(params):
    assert log_prior(params, site_priors(None, METAGENES, LOCATIONS)) == 0.0
    mixed = MappingPriors(sensitivity=lambda: jnp.ones(METAGENES))
    with pytest.raises(PerlerInputError, match="found a function"):
        log_prior(params, site_priors(mixed, METAGENES, LOCATIONS))


def test_flat_m_step_is_that_of_em(sides, params):
    statistics = expected_statistics(params, *sides)
    found = map_m_step(statistics, params, ConjugatePriors(location_concentration=1.0))
    expected = m_step(statistics, params, learn_location_weights=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, expected)


def test_m_step_maximises_the_expected_log_posterior(sides, params):
    """a and b at the old noise, then the noise at the new a and b, then pi: each by a general optimiser."""
    x, r = (np.asarray(each) for each in sides)
    old = tuple(np.asarray(each) for each in (params.sensitivity, params.background, params.noise))
    gamma = oracle.responsibilities(x, *old, np.exp(params.log_location_weights), r)
    found = map_m_step(expected_statistics(params, *sides), params, PRIORS)
    for i in range(METAGENES):
        a_mean, b_sd = PRIORS.sensitivity[0][i], PRIORS.background[1][i]

        def loss(a, b, sigma, i=i, a_mean=a_mean, b_sd=b_sd):
            residual = x[:, None, i] - a * r[:, i] - b
            complete = (gamma * stats.norm(0, sigma).logpdf(residual)).sum()
            prior = stats.norm(a_mean, 0.3).logpdf(a) + stats.norm(0.2, b_sd).logpdf(b)
            noise = stats.invgamma(3.0, scale=0.4).logpdf(sigma**2) + np.log(2 * sigma)
            return -(complete + prior + noise)

        line = minimize(lambda p: loss(*p, old[2][i]), [1.0, 0.0], tol=1e-12).x  # noqa: B023
        np.testing.assert_allclose([found.sensitivity[i], found.background[i]], line, rtol=1e-5, atol=1e-6)
        noise = minimize(lambda p: loss(*line, np.exp(p[0])), [0.0], tol=1e-12).x  # noqa: B023
        np.testing.assert_allclose(found.noise[i], np.exp(noise[0]), rtol=1e-5)
    mass = gamma.sum(axis=0) + 1.5
    np.testing.assert_allclose(np.exp(found.log_location_weights), mass / mass.sum(), rtol=1e-9)


def test_strong_priors_win_and_weak_ones_do_not(sides, params):
    statistics = expected_statistics(params, *sides)
    strong = map_m_step(statistics, params, ConjugatePriors(sensitivity=(7.0, 1e-6), background=(-3.0, 1e-6)))
    np.testing.assert_allclose(strong.sensitivity, 7.0, rtol=1e-6)
    np.testing.assert_allclose(strong.background, -3.0, rtol=1e-6)
    weak = map_m_step(statistics, params, ConjugatePriors(sensitivity=(7.0, 1e6), background=(-3.0, 1e6)))
    np.testing.assert_allclose(weak.sensitivity, m_step(statistics, params).sensitivity, rtol=1e-6)


def test_data_scaled_priors_are_weak_and_follow_the_scale(sides):
    x, r = sides
    one, two = data_scaled_priors(x, r), data_scaled_priors(100.0 * x, r)
    for first, second, factor in (
        (one.sensitivity, two.sensitivity, 100.0),
        (one.background, two.background, 100.0),
        (one.noise_variance[1:], two.noise_variance[1:], 1e4),
    ):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(factor * a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.sensitivity[0] * r.std(axis=0), x.std(axis=0), rtol=1e-12)
    with pytest.raises(PerlerInputError, match="strength > 0"):
        data_scaled_priors(x, r, strength=0.0)
