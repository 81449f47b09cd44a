"""Derivatives of a fit: those of the steps that led there, and those of finite differences."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.implicit import fit_implicit, implicit_fixed_point
from perler_jax.inference.map_em import fit_map_em, map_m_step
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, data_scaled_priors
from perler_jax.mixture import expected_statistics
from perler_jax.noise import StudentT
from perler_jax.streaming import Tiles

CELLS, LOCATIONS, METAGENES = 60, 13, 3
NAMES = ("sensitivity", "background", "noise")
DIRECTION = np.random.default_rng(1).normal(size=3 * METAGENES)
OPTIONS = [{"solver": "dense"}, {"solver": "gmres", "tiles": Tiles(17, 5)}]
TIGHT = {"tolerance": 1e-16, "max_steps": 2000}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_inputs(degenerate=None):
    """Cells, reference, priors and a fixed pi; a metagene may be constant on one side, or on both."""
    rng = np.random.default_rng(4)
    r = rng.normal(size=(LOCATIONS, METAGENES))
    a, b, noise = np.array([2.0, 0.7, 0.5]), np.array([-1.0, 0.4, 0.1]), np.array([0.5, 0.4, 0.6])
    x = a * r[rng.integers(LOCATIONS, size=CELLS)] + b + noise * rng.normal(size=(CELLS, METAGENES))
    if degenerate in ("reference", "both"):
        r[:, 1] = 0.0
    if degenerate in ("cells", "both"):
        x[:, 1] = 0.0
    x, r = jnp.asarray(x), jnp.asarray(r)
    weights = rng.dirichlet(np.full(LOCATIONS, 5.0))
    return x, r, data_scaled_priors(x, r, strength=20.0), jnp.log(jnp.asarray(weights))


def along(params):
    """One number that depends on every parameter."""
    return jnp.asarray(DIRECTION) @ jnp.concatenate([getattr(params, name) for name in NAMES])


def implicit(x, r, priors, log_weights, start, solver="dense", tiles=None):
    start = dataclasses.replace(start, log_location_weights=log_weights)
    return along(fit_implicit(x, r, priors, start, solver=solver, tiles=tiles, **TIGHT))


def unrolled(x, r, priors, log_weights, start, n_steps=300):
    """Every step of plain EM, differentiated."""
    start = dataclasses.replace(start, log_location_weights=log_weights)

    def step(params, _):
        return map_m_step(expected_statistics(params, x, r), params, priors), None

    return along(jax.lax.scan(step, start, None, length=n_steps)[0])


# In cells, reference, priors and pi; the start is given.
by_theorem = jax.jit(jax.grad(implicit, argnums=(0, 1, 2, 3)), static_argnames=("solver", "tiles"))
by_steps = jax.jit(jax.grad(unrolled, argnums=(0, 1, 2, 3)))


def assert_trees_close(found, expected, rtol):
    """To a fraction of the largest derivative in each input."""
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=rtol * np.abs(other).max(), rtol=0)


@pytest.fixture(scope="module")
def inputs():
    with jax.enable_x64(True):
        return make_inputs()


@pytest.mark.parametrize(
    "options", [{"solver": "dense"}, {"solver": "gmres", "tiles": Tiles(17, 5)}], ids=str
)
def test_every_derivative_is_that_of_unrolled_em(inputs, options):
    """Cells, reference, both numbers of all three priors, fixed location weights; tiles change nothing."""
    start = initial_params(*inputs[:2])
    found, expected = by_theorem(*inputs, start, **options), by_steps(*inputs, start)
    assert_trees_close(found, expected, 1e-6)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(found)), "none vanishes by itself"


def test_forward_derivatives_equal_finite_differences_of_whole_fits(inputs):
    """Along a random direction of all inputs together."""
    start, rng = initial_params(*inputs[:2]), np.random.default_rng(2)
    towards = jax.tree.map(lambda leaf: jnp.asarray(0.1 * rng.normal(size=jnp.shape(leaf))), inputs)
    along_towards = jax.jit(lambda given: jax.jvp(lambda *at: implicit(*at, start), given, towards))

    def at(step):
        return along_towards(jax.tree.map(lambda leaf, way: leaf + step * way, inputs, towards))

    # EM ends where the log-likelihood resolves no gain, and its parameters are certain to 1e-8 only.
    (_, slope), (ahead, _), (behind, _) = at(0.0), at(1e-3), at(-1e-3)
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-3, rtol=1e-4)


def test_the_value_is_the_fit_itself(inputs):
    x, r, priors, log_weights = inputs
    start = dataclasses.replace(initial_params(x, r), log_location_weights=log_weights)
    found = fit_implicit(x, r, priors, start, **TIGHT)
    fitted = fit_map_em(x, r, priors, start, tolerance=1e-14).params
    flat, plain = fit_implicit(x, r, **TIGHT), fit_em(x, r, tolerance=1e-14, max_steps=2000).params
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(fitted, name), rtol=1e-6)
        np.testing.assert_allclose(getattr(flat, name), getattr(plain, name), rtol=1e-6)


@pytest.mark.parametrize("side", ["cells", "reference", "both"])
def test_a_metagene_that_says_nothing_stays_and_the_rest_is_as_unrolled(side):
    """As a landmark held out under reduction "none": constant on both sides. The system is singular there."""
    inputs = make_inputs(side)
    start = initial_params(*inputs[:2])
    expected = by_steps(*inputs, start)
    for options in OPTIONS:
        assert_trees_close(by_theorem(*inputs, start, **options), expected, 1e-6)
    params = fit_implicit(*inputs[:2], **TIGHT)
    assert params.sensitivity[1] == start.sensitivity[1]


def test_heavy_tails_foreign_cells_and_evidence_are_differentiated_like_the_rest(inputs):
    x, r, _, _ = inputs
    rng = np.random.default_rng(3)
    evidence = CellEvidence(*(jnp.asarray(rng.normal(size=(n, 2))) for n in (CELLS, LOCATIONS)))
    start = fit_em(x, r, initial_params(x, r, noise_family=StudentT(4.0), foreign_share=0.1)).params

    def value(params):
        return along(params) + params.foreign.share

    def steps(x, evidence):
        def step(params, _):
            statistics = expected_statistics(params, x, r, evidence=evidence)
            return map_m_step(statistics, params, ConjugatePriors()), None

        return value(jax.lax.scan(step, start, None, length=400)[0])

    def theorem(x, evidence):
        return value(fit_implicit(x, r, start=start, evidence=evidence, **TIGHT))

    found, expected = (jax.jit(jax.grad(each, argnums=(0, 1)))(x, evidence) for each in (theorem, steps))
    assert_trees_close(found, expected, 1e-6)


def test_learned_location_weights_are_unknowns_too(inputs):
    x, r, _, _ = inputs
    uniform = jnp.full(LOCATIONS, -jnp.log(LOCATIONS))
    start = dataclasses.replace(initial_params(x, r), log_location_weights=uniform)

    def steps(priors):
        def step(params, _):
            return map_m_step(expected_statistics(params, x, r), params, priors), None

        return jax.lax.scan(step, start, None, length=600)[0]

    def slope(fit):
        def value(concentration):
            params = fit(ConjugatePriors(location_concentration=concentration))
            return along(params) + jnp.arange(LOCATIONS) @ params.log_location_weights

        return jax.jit(jax.grad(value))(jnp.linspace(2.0, 4.0, LOCATIONS))

    assert_trees_close(slope(lambda priors: fit_implicit(x, r, priors, **TIGHT)), slope(steps), 1e-5)


def test_any_map_has_an_implicit_derivative():
    """cos has the fixed point 0.739; of cos(k z) it moves as -z sin(kz) / (1 + k sin(kz))."""

    z = 0.5
    for _ in range(200):
        z = math.cos(z)

    def fixed(k):
        return implicit_fixed_point(lambda tree: {"z": jnp.cos(k * tree["z"])}, {"z": jnp.asarray(z)})["z"]

    assert float(fixed(1.0)) == z
    slope = -z * math.sin(z) / (1 + math.sin(z))
    assert float(jax.grad(fixed)(1.0)) == pytest.approx(slope, rel=1e-10)


def test_what_cannot_be_differentiated_is_refused(inputs):
    x, r, _, _ = inputs
    with pytest.raises(PerlerInputError, match="expected ConjugatePriors"):
        fit_implicit(x, r, MappingPriors())
    with pytest.raises(PerlerInputError, match="concentration >= 1"):
        fit_implicit(x, r, ConjugatePriors(location_concentration=0.5))
