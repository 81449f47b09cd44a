"""Every fit finds the same posterior: MAP as EM, Laplace as the dense Hessian, SVI and NUTS as Laplace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from perler_jax.density import log_density
from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.inference.laplace import fit_laplace, log_likelihood_hessian
from perler_jax.inference.map_em import fit_map_em
from perler_jax.inference.map_fit import fit_map
from perler_jax.inference.nuts import sample_nuts
from perler_jax.inference.posterior import (
    MappingDraws,
    check_sides,
    pointwise_log_likelihood,
    summarise_draws,
)
from perler_jax.inference.priors import (
    ConjugatePriors,
    MappingPriors,
    data_scaled_priors,
    log_prior,
    site_priors,
)
from perler_jax.inference.variational import fit_svi
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles

CELLS, LOCATIONS, METAGENES = 400, 13, 2
NAMES = ("sensitivity", "background", "noise")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(4)
    a, b, sigma = np.array([2.0, 0.7]), np.array([-1.0, 0.4]), np.array([0.5, 0.4])
    r = rng.normal(size=(LOCATIONS, METAGENES))
    x = a * r[rng.integers(LOCATIONS, size=CELLS)] + b + sigma * rng.normal(size=(CELLS, METAGENES))
    with jax.enable_x64(True):
        return jnp.asarray(x), jnp.asarray(r)


@pytest.fixture(scope="module")
def priors(sides):
    """Strong enough to move the mode by more than any tolerance here."""
    with jax.enable_x64(True):
        return data_scaled_priors(*sides, strength=20.0)


@pytest.fixture(scope="module")
def mode(sides, priors):
    with jax.enable_x64(True):
        return fit_map_em(*sides, priors, tolerance=1e-13)


@pytest.fixture(scope="module")
def laplace(sides, priors):
    with jax.enable_x64(True):
        return fit_laplace(*sides, priors, progress=False)


def arrays(params):
    return np.concatenate([np.asarray(getattr(params, name)) for name in NAMES])


def dense_log_posterior(point, x, r, priors):
    """Eq. 10 by the dense formula plus the priors, in a, b and sigma."""
    params = MappingParams(*jnp.split(point, 3))
    difference = x[:, None] - params.sensitivity * r - params.background
    log_p = -0.5 * ((difference / params.noise) ** 2 + jnp.log(2 * jnp.pi * params.noise**2)).sum(axis=-1)
    likelihood = (jax.nn.logsumexp(log_p, axis=1) - jnp.log(len(r))).sum()
    return likelihood + log_prior(params, site_priors(priors, METAGENES, LOCATIONS))


def test_flat_priors_give_em(sides):
    expected = fit_em(*sides, tolerance=1e-13)
    found = fit_map_em(*sides, tolerance=1e-13)
    np.testing.assert_allclose(arrays(found.params), arrays(expected.params), rtol=1e-6)
    np.testing.assert_allclose(found.log_posterior, expected.log_likelihood, rtol=1e-12)


def test_map_em_ends_at_a_mode_and_never_falls(sides, priors, mode):
    assert mode.converged
    assert (np.diff(mode.log_posteriors) > -1e-8).all()
    log_posterior = functools.partial(dense_log_posterior, x=sides[0], r=sides[1], priors=priors)
    value, slope = jax.jit(jax.value_and_grad(log_posterior))(jnp.asarray(arrays(mode.params)))
    np.testing.assert_allclose(mode.log_posterior, value, rtol=1e-12)
    np.testing.assert_allclose(slope, 0.0, atol=0.05)  # nats per unit; the curvature is of hundreds
    flat = fit_map_em(*sides, tolerance=1e-10)
    assert np.abs(arrays(flat.params) - arrays(mode.params)).max() > 0.01, "the priors moved the mode"


def test_lbfgs_agrees_with_map_em(sides, priors, mode):
    found = fit_map(*sides, priors, progress=False)
    assert found.converged
    np.testing.assert_allclose(arrays(found.params), arrays(mode.params), rtol=1e-3)
    np.testing.assert_allclose(found.log_posterior, mode.log_posterior, atol=1e-3)
    assert repr(found).startswith("MapFit(converged in ")


@pytest.mark.parametrize("batch_size", [None, 100], ids=["all cells", "minibatches"])
def test_adam_agrees_with_map_em(sides, priors, mode, laplace, batch_size):
    found = fit_map(*sides, priors, method="adam", batch_size=batch_size, max_steps=400, progress=False)
    away = np.abs(arrays(found.params) - arrays(mode.params)) / arrays(laplace.standard_errors)
    assert away.max() < (0.01 if batch_size is None else 0.4), "in standard errors"


def test_location_weights_are_learned_by_both(sides):
    x, r = sides[0], sides[1][:5]
    priors = ConjugatePriors(location_concentration=4.0)
    by_em = fit_map_em(x, r, priors, tolerance=1e-12)
    by_slope = fit_map(x, r, priors, method="adam", max_steps=600, progress=False)
    np.testing.assert_allclose(arrays(by_slope.params), arrays(by_em.params), rtol=1e-3)
    np.testing.assert_allclose(by_slope.sites["location_weights"], by_em.sites["location_weights"], rtol=1e-3)


def test_laplace_equals_the_dense_hessian(sides, priors, mode, laplace):
    log_posterior = functools.partial(dense_log_posterior, x=sides[0], r=sides[1], priors=priors)
    hessian = jax.jit(jax.hessian(log_posterior))(jnp.asarray(arrays(laplace.params)))
    covariance = np.linalg.inv(-hessian)
    np.testing.assert_allclose(arrays(laplace.params), arrays(mode.params), atol=1e-6)
    expected = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(arrays(laplace.standard_errors), expected, rtol=1e-5)
    np.testing.assert_allclose(laplace.covariance, covariance, atol=1e-5 * expected.max() ** 2)


def test_hessian_streams(sides, mode):
    """Tiles change nothing; at the same point it is the dense Hessian to rounding."""
    x, r = sides
    slope, found = log_likelihood_hessian(mode.params, x, r, tiles=Tiles(90, 5))
    dense = functools.partial(dense_log_posterior, x=x, r=r, priors=None)
    point = jnp.asarray(arrays(mode.params))
    np.testing.assert_allclose(slope, jax.jit(jax.grad(dense))(point), rtol=1e-8, atol=1e-8)
    expected = jax.jit(jax.hessian(dense))(point)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_laplace_draws_have_its_moments(laplace):
    mean, spread = summarise_draws(laplace.draw(jax.random.key(0), 4000))
    errors = arrays(laplace.standard_errors)
    np.testing.assert_allclose(arrays(spread), errors, rtol=0.06)
    assert (np.abs(arrays(mean) - arrays(laplace.params)) / errors).max() < 0.1


@pytest.fixture(scope="module")
def nuts(sides, priors):
    with jax.enable_x64(True):
        return sample_nuts(*sides, priors, n_warmup=60, n_draws=250, n_chains=2, progress=False)


def test_nuts_mixes_and_referees_laplace(nuts, laplace):
    assert nuts.r_hat.max() < 1.02
    assert nuts.effective_draws.min() > 250
    assert nuts.statistics["diverging"].sum() == 0
    errors = arrays(laplace.standard_errors)
    np.testing.assert_allclose(arrays(nuts.standard_errors), errors, rtol=0.15)
    assert (np.abs(arrays(nuts.params) - arrays(laplace.params)) / errors).max() < 0.35
    assert nuts.draws.noise.shape == (2, 250, METAGENES)
    assert repr(nuts).startswith("NutsFit(MappingDraws(2 chains of 250 draws")


@pytest.fixture(scope="module")
def full_rank(sides, priors):
    with jax.enable_x64(True):
        return fit_svi(*sides, priors, n_steps=500, n_draws=2000, progress=False)


def test_full_rank_svi_is_near_laplace(full_rank, laplace):
    errors = arrays(laplace.standard_errors)
    np.testing.assert_allclose(arrays(full_rank.standard_errors), errors, rtol=0.15)
    assert (np.abs(arrays(full_rank.params) - arrays(laplace.params)) / errors).max() < 0.35


@pytest.mark.parametrize(("guide", "batch_size"), [("normal", 200), ("low_rank", None)])
def test_other_guides_find_the_mode(sides, priors, laplace, guide, batch_size):
    found = fit_svi(
        *sides,
        priors,
        guide=guide,
        batch_size=batch_size,
        n_steps=400,
        n_draws=500,
        learning_rate=0.1,
        progress=False,
    )
    errors = arrays(laplace.standard_errors)
    assert (np.abs(arrays(found.params) - arrays(laplace.params)) / errors).max() < 0.8
    ratio = arrays(found.standard_errors) / errors
    assert (ratio > 0.5).all()
    assert (ratio < 1.5).all()


def test_hierarchies_of_ones_own_are_fitted(sides):
    """A common sensitivity as a function: MAP, SVI and NUTS carry its sites along."""

    def common():
        centre = numpyro.sample("common", dist.Normal(1.0, 1.0))
        return jnp.full(METAGENES, 1.0) * centre

    priors = MappingPriors(sensitivity=common)
    found = fit_map(*sides, priors, method="adam", max_steps=200, progress=False)
    np.testing.assert_allclose(found.params.sensitivity, found.sites["common"], rtol=1e-12)
    diagonal = {"preconditioner": "diagonal", "progress": False}
    drawn = sample_nuts(*sides, priors, n_warmup=20, n_draws=30, n_chains=1, **diagonal)
    assert drawn.sites["common"].shape == (30,)
    assert abs(drawn.sites["common"].mean() - found.sites["common"]) < 0.1
    with pytest.raises(PerlerInputError, match="found a function"):
        fit_laplace(*sides, priors)


def test_pointwise_log_likelihood(sides, nuts, mode):
    draws = nuts.draws.thin(6)
    found = pointwise_log_likelihood(draws, *sides)
    assert found.shape == (2, 3, CELLS)
    one = MappingParams(*(getattr(draws, name)[1, 2] for name in NAMES))
    np.testing.assert_allclose(found[1, 2], log_density(one, *sides), rtol=1e-12)
    weights = jnp.log(jnp.stack([jnp.full(LOCATIONS, 1.0), jnp.arange(1.0, LOCATIONS + 1)]))[None]
    learned = MappingDraws(*(getattr(draws, name)[:1, :2] for name in NAMES), weights)
    one = MappingParams(*(getattr(draws, name)[0, 1] for name in NAMES), weights[0, 1])
    np.testing.assert_allclose(
        pointwise_log_likelihood(learned, *sides)[0, 1], log_density(one, *sides), rtol=1e-12
    )


def test_what_cannot_be_used_is_refused_before_any_compilation(sides, monkeypatch):
    x, r = sides

    def compiled(*_, **__):
        raise AssertionError("something was computed")

    for name in (
        "perler_jax.em.run_em",
        "perler_jax.inference.map_em.run_em",
        "perler_jax.inference.posterior.fit_em",
    ):
        monkeypatch.setattr(name, compiled)
    conjugate = data_scaled_priors(x, r)
    cases = [
        (lambda: fit_svi(x, r, guide="flow"), "multivariate_normal"),
        (lambda: fit_svi(x, r, rank=3), "low_rank"),
        (lambda: fit_svi(x, r, batch_size=CELLS + 1), "batch_size"),
        (lambda: fit_map(x, r, method="newton"), "lbfgs, adam"),
        (lambda: fit_map(x, r, batch_size=10), "adam"),
        (lambda: fit_map(x, r, method="adam", batch_size=0), "batch_size"),
        (lambda: check_sides(x, r[:, :1]), "same metagenes"),
        (lambda: fit_map(x, r, start=initial_params(x[:, :1], r[:, :1])), "start with 2 metagenes"),
        (lambda: fit_map(x, r, ConjugatePriors(location_concentration=0.5)), "concentration >= 1"),
        (lambda: fit_map_em(x, r, site_priors(conjugate, METAGENES, LOCATIONS)), "use fit_map"),
        (lambda: sample_nuts(x, r, preconditioner="none"), "laplace, dense, diagonal"),
        (lambda: sample_nuts(x, r, n_chains=0), "n_chains"),
    ]
    for call, message in cases:
        with pytest.raises(PerlerInputError, match=message):
            call()


def test_float32_stays_float32(sides, mode, laplace):
    x, r = (jnp.asarray(each, jnp.float32) for each in sides)
    priors = data_scaled_priors(x, r, strength=20.0)
    with jax.enable_x64(False):
        found = fit_map_em(x, r, priors)
        slope, hessian = log_likelihood_hessian(found.params, x, r)
    assert found.params.noise.dtype == slope.dtype == hessian.dtype == jnp.float32
    away = np.abs(arrays(found.params) - arrays(mode.params)) / arrays(laplace.standard_errors)
    assert away.max() < 0.1, "in standard errors"
