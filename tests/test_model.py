"""The NumPyro model: its density is the kernel's and that of NumPyro's mixture; handlers and simulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import Predictive
from numpyro.infer.util import log_density as site_log_density

from perler_jax.density import log_density
from perler_jax.errors import PerlerInputError
from perler_jax.inference.model import (
    MappedCells,
    mapping_model,
    params_from_sites,
    sites_from_params,
)
from perler_jax.inference.priors import (
    ConjugatePriors,
    MappingPriors,
    data_scaled_priors,
    log_prior,
    site_priors,
)
from perler_jax.mixture import MappingParams, expected_statistics

CELLS, LOCATIONS, METAGENES = 23, 11, 3


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def problem():
    rng = np.random.default_rng(1)
    x, r = rng.normal(size=(CELLS, METAGENES)), rng.normal(size=(LOCATIONS, METAGENES))
    params = MappingParams(
        sensitivity=jnp.asarray(rng.normal(size=METAGENES)),
        background=jnp.asarray(rng.normal(size=METAGENES)),
        noise=jnp.asarray(rng.uniform(0.3, 1.5, METAGENES)),
        log_location_weights=jnp.asarray(np.log(rng.dirichlet(np.ones(LOCATIONS)))),
    )
    return params, jnp.asarray(x), jnp.asarray(r)


PRIORS = ConjugatePriors(
    sensitivity=(1.0, 0.5), background=(0.0, 1.0), noise_variance=(4.0, 2.0), location_concentration=3.0
)


def numpyro_mixture(params, r):
    """NumPyro's own mixture of diagonal normals, dense in cells x locations x metagenes."""
    components = dist.Normal(params.sensitivity * r + params.background, params.noise).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(logits=params.log_location_weights), components)


def test_log_prob_is_the_kernel_and_numpyros_mixture(problem):
    params, x, r = problem
    found = MappedCells(params, r).log_prob(x)
    expected = jax.jit(lambda params: numpyro_mixture(params, r).log_prob(x))(params)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(), expected_statistics(params, x, r).log_likelihood, rtol=1e-12)
    batched = MappedCells(params, r).log_prob(x[:20].reshape(4, 5, METAGENES))
    np.testing.assert_allclose(batched.reshape(-1), found[:20], rtol=1e-12)
    assert MappedCells(params, r).log_prob(x[0]).shape == ()


def shapes_in(jaxpr):
    """Every shape of every value in a program, inner programs included."""
    for equation in jaxpr.eqns:
        for value in (*equation.invars, *equation.outvars):
            yield getattr(value.aval, "shape", ())
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from shapes_in(inner)


def test_gradient_of_the_log_posterior_holds_no_cells_by_locations():
    cells, locations, metagenes = 5000, 3000, 4
    x, r = jnp.zeros((cells, metagenes)), jnp.zeros((locations, metagenes))
    sites = {name: jnp.ones(metagenes) for name in ("sensitivity", "background", "noise")}
    sites["location_weights"] = jnp.full(locations, 1 / locations)

    def log_posterior(sites):
        return site_log_density(mapping_model, (x, r, PRIORS), {}, sites)[0]

    program = jax.make_jaxpr(jax.grad(log_posterior))(sites)
    sizes = [int(np.prod(shape)) for shape in shapes_in(program.jaxpr)]
    assert max(sizes) < 1_500_000 < cells * locations, "one tile at most"
    assert max(sizes) > cells * metagenes, "the walk through the program found the tiles"


def test_joint_density_is_prior_plus_likelihood(problem):
    params, x, r = problem
    sites = sites_from_params(params, location_weights=True)
    found, trace = site_log_density(mapping_model, (x, r, PRIORS), {}, sites)
    expected = log_prior(params, site_priors(PRIORS, METAGENES, LOCATIONS)) + log_density(params, x, r).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert set(trace) == {"sensitivity", "background", "noise", "location_weights", "cell", "cells"}


def test_fixed_location_weights_are_no_site(problem):
    params, x, r = problem
    sites = sites_from_params(params)
    found, trace = site_log_density(mapping_model, (x, r, None, params.log_location_weights), {}, sites)
    assert "location_weights" not in trace
    np.testing.assert_allclose(found, log_density(params, x, r).sum(), rtol=1e-12)
    uniform, _ = site_log_density(mapping_model, (x, r), {}, sites)
    np.testing.assert_allclose(uniform, log_density(params_from_sites(sites), x, r).sum(), rtol=1e-12)


def test_handlers(problem):
    params, x, r = problem
    model = handlers.seed(mapping_model, 0)
    trace = handlers.trace(model).get_trace(x, r, PRIORS)
    assert trace["cells"]["is_observed"]
    assert trace["cells"]["fn"].log_prob(x).shape == (CELLS,)
    fixed = handlers.substitute(model, data={"noise": params.noise})
    assert handlers.trace(fixed).get_trace(x, r, PRIORS)["noise"]["value"] is params.noise
    given = handlers.condition(model, data={"sensitivity": params.sensitivity})
    assert handlers.trace(given).get_trace(x, r, PRIORS)["sensitivity"]["is_observed"]


def test_model_runs_under_jit(problem):
    params, x, r = problem
    sites = sites_from_params(params)

    def log_posterior(sites, x):
        return site_log_density(mapping_model, (x, r), {}, sites)[0]

    np.testing.assert_allclose(jax.jit(log_posterior)(sites, x), log_posterior(sites, x), rtol=1e-12)


def test_minibatch_density_is_unbiased(problem):
    """Over many batches the scaled likelihood averages to the whole one."""
    params, x, r = problem
    sites, arguments = sites_from_params(params), (x, r, None, params.log_location_weights)

    @jax.jit
    def of_batch(key):
        model = handlers.seed(mapping_model, key)
        return site_log_density(model, arguments, {"subsample_size": 5}, sites)[0]

    found = jax.vmap(of_batch)(jax.random.split(jax.random.key(0), 4000))
    whole = log_density(params, x, r).sum()
    assert found.std() > 1.0, "batches differ"
    assert abs(found.mean() - whole) < 4 * found.std() / np.sqrt(len(found))


def test_simulated_cells_have_origins_and_the_right_moments(problem):
    params, _, r = problem
    sites = sites_from_params(params)
    simulate = functools.partial(Predictive(mapping_model, sites, batch_ndims=0), n_cells=20_000)
    found = jax.jit(lambda key: simulate(key, None, r, None, params.log_location_weights))(jax.random.key(1))
    origin, cells = (np.asarray(found[name]) for name in ("origin", "cells"))
    sample = jax.jit(lambda key: MappedCells(params, r).sample_with_origin(key, (20_000,)))
    direct, direct_origin = sample(jax.random.key(2))
    for x, k in ((cells, origin), (np.asarray(direct), np.asarray(direct_origin))):
        share = np.bincount(k, minlength=LOCATIONS) / len(k)
        np.testing.assert_allclose(share, np.exp(params.log_location_weights), atol=0.02)
        residual = (x - params.sensitivity * r[k] - params.background) / params.noise
        np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=0.03)
        np.testing.assert_allclose(residual.std(axis=0), 1.0, atol=0.03)


def test_prior_and_posterior_predictive(problem):
    _, x, r = problem
    of_prior = functools.partial(Predictive(mapping_model, num_samples=7), n_cells=5)
    prior = jax.jit(lambda key: of_prior(key, None, r, PRIORS))(jax.random.key(0))
    assert prior["cells"].shape == (7, 5, METAGENES)
    assert prior["origin"].shape == (7, 5)
    assert (prior["noise"] > 0).all()
    posterior = {name: prior[name] for name in ("sensitivity", "background", "noise", "location_weights")}
    posterior["noise"] = jnp.full_like(posterior["noise"], 1e-6)
    of_posterior = functools.partial(Predictive(mapping_model, posterior), n_cells=5)
    found = jax.jit(lambda key: of_posterior(key, None, r, PRIORS))(jax.random.key(1))
    mapped = posterior["sensitivity"][:, None] * r[found["origin"]] + posterior["background"][:, None]
    np.testing.assert_allclose(found["cells"], mapped, atol=1e-4)
    with pytest.raises(PerlerInputError, match="n_cells"):
        Predictive(mapping_model, num_samples=1)(jax.random.key(0), None, r, data_scaled_priors(x, r))


def test_a_prior_of_ones_own_is_a_function(problem):
    """Partial pooling of the sensitivity over metagenes, in five lines."""
    params, x, r = problem

    def pooled():
        centre = numpyro.sample("common", dist.Normal(1.0, 1.0))
        spread = numpyro.sample("spread", dist.HalfNormal(1.0))
        with numpyro.plate("metagene", METAGENES):
            return numpyro.sample("own", dist.Normal(centre, spread))

    priors = MappingPriors(sensitivity=pooled)
    latent = {"common": 0.3, "spread": 0.5, "own": params.sensitivity}
    sites = latent | {"background": params.background, "noise": params.noise}
    found, trace = site_log_density(mapping_model, (x, r, priors), {}, sites)
    hierarchy = dist.Normal(1.0, 1.0).log_prob(0.3) + dist.HalfNormal(1.0).log_prob(0.5)
    hierarchy += dist.Normal(0.3, 0.5).log_prob(params.sensitivity).sum()
    uniform = MappingParams(params.sensitivity, params.background, params.noise)
    np.testing.assert_allclose(found, hierarchy + log_density(uniform, x, r).sum(), rtol=1e-12)
    np.testing.assert_array_equal(trace["sensitivity"]["value"], params.sensitivity)


def test_float32_stays_float32(problem):
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem)
    found = jax.jit(jax.value_and_grad(lambda p: MappedCells(p, single[2]).log_prob(single[1]).sum()))(
        single[0]
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
