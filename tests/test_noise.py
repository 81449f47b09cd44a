"""Student t noise, foreign cells and evidence: against the dense formula, and against what they are for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from perler_jax.density import cell_votes, foreign_cells, log_density, responsibilities
from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence, check_evidence, coordinate_evidence, region_evidence
from perler_jax.inference import data_scaled_priors, fit_map, fit_map_em, fit_svi
from perler_jax.inference.laplace import log_likelihood_hessian
from perler_jax.inference.model import CellsFrom, MappedCells
from perler_jax.inference.posterior import pointwise_log_likelihood
from perler_jax.mixture import MappingParams, expected_statistics, map_locations, score
from perler_jax.noise import ForeignCells, Gaussian, StudentT
from perler_jax.streaming import Tiles
from perler_jax.weights import WeightParams, weighted_means

CELLS, LOCATIONS, METAGENES = 29, 13, 3


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_problem(family=Gaussian(), *, foreign=True, evidence=True):  # noqa: B008 (a frozen value)
    rng = np.random.default_rng(3)
    x, r = (jnp.asarray(rng.normal(size=(n, METAGENES))) for n in (CELLS, LOCATIONS))
    params = MappingParams(
        *(jnp.asarray(rng.uniform(0.4, 1.3, METAGENES)) for _ in range(3)),
        jnp.asarray(np.log(rng.dirichlet(np.ones(LOCATIONS)))),
        ForeignCells(jnp.asarray(0.2), *jnp.asarray(rng.uniform(0.8, 2.0, (2, METAGENES))))
        if foreign
        else None,
        family,
    )
    known = CellEvidence(*(jnp.asarray(rng.normal(size=(n, 2))) for n in (CELLS, LOCATIONS)))
    return params, x, r, known if evidence else None


def dense_log_density(params, x, r, evidence):
    """All of it, cells x locations x metagenes, by SciPy's words and JAX's derivatives."""

    def family(centre, scale):
        squared = jnp.sum(((x[:, None] - centre) / scale) ** 2, axis=-1)
        if params.noise_family == Gaussian():
            log_p = -0.5 * squared - 0.5 * METAGENES * jnp.log(2 * jnp.pi)
        else:
            df = params.noise_family.df
            log_p = (
                jax.scipy.special.gammaln((df + METAGENES) / 2)
                - jax.scipy.special.gammaln(df / 2)
                - 0.5 * METAGENES * jnp.log(df * jnp.pi)
                - 0.5 * (df + METAGENES) * jnp.log1p(squared / df)
            )
        return log_p - jnp.sum(jnp.log(scale))

    joint = family(map_locations(params, r), params.noise) + jax.nn.log_softmax(params.log_location_weights)
    if evidence is not None:
        joint = joint + evidence.of_cells @ evidence.of_locations.T
    found = jax.nn.logsumexp(joint, axis=1)
    if params.foreign is None:
        return found
    outside = family(params.foreign.mean, params.foreign.spread)[:, 0] + jnp.log(params.foreign.share)
    return jnp.logaddexp(found + jnp.log1p(-params.foreign.share), outside)


FAMILIES = [Gaussian(), StudentT(3.0)]
EVERY = [(family, foreign, evidence) for family in FAMILIES for foreign in (0, 1) for evidence in (0, 1)]


def test_the_dense_student_t_is_scipys():
    params, x, r, _ = make_problem(StudentT(3.0), foreign=False)
    one = dataclasses.replace(
        params, log_location_weights=jnp.where(jnp.arange(LOCATIONS) == 4, 0.0, -jnp.inf)
    )
    law = scipy.stats.multivariate_t(
        np.asarray(map_locations(params, r)[4]), np.diag(np.asarray(params.noise) ** 2), df=3
    )
    np.testing.assert_allclose(log_density(one, x, r), law.logpdf(np.asarray(x)), rtol=1e-10)


@pytest.mark.parametrize(("family", "foreign", "evidence"), EVERY)
def test_density_and_all_its_gradients_are_those_of_the_dense_formula(family, foreign, evidence):
    arguments = make_problem(family, foreign=bool(foreign), evidence=bool(evidence))
    cotangent = jnp.linspace(-1.0, 2.0, CELLS)

    def gradient(density):
        total = jax.jit(jax.value_and_grad(lambda *args: cotangent @ density(*args), (0, 1, 2, 3)))
        return total(*arguments)

    def tiled(*args):
        return log_density(*args, Tiles(8, 5))

    np.testing.assert_allclose(log_density(*arguments), dense_log_density(*arguments), rtol=1e-11)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
        gradient(tiled),
        gradient(dense_log_density),
    )


@pytest.mark.parametrize(("family", "foreign", "evidence"), EVERY)
def test_the_score_of_the_statistics_is_the_gradient(family, foreign, evidence):
    params, x, r, known = make_problem(family, foreign=bool(foreign), evidence=bool(evidence))
    found = score(params, expected_statistics(params, x, r, evidence=known, tiles=Tiles(8, 5)))
    expected = jax.jit(jax.grad(lambda p: dense_log_density(p, x, r, known).sum()))(params)
    for name in ("sensitivity", "background", "noise", "log_location_weights"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8, atol=1e-9)
    if foreign:
        np.testing.assert_allclose(found.foreign.share, expected.foreign.share, rtol=1e-8)


@pytest.mark.parametrize(("family", "foreign", "evidence"), EVERY)
def test_em_climbs_to_where_the_gradient_vanishes(family, foreign, evidence):
    params, x, r, known = make_problem(family, foreign=False, evidence=bool(evidence))
    start = initial_params(
        x, r, params.log_location_weights, noise_family=family, foreign_share=0.1 if foreign else None
    )
    for accelerate in (False, True):
        done = fit_em(x, r, start, evidence=known, tolerance=1e-14, max_steps=3000, accelerate=accelerate)
        assert bool(done.converged)
        assert np.diff(done.history).min() > -1e-9 * abs(done.log_likelihood)
        slope = jax.grad(lambda p: dense_log_density(p, x, r, known).sum())(done.params)
        for name in ("sensitivity", "background", "noise"):
            np.testing.assert_allclose(getattr(slope, name) * done.params.noise, 0.0, atol=2e-4)


def test_responsibilities_take_everything_into_account():
    params, x, r, known = make_problem(StudentT(3.0))
    joint = jax.jacobian(
        lambda w: dense_log_density(
            dataclasses.replace(params, foreign=None, log_location_weights=w), x, r, known
        )
    )(params.log_location_weights)
    expected = joint + jax.nn.softmax(params.log_location_weights)  # d ln p / d ln pi = gamma - pi
    np.testing.assert_allclose(responsibilities(params, x, r, known), expected, atol=1e-10)


def test_foreign_probability_is_bayes_rule():
    params, x, r, known = make_problem()
    at_home = dataclasses.replace(params, foreign=None)
    home = jnp.log1p(-params.foreign.share) + dense_log_density(at_home, x, r, known)
    expected = 1 - jnp.exp(home - dense_log_density(params, x, r, known))
    np.testing.assert_allclose(foreign_cells(params, x, r, known), expected, atol=1e-12)
    np.testing.assert_allclose(cell_votes(params, x, r, known), 1 - expected, atol=1e-12)
    assert cell_votes(at_home, x, r, known) is None


def simulate_cells(rng, n_cells, n_foreign, df):
    """Cells of known origin with t noise, and some from nowhere."""
    r = rng.normal(size=(60, 8))
    a, b, sigma = rng.uniform(0.7, 1.4, 8), rng.normal(size=8) * 0.3, rng.uniform(0.25, 0.4, 8)
    origin = rng.integers(60, size=n_cells)
    scale = np.sqrt(rng.gamma(df / 2, 2 / df, n_cells))[:, None]
    x = a * r[origin] + b + sigma * rng.normal(size=(n_cells, 8)) / scale
    x[:n_foreign] = rng.normal(size=(n_foreign, 8)) * 1.8
    return jnp.asarray(x), jnp.asarray(r), (a, b, sigma), origin


def test_heavy_tails_and_foreign_cells_are_recovered_better_than_by_gaussian_noise():
    x, r, truth, origin = simulate_cells(np.random.default_rng(0), 1500, 75, df=4.0)
    plain = fit_em(x, r).params
    start = initial_params(x, r, noise_family=StudentT(4.0), foreign_share=0.02)
    robust = fit_em(x, r, start, tolerance=1e-8, max_steps=500).params

    def error(params):
        fitted = (params.sensitivity, params.background, params.noise)
        return [float(np.abs(f - t).mean()) for f, t in zip(fitted, truth, strict=True)]

    assert np.all(np.array(error(robust)) < [0.8 * e for e in error(plain)]), (error(robust), error(plain))
    assert 0.03 < float(robust.foreign.share) < 0.07
    flags = np.asarray(foreign_cells(robust, x, r))
    assert scipy.stats.mannwhitneyu(flags[:75], flags[75:]).statistic / (75 * 1425) > 0.9

    def log_posterior_of_truth(params):
        gamma = np.asarray(responsibilities(params, x[75:], r))
        return np.log(gamma[np.arange(len(gamma)), origin[75:]]).mean()

    assert log_posterior_of_truth(robust) > log_posterior_of_truth(plain) + 0.1


def test_every_fit_of_the_model_takes_the_family_foreign_cells_and_evidence_from_its_start():
    _, x, r, known = make_problem(StudentT(3.0))
    priors = data_scaled_priors(x, r)
    start = initial_params(x, r, noise_family=StudentT(3.0))
    start = dataclasses.replace(start, foreign=ForeignCells.of_cells(x, 0.2))
    by_em = fit_map_em(x, r, priors, start, evidence=known, tolerance=1e-13)
    by_gradient = fit_map(x, r, priors, start, evidence=known, tolerance=1e-4, progress=False)
    assert by_gradient.params.noise_family == StudentT(3.0)
    np.testing.assert_allclose(by_gradient.log_posterior, by_em.log_posterior, rtol=1e-6)
    for name in ("sensitivity", "background", "noise"):
        found, expected = getattr(by_gradient.params, name), getattr(by_em.params, name)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(by_gradient.params.foreign.share, by_em.params.foreign.share, atol=1e-4)

    _, hessian = log_likelihood_hessian(by_em.params, x, r, evidence=known, tiles=Tiles(8, 5))

    def dense(point):
        a, b, noise = jnp.split(point, 3)
        at = dataclasses.replace(by_em.params, sensitivity=a, background=b, noise=noise)
        return dense_log_density(with_weights(at), x, r, known).sum()

    point = jnp.concatenate([by_em.params.sensitivity, by_em.params.background, by_em.params.noise])
    np.testing.assert_allclose(hessian, jax.hessian(dense)(point), rtol=1e-6, atol=1e-6)

    variational = fit_svi(
        *(x, r, priors, by_em.params), evidence=known, guide="normal", n_steps=20, n_draws=12, progress=False
    )
    shares = variational.draws.foreign.share
    assert shares.shape == (1, 12)
    assert 0 < float(shares.min()) < float(shares.max()) < 1
    one = pointwise_log_likelihood(variational.draws, x, r, evidence=known)[0, 5]
    expected = dense_log_density(with_weights(variational.draws.mapping(5)), x, r, known)
    np.testing.assert_allclose(one, expected, rtol=1e-10)


def with_weights(params):
    """Uniform location weights written out, as the dense formula wants them."""
    return dataclasses.replace(params, log_location_weights=jnp.zeros(LOCATIONS))


def test_simulated_cells_follow_the_family_and_the_share_of_foreign_cells():
    params, _, r, _ = make_problem(StudentT(6.0), evidence=False)
    cells, origin = MappedCells(params, r).sample_with_origin(jax.random.key(0), (20_000,))
    assert abs(float((origin == LOCATIONS).mean()) - 0.2) < 0.01
    log_p = CellsFrom(params, r, origin).log_prob(cells)
    centre = jnp.where((origin == LOCATIONS)[:, None], params.foreign.mean, map_locations(params, r)[origin])
    scale = jnp.where((origin == LOCATIONS)[:, None], params.foreign.spread, params.noise)
    squared = np.asarray(jnp.sum(((cells - centre) / scale) ** 2, axis=1)) / METAGENES
    assert scipy.stats.kstest(squared, scipy.stats.f(METAGENES, 6.0).cdf).pvalue > 1e-3
    law = scipy.stats.multivariate_t(np.asarray(centre[0]), np.diag(np.asarray(scale[0]) ** 2), df=6)
    np.testing.assert_allclose(log_p[0], law.logpdf(np.asarray(cells[0])), rtol=1e-10)


def test_votes_and_evidence_enter_the_weighted_mean():
    _, x, r, known = make_problem()
    votes, values = (
        jnp.linspace(0.1, 1.0, CELLS),
        jnp.asarray(np.random.default_rng(0).normal(size=(CELLS, 2))),
    )
    log_pi = jnp.log(jnp.linspace(1.0, 2.0, LOCATIONS))
    found = weighted_means(
        WeightParams.single(0.3, 0.2, x.dtype),
        x,
        r,
        log_pi,
        values,
        evidence=known,
        votes=votes,
        tiles=Tiles(7, 4),
    )
    distance = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(r), axis=-1)
    weight = np.exp(
        -0.3 * distance**2 - 0.2 * distance + np.asarray(log_pi + known.of_cells @ known.of_locations.T)
    )
    weight = weight / weight.sum(axis=1, keepdims=True) * np.asarray(votes)[:, None]
    np.testing.assert_allclose(
        found[0], weight.T @ np.asarray(values) / weight.sum(axis=0)[:, None], rtol=1e-9
    )


def test_region_and_coordinate_evidence_are_their_formulas():
    regions = pd.DataFrame({"dorsal": [1, 1, 0, 0], "head": [0, 1, 1, 0]}, dtype=bool)
    found = region_evidence(["head", None, "dorsal"], regions, error=0.1)
    table = np.exp(np.asarray(found.of_cells @ found.of_locations.T))
    np.testing.assert_allclose(table, [[0.1, 0.9, 0.9, 0.1], [1, 1, 1, 1], [0.9, 0.9, 0.1, 0.1]])
    z, c = np.random.default_rng(1).normal(size=(5, 2)), np.array([[0.0, 1.0], [np.nan, 0.0], [3.0, 2.0]])
    found = coordinate_evidence(c, z, sd=np.array([0.5, 1.0, 2.0]))
    expected = -0.5 * np.sum((c[:, None] - z) ** 2, axis=-1) / np.array([[0.5], [1.0], [2.0]]) ** 2
    np.testing.assert_allclose(found.of_cells @ found.of_locations.T, np.nan_to_num(expected), atol=1e-12)
    both = found + region_evidence(["a", "a", None], pd.DataFrame({"a": [1, 1, 0, 0, 1]}, dtype=bool))
    assert both.of_cells.shape == (3, 5)


def test_certain_regions_forbid_the_rest():
    params, x, r, _ = make_problem(evidence=False, foreign=False)
    half = np.arange(LOCATIONS) < 6
    known = region_evidence(["a"] * CELLS, pd.DataFrame({"a": half}), error=0.0)
    gamma = np.asarray(responsibilities(params, x, r, check_evidence(known, CELLS, LOCATIONS)))
    assert gamma[:, ~half].max() == 0
    np.testing.assert_allclose(gamma.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (np.ones((CELLS, LOCATIONS)), "CellEvidence, found ndarray"),
        (CellEvidence(np.ones((CELLS + 1, 2)), np.ones((LOCATIONS, 2))), r"shapes \(29, features\)"),
        (CellEvidence(np.ones((CELLS, 2)), np.ones((LOCATIONS, 3))), r"found \(29, 2\) and \(13, 3\)"),
        (CellEvidence(np.full((CELLS, 2), np.nan), np.ones((LOCATIONS, 2))), "finite evidence"),
        (CellEvidence(np.ones((CELLS, 1)), np.full((LOCATIONS, 1), -1e4)), "none for cell 0"),
    ],
)
def test_evidence_that_cannot_be_used_is_refused(evidence, said):
    with pytest.raises(PerlerInputError, match=said):
        check_evidence(evidence, CELLS, LOCATIONS)


def test_values_out_of_range_are_refused():
    with pytest.raises(PerlerInputError, match="degrees of freedom"):
        StudentT(0.0)
    with pytest.raises(PerlerInputError, match="between 0 and 1, found 1"):
        ForeignCells.of_cells(jnp.ones((3, 2)), 1.0)
    regions = pd.DataFrame({"a": [True, False], "b": [False, False]})
    with pytest.raises(PerlerInputError, match="none in b"):
        region_evidence(["a"], regions)
    with pytest.raises(PerlerInputError, match="found c"):
        region_evidence(["c"], regions[["a"]])
    with pytest.raises(PerlerInputError, match="sd > 0"):
        coordinate_evidence(np.ones((2, 2)), np.ones((3, 2)), sd=0.0)
    with pytest.raises(PerlerInputError, match="same dimensions"):
        coordinate_evidence(np.ones((2, 2)), np.ones((3, 3)), sd=1.0)
