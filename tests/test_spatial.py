"""Priors that know of space, batches and neighbours: against what made the data, and against formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy.special import rel_entr

from perler_jax.em import fit_em
from perler_jax.errors import PerlerInputError
from perler_jax.inference import ConjugatePriors, MappingPriors, fit_map
from perler_jax.inference.batches import fit_batches
from perler_jax.inference.spatial import (
    autoregressive_location_weights,
    location_graph,
    smooth_location_weights,
)
from perler_jax.inputs.data import CellExpression
from perler_jax.neighbourhood import expression_neighbours, neighbours_without

LOCATIONS, METAGENES = 150, 6


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def tissue():
    """A sheet whose patterns and density of cells are smooth."""
    rng = np.random.default_rng(5)
    z = rng.uniform(0, 100, (LOCATIONS, 2))
    waves = rng.normal(size=(2, METAGENES)) / 25
    r = np.sin(z @ waves + rng.uniform(0, 6, METAGENES))
    log_pi = 1.5 * np.sin(z[:, 0] / 15)
    pi = np.exp(log_pi) / np.exp(log_pi).sum()
    return z, r, pi


def draw_cells(rng, tissue, n, *, noise=0.5):
    _, r, pi = tissue
    origin = rng.choice(LOCATIONS, n, p=pi)
    return 1.2 * r[origin] + 0.1 + noise * rng.normal(size=(n, METAGENES)), origin


@pytest.mark.parametrize("kind", ["gaussian process", "autoregression"])
def test_smooth_location_weights_are_nearer_to_the_truth_than_free_or_uniform_ones(tissue, kind):
    z, r, pi = tissue
    x, _ = draw_cells(np.random.default_rng(0), tissue, 500)
    x, r = jnp.asarray(x), jnp.asarray(r)
    if kind == "gaussian process":
        prior = smooth_location_weights(z, length=12.0, n_basis=12)
    else:
        prior = autoregressive_location_weights(location_graph(z), amplitude=1.0)
    found = fit_map(x, r, MappingPriors(location_weights=prior), progress=False)
    free = fit_em(x, r, learn_location_weights=True, max_steps=2000)

    def divergence(log_weights):
        return rel_entr(pi, np.exp(np.asarray(jax.nn.log_softmax(log_weights)))).sum()

    smooth = divergence(found.params.log_location_weights)
    assert smooth < 0.6 * divergence(jnp.zeros(LOCATIONS))
    assert smooth < 0.6 * divergence(jnp.maximum(free.params.log_location_weights, np.log(1e-6)))


def test_a_learned_amplitude_is_a_site(tissue):
    prior = smooth_location_weights(tissue[0], amplitude=dist.HalfNormal(1.0), n_basis=4)
    trace = handlers.trace(handlers.seed(prior, 0)).get_trace()
    assert {"location/amplitude", "location/beta"} <= set(trace)
    np.testing.assert_allclose(handlers.seed(prior, 0)().sum(), 1.0)


def test_priors_over_space_that_cannot_be_are_refused(tissue):
    z = tissue[0]
    with pytest.raises(PerlerInputError, match="length > 0"):
        smooth_location_weights(z, length=0.0)
    with pytest.raises(PerlerInputError, match="amplitude > 0"):
        smooth_location_weights(z, amplitude=-1.0)
    with pytest.raises(PerlerInputError, match="all at one"):
        smooth_location_weights(np.ones((5, 2)))
    with pytest.raises(PerlerInputError, match="symmetric"):
        autoregressive_location_weights(np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    with pytest.raises(PerlerInputError, match="without any"):
        autoregressive_location_weights(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    with pytest.raises(PerlerInputError, match="correlation < 1"):
        autoregressive_location_weights(location_graph(z), correlation=1.0)
    with pytest.raises(PerlerInputError, match="1 to 149 neighbours"):
        location_graph(z, 150)


def test_a_small_batch_borrows_and_a_large_one_speaks_for_itself(tissue):
    _, r, _ = tissue
    rng = np.random.default_rng(2)
    sizes, sides, truth = (400, 400, 400, 30), [], []
    for size in sizes:
        a, b = 1.2 + 0.1 * rng.normal(size=METAGENES), 0.15 * rng.normal(size=METAGENES)
        truth.append((a, b))
        x = a * r[rng.integers(LOCATIONS, size=size)] + b + 0.5 * rng.normal(size=(size, METAGENES))
        sides.append(x)
    x, batch = jnp.asarray(np.concatenate(sides)), np.repeat(["p", "q", "s", "small"], sizes)
    found = fit_batches(x, jnp.asarray(r), batch, progress=False)
    assert found.batches == ("p", "q", "s", "small")
    alone = fit_em(jnp.asarray(sides[3]), jnp.asarray(r)).params

    def error(params, j, name, index):
        return np.abs(np.asarray(getattr(params, name))[index] - truth[j][name == "background"]).mean()

    assert error(found.of_batch, 3, "sensitivity", 3) < 0.7 * error(alone, 3, "sensitivity", slice(None))
    own = fit_em(jnp.asarray(sides[0]), jnp.asarray(r)).params
    near = np.abs(found.of_batch.background[0] - own.background)
    assert (near < 0.3 * np.abs(found.common.background - own.background) + 0.02).all()
    aligned = found.align(x, batch)
    before, after = (fit_em(side, jnp.asarray(r)).params.noise.mean() for side in (x, aligned))
    assert after < before, "batches lie on one another after alignment"
    with pytest.raises(PerlerInputError, match="found new"):
        found.align(x[:1], ["new"])
    with pytest.raises(PerlerInputError, match="found 1 in 'alone'"):
        fit_batches(x[:3], jnp.asarray(r), ["a", "a", "alone"], progress=False)
    with pytest.raises(PerlerInputError, match="batch of each of"):
        fit_batches(x, jnp.asarray(r), ["a"], progress=False)


def test_landmarks_have_no_say_in_neighbours():
    """However much they vary: a held-out landmark must not choose the cells that predict it."""
    rng = np.random.default_rng(5)
    genes = np.array([f"g{i}" for i in range(140)], dtype=object)
    names = np.array([f"c{i}" for i in range(60)], dtype=object)
    landmarks, others = genes[:20], rng.normal(size=(60, 120)) + 3 * rng.normal(size=(60, 1))

    def found(seed):
        loud = 50 * np.random.default_rng(seed).normal(size=(60, 20))
        cells = CellExpression(np.hstack([loud, others]), names, genes, scale="log2")
        return neighbours_without(cells, landmarks, lambda block: block, n_neighbours=5)

    np.testing.assert_array_equal(found(1), found(2))
    np.testing.assert_array_equal(found(1), expression_neighbours(others.astype(np.float32), n_neighbours=5))


def test_neighbours_in_expression_are_from_nearby(tissue):
    """Many genes that are no landmark: a cell's neighbours in them come from close by."""
    z, _, _ = tissue
    rng = np.random.default_rng(3)
    _, origin = draw_cells(rng, tissue, 400, noise=1.5)
    others = np.sin(z @ (rng.normal(size=(2, 60)) / 20))[origin] + 0.5 * rng.normal(size=(400, 60))
    neighbours = expression_neighbours(others, n_neighbours=10)
    assert not (neighbours == np.arange(400)[:, None]).any()
    apart = np.linalg.norm(z[origin][:, None] - z[origin][neighbours], axis=2).mean()
    by_chance = np.linalg.norm(z[origin][:, None] - z[origin], axis=2).mean()
    assert apart < 0.5 * by_chance
    with pytest.raises(PerlerInputError, match="found 400"):
        expression_neighbours(others, n_neighbours=400)


def test_conjugate_priors_of_batches_are_proper():
    with pytest.raises(PerlerInputError, match="sd > 0"):
        ConjugatePriors(sensitivity=(0.0, 0.0))
