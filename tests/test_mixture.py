"""The kernel, its gradient and the statistics against the loops of the oracle."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.density import log_density, responsibilities
from perler_jax.mixture import (
    MappingParams,
    expected_statistics,
    map_locations,
    posterior_moments,
    score,
)
from perler_jax.tiles import _CPU_ELEMENTS, Tiles, choose_tiles
from tests import oracle

CELLS, LOCATIONS, METAGENES = 23, 17, 4


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def problem():
    rng = np.random.default_rng(1)
    x, r = rng.normal(size=(CELLS, METAGENES)), rng.normal(size=(LOCATIONS, METAGENES))
    pi = rng.dirichlet(np.ones(LOCATIONS))
    params = MappingParams(
        sensitivity=jnp.asarray(rng.normal(size=METAGENES)),
        background=jnp.asarray(rng.normal(size=METAGENES)),
        noise=jnp.asarray(rng.uniform(0.3, 1.5, METAGENES)),
        log_location_weights=jnp.asarray(np.log(pi)),
    )
    loops = (np.asarray(params.sensitivity), np.asarray(params.background), np.asarray(params.noise), pi, r)
    return params, jnp.asarray(x), jnp.asarray(r), (x, *loops)


def dense_log_density(params, x, r):
    """Eq. 8 by the dense formula, for automatic differentiation."""
    difference = x[:, None] - map_locations(params, r)
    log_p = -0.5 * ((difference / params.noise) ** 2 + jnp.log(2 * jnp.pi * params.noise**2)).sum(axis=-1)
    return jax.nn.logsumexp(log_p + jax.nn.log_softmax(params.log_location_weights), axis=1)


def test_statistics_equal_the_loops(problem):
    params, x, r, loops = problem
    found = expected_statistics(params, x, r)
    gamma = oracle.responsibilities(*loops)
    phi, chi, psi, omega = oracle.statistics(gamma, loops[0], loops[-1])
    np.testing.assert_allclose(found.cells, phi, rtol=1e-10)
    np.testing.assert_allclose(found.locations, chi, rtol=1e-10)
    np.testing.assert_allclose(found.cross, psi, rtol=1e-10)
    np.testing.assert_allclose(found.locations_squared, omega, rtol=1e-10)
    np.testing.assert_allclose(found.location_mass, gamma.sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.log_likelihood, oracle.log_density(*loops).sum(), rtol=1e-12)
    np.testing.assert_allclose(responsibilities(params, x, r), gamma, rtol=1e-9)


def test_uniform_location_weights_are_the_default(problem):
    params, x, r, loops = problem
    uniform = MappingParams(params.sensitivity, params.background, params.noise)
    expected = oracle.log_density(*loops[:4], np.full(LOCATIONS, 1 / LOCATIONS), loops[-1])
    np.testing.assert_allclose(log_density(uniform, x, r), expected, rtol=1e-12)


def test_location_weights_need_not_be_normalised(problem):
    params, x, r, loops = problem
    shifted = MappingParams(
        params.sensitivity, params.background, params.noise, params.log_location_weights + 7.0
    )
    np.testing.assert_allclose(log_density(shifted, x, r), oracle.log_density(*loops), rtol=1e-12)


@pytest.mark.parametrize("tiles", list(itertools.product([1, 8, 40], [4, 9, 17])))
def test_tiles_change_nothing(problem, tiles):
    params, x, r, _ = problem
    weights = jnp.linspace(-1.0, 2.0, CELLS)
    whole = expected_statistics(params, x, r, weights, tiles=Tiles(CELLS, LOCATIONS))
    tiled = expected_statistics(params, x, r, weights, tiles=Tiles(*tiles))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), whole, tiled)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_may_be_constants_of_a_jitted_function(dtype):
    """As in `jax.jit(lambda p: log_density(p, x, r))`, and in NUTS: jaxlib 0.10.2 gets it wrong."""
    rng = np.random.default_rng(0)
    x, r, of_params = (jnp.asarray(rng.normal(size=(n, 12)), dtype) for n in (300, 600, 3))
    params = MappingParams(of_params[0], of_params[1], jnp.exp(of_params[2] / 4))
    constant = jax.jit(lambda p: log_density(p, x, r))(params)
    argument = jax.jit(log_density)(params, x, r)
    np.testing.assert_allclose(constant, argument, rtol=1e-4)


def test_tiles_change_no_gradient(problem):
    params, x, r, _ = problem
    for tiles in (Tiles(5, 4), Tiles(23, 9)):
        whole = jax.grad(lambda p: log_density(p, x, r).sum())(params)
        tiled = jax.grad(lambda p, t: log_density(p, x, r, None, t).sum())(params, tiles)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), whole, tiled)


def test_gradient_equals_autodiff_of_the_dense_formula(problem):
    params, x, r, _ = problem
    cotangent = jnp.linspace(-1.0, 2.0, CELLS)
    fast = jax.grad(lambda *args: cotangent @ log_density(*args), argnums=(0, 1, 2))(params, x, r)
    dense = jax.grad(lambda *args: cotangent @ dense_log_density(*args), argnums=(0, 1, 2))(params, x, r)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), fast, dense)


def test_gradient_equals_finite_differences(problem):
    params, x, r, _ = problem
    gradient = score(params, expected_statistics(params, x, r))
    step = 1e-6
    for name in ("sensitivity", "background", "noise", "log_location_weights"):
        for i in range(2):
            ends = []
            for sign in (1, -1):
                leaves = {f: getattr(params, f) for f in ("sensitivity", "background", "noise")}
                leaves["log_location_weights"] = params.log_location_weights
                leaves[name] = leaves[name].at[i].add(sign * step)
                ends.append(float(expected_statistics(MappingParams(**leaves), x, r).log_likelihood))
            difference = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(getattr(gradient, name)[i], difference, rtol=1e-5, atol=1e-6)


def test_second_derivatives_stream_too(problem):
    params, x, r, _ = problem
    fast = jax.jacrev(jax.grad(lambda a: log_density(_with(params, a), x, r, None, Tiles(5, 4)).sum()))
    dense = jax.hessian(lambda a: dense_log_density(_with(params, a), x, r).sum())
    np.testing.assert_allclose(fast(params.sensitivity), dense(params.sensitivity), rtol=1e-7, atol=1e-8)


def _with(params, sensitivity):
    return MappingParams(sensitivity, params.background, params.noise, params.log_location_weights)


def test_far_cells_keep_their_nearest_location(problem):
    """The released program clamps densities at 1e-300, and a far cell becomes uniform; here it does not."""
    params, x, r, _ = problem
    gamma = responsibilities(params, x + 1e3, r)
    assert np.all(np.asarray(gamma).max(axis=1) > 0.999)
    assert np.isfinite(log_density(params, x + 1e3, r)).all()


def test_impossible_locations_take_no_cell(problem):
    params, x, r, _ = problem
    log_pi = params.log_location_weights.at[3].set(-jnp.inf)
    only = MappingParams(params.sensitivity, params.background, params.noise, log_pi)
    for tiles in (None, Tiles(7, 3)):  # with three a tile, one tile begins with the impossible location
        found = expected_statistics(only, x, r, tiles=tiles)
        assert found.location_mass[3] == 0
        np.testing.assert_allclose(found.location_mass.sum(), CELLS, rtol=1e-12)


def test_expected_position_of_cells(problem):
    params, x, r, loops = problem
    coordinates = np.random.default_rng(2).normal(size=(LOCATIONS, 3))
    found = posterior_moments(params, x, r, location_values=jnp.asarray(coordinates), tiles=Tiles(6, 5))
    np.testing.assert_allclose(found.of_cells, oracle.responsibilities(*loops) @ coordinates, rtol=1e-9)


def test_permutations_permute(problem):
    params, x, r, _ = problem
    rng = np.random.default_rng(3)
    cells, locations = rng.permutation(CELLS), rng.permutation(LOCATIONS)
    moved = MappingParams(
        params.sensitivity, params.background, params.noise, params.log_location_weights[locations]
    )
    before = responsibilities(params, x, r)
    after = responsibilities(moved, x[cells], r[locations])
    np.testing.assert_allclose(after, before[cells][:, locations], rtol=1e-9)


def test_float32_stays_float32_and_close(problem):
    params, x, r, loops = problem
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, x, r))
    found = log_density(*single)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, oracle.log_density(*loops), rtol=2e-5)


def test_chosen_tiles_are_even_and_bounded():
    for cells, locations in ((1297, 3039), (200_000, 50_000), (3, 9), (194_027, 1549)):
        tiles = choose_tiles(cells, locations)
        assert tiles.cells * tiles.locations <= max(_CPU_ELEMENTS, 128 * tiles.locations)
        assert tiles.cells == cells or tiles.cells % 16 == 0, "whole registers"
        for n, tile, unit in ((cells, tiles.cells, 16), (locations, tiles.locations, 1)):
            padding = -n % tile
            assert 1 <= tile <= n
            assert padding < unit * -(-n // tile), "tiles split the axis evenly"


def test_repeated_calls_trace_once(problem):
    params, x, r, _ = problem
    expected_statistics(params, x, r)
    before = expected_statistics._cache_size()
    expected_statistics(params, x + 1, r)
    assert expected_statistics._cache_size() == before
