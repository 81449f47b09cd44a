"""Weights: each distance and every weighted mean against the loops, and exact slopes in alpha and beta."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.density import responsibilities
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles
from perler_jax.weights import WeightParams, distance_space, mahalanobis, weight_moments, weighted_means
from tests import oracle

CELLS, LOCATIONS, METAGENES, VALUES = 19, 13, 3, 5
POINTS = [(0.5, 0.0), (0.0, 1.3), (0.11, 0.31)]
RNG = np.random.default_rng(0)
X, R = RNG.normal(size=(CELLS, METAGENES)), RNG.normal(size=(LOCATIONS, METAGENES))
Y = RNG.normal(size=(CELLS, VALUES))
A, B, SIGMA = RNG.normal(size=METAGENES), RNG.normal(size=METAGENES), RNG.uniform(0.4, 1.5, METAGENES)
MU = A * R + B
PI = RNG.dirichlet(np.ones(LOCATIONS))
UNIFORM = np.full(LOCATIONS, 1 / LOCATIONS)
GIVEN = np.cov(RNG.normal(size=(METAGENES, 20)))
COVARIANCES = {
    "fitted": np.diag(SIGMA**2),
    "pooled": np.cov(np.concatenate([MU, X]), rowvar=False),
    "given": GIVEN,
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def model():
    """Parameters, cells and reference on the device, in float64."""
    params = MappingParams(*(jnp.asarray(each) for each in (A, B, SIGMA, np.log(PI))))
    return params, jnp.asarray(X), jnp.asarray(R)


def compiled(function, covariance, *arguments):
    """Call with a covariance, compiled: a name is static, the matrix is an argument."""
    if covariance == "given":
        return jax.jit(function)(*arguments, jnp.asarray(GIVEN))
    return jax.jit(function, static_argnums=3)(*arguments, covariance)


@functools.cache
def spaces(covariance):
    """Both sides in distance coordinates."""
    with jax.ensure_compile_time_eval():  # cached: never a tracer, whichever test asks first
        return compiled(distance_space, covariance, *model())


def points(pairs):
    return WeightParams(*(jnp.asarray(each) for each in np.transpose(pairs)))


def means(pairs, log_pi=None, covariance="fitted", tiles=None):
    """`weighted_means` of Y for alpha, beta pairs."""
    near, far = spaces(covariance)
    log_pi = None if log_pi is None else jnp.asarray(log_pi)
    return weighted_means(points(pairs), near, far, log_pi, jnp.asarray(Y), tiles=tiles)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_distance_is_mahalanobis(covariance):
    found = compiled(mahalanobis, covariance, *model())
    np.testing.assert_allclose(found, oracle.mahalanobis(X, MU, COVARIANCES[covariance]), rtol=1e-9)


def test_pooled_distance_does_not_see_the_scale_of_metagenes():
    """Metagenes differ by orders of magnitude; a whole covariance takes any scale out again."""
    scale = np.array([1e-4, 1.0, 1e5])
    params = MappingParams(*(jnp.asarray(each * scale) for each in (A, B, SIGMA)))
    found = compiled(mahalanobis, "pooled", params, jnp.asarray(X * scale), jnp.asarray(R))
    np.testing.assert_allclose(found, compiled(mahalanobis, "pooled", *model()), rtol=1e-9)


@pytest.mark.parametrize("covariance", ["fitted", "pooled"])
def test_a_metagene_of_zeros_takes_no_part(covariance):
    """What a landmark held out under reduction "none" leaves behind."""
    widened = [np.append(each, value) for each, value in ((A, 0.0), (B, 0.0), (SIGMA, 1.0))]
    params = MappingParams(*map(jnp.asarray, widened))
    x, r = (jnp.asarray(np.pad(each, ((0, 0), (0, 1)))) for each in (X, R))
    found = compiled(mahalanobis, covariance, params, x, r)
    np.testing.assert_allclose(found, compiled(mahalanobis, covariance, *model()), rtol=1e-9)


def test_unknown_covariance_is_named():
    with pytest.raises((TypeError, ValueError), match="spherical"):
        distance_space(*model(), "spherical")


@pytest.mark.parametrize("pi", [UNIFORM, PI], ids=["uniform", "given"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_weighted_means_equal_the_loops(covariance, pi):
    found = means(POINTS, None if pi is UNIFORM else np.log(pi), covariance)
    distance = oracle.mahalanobis(X, MU, COVARIANCES[covariance])
    for index, (alpha, beta) in enumerate(POINTS):
        expected = oracle.weighted_mean(oracle.weights(distance, pi, alpha, beta), Y)
        np.testing.assert_allclose(found[index], expected, rtol=1e-8, atol=1e-10)


def test_weights_of_one_half_and_zero_are_the_posterior():
    near, far = spaces("fitted")
    found = weight_moments(points([(0.5, 0.0)]), near, far, jnp.log(PI), location_values=jnp.eye(LOCATIONS))
    gamma = oracle.responsibilities(X, A, B, SIGMA, PI, R)
    np.testing.assert_allclose(found.of_cells[0], gamma, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(responsibilities(*model()), gamma, rtol=1e-9)


def test_several_points_at_once_equal_one_at_a_time():
    together = means(POINTS)
    for index, point in enumerate(POINTS):
        np.testing.assert_allclose(means([point])[0], together[index], rtol=1e-12)


@pytest.mark.parametrize(
    ("tiles", "log_pi"),
    [(Tiles(5, 13), None), (Tiles(7, 5), None), (Tiles(19, 4), np.log(PI))],
)
def test_tiles_change_nothing(tiles, log_pi):
    np.testing.assert_allclose(means(POINTS, log_pi, tiles=tiles), means(POINTS, log_pi), rtol=1e-9)


@pytest.mark.parametrize(
    ("tiles", "log_pi"), [(None, None), (Tiles(7, 5), np.log(PI))], ids=["whole", "tiled and weighted"]
)
def test_slopes_in_alpha_and_beta_equal_finite_differences(tiles, log_pi):
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=(1, LOCATIONS, VALUES)))

    @jax.jit
    @jax.value_and_grad
    def value(point):
        near, far = spaces("fitted")
        found = weighted_means(
            WeightParams(point[:1], point[1:]), near, far, log_pi, jnp.asarray(Y), tiles=tiles
        )
        return jnp.sum(cotangent * found)

    log_pi = None if log_pi is None else jnp.asarray(log_pi)
    center, step = np.array([0.11, 0.31]), 1e-5
    slopes = value(jnp.asarray(center))[1]
    for axis in np.eye(2):
        ends = [float(value(jnp.asarray(center + sign * step * axis))[0]) for sign in (1, -1)]
        np.testing.assert_allclose(slopes @ axis, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def test_a_cell_on_a_location_has_finite_slopes():
    """The square root of a distance of zero has no slope; the weights must have one all the same."""
    near, far = jnp.asarray(MU[:4]), jnp.asarray(MU)

    def total(beta, near):
        weights = WeightParams(jnp.zeros(1), beta[None])
        return jnp.sum(weighted_means(weights, near, far, None, near**2))

    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(0.7), near)
    assert all(np.isfinite(each).all() for each in slopes)


def test_impossible_locations_get_nothing():
    with np.errstate(divide="ignore"):
        log_pi = np.log(np.where(np.arange(LOCATIONS) == 4, 0.0, PI))
    for tiles in (None, Tiles(19, 4)):
        found = np.asarray(means(POINTS, log_pi, tiles=tiles))
        np.testing.assert_array_equal(found[:, 4], 0.0)
        distance = oracle.mahalanobis(X, MU, COVARIANCES["fitted"])
        expected = oracle.weighted_mean(oracle.weights(distance, np.exp(log_pi), 0.11, 0.31)[:, :4], Y)
        np.testing.assert_allclose(found[2, :4], expected, rtol=1e-8)


def test_weights_do_not_overflow_at_the_corners_of_a_grid():
    """The released program's exponents have no shift: 0/0 at large alpha; here the nearest location wins."""
    near, far = spaces("fitted")
    found = weight_moments(points([(1e4, 1e3)]), near, far, None, location_values=jnp.eye(LOCATIONS))
    nearest = oracle.mahalanobis(X, MU, COVARIANCES["fitted"]).argmin(axis=1)
    np.testing.assert_allclose(found.of_cells[0], np.eye(LOCATIONS)[nearest], atol=1e-6)


def test_float32_is_close_and_a_location_far_from_every_cell_is_the_average():
    """All its weights underflow: it gets zero, the average of centred values, instead of nan."""
    params, x, r = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), model())
    near, far = distance_space(params, x, r)
    far = jnp.concatenate([far, jnp.full_like(far[:1], 1e4)])
    weights = WeightParams(jnp.array([0.11, 1.0]), jnp.array([0.31, 0.0]))
    weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights)
    found = weighted_means(weights, near, far, None, jnp.asarray(Y, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found[:, -1], 0.0)
    np.testing.assert_allclose(found[0, :-1], means(POINTS)[2], atol=2e-5)


def test_slopes_stand_where_the_square_of_a_mass_would_underflow():
    """A location that gathers 1e-30 of the cells has a mean, and that mean has a slope."""
    near, far = jnp.asarray([[0.0], [0.5], [1.0]]), jnp.asarray([[0.2], [9.0]])
    values = jnp.asarray([[1.0], [-1.0], [2.0]])

    def mean(alpha, dtype):
        sides = (each.astype(dtype) for each in (near, far))
        weights = WeightParams(alpha[None], jnp.zeros(1, dtype))
        return weighted_means(weights, *sides, None, values.astype(dtype))[0, 1, 0]

    mass = weight_moments(points([(1.1, 0.0)]), near, far, None, cell_values=jnp.ones((3, 1))).of_locations[0]
    assert 1e-38 < mass[1, 0] < 1e-25
    expected = jax.grad(mean)(jnp.asarray(1.1), jnp.float64)
    found = jax.grad(mean)(jnp.asarray(1.1, jnp.float32), jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-2)


def test_repr_of_one_point():
    assert repr(WeightParams.single(0.5, 0.25)) == "WeightParams(alpha=0.5, beta=0.25)"


def test_repeated_calls_trace_once():
    means(POINTS)
    before = weighted_means._cache_size()
    means([(2.0, 1.0), (0.1, 0.1), (0.0, 0.0)])
    assert weighted_means._cache_size() == before
