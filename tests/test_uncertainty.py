"""Spread of predictions: against dense weights, a bootstrap and closed forms; the summary is what it says."""

import dataclasses

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax import PerlerInputError, PerlerSettings, fit_perler, load_fit, simulate_embryo
from perler_jax.evidence import CellEvidence
from perler_jax.held_out.cross_validation import held_out_predictions
from perler_jax.prediction.mixed_weights import MixedWeights, Points
from perler_jax.reconstruction import gene_block_size
from perler_jax.streaming import Tiles
from perler_jax.trust.bootstrap import bootstrap_blocks, bootstrap_patterns
from perler_jax.trust.predictor import fold_predictors, landmark_table, whole_predictor
from perler_jax.trust.summary import fit_intervals, held_out_patterns, summarise
from perler_jax.trust.uncertainty import effective_cells, standard_error
from perler_jax.weights import WeightParams, weighted_means
from tests import oracle
from tests.test_memory import scratch_bytes

CELLS, LOCATIONS, GENES = 23, 17, 5
POINT = (0.2, 0.4)


def problem(kind):
    """Sides, their streamed weights and the dense ones by the loops of the oracle."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(CELLS, 3)), rng.normal(size=(LOCATIONS, 3))
    values = rng.normal(size=(CELLS, GENES)) ** 3
    pi, e, votes = np.full(LOCATIONS, 1 / LOCATIONS), np.zeros((CELLS, LOCATIONS)), np.ones(CELLS)
    options = {}
    if kind != "plain":
        pi = rng.dirichlet(np.ones(LOCATIONS))
        f, g = rng.normal(size=(CELLS, 2)), rng.normal(size=(LOCATIONS, 2))
        e, votes = f @ g.T, rng.uniform(0.1, 1.0, CELLS)
        options = {
            "log_location_weights": jnp.asarray(np.log(pi)),
            "evidence": CellEvidence(jnp.asarray(f), jnp.asarray(g)),
            "votes": jnp.asarray(votes),
        }
    distance = oracle.mahalanobis(near, far, np.eye(3))
    w = oracle.weights(distance, pi, *POINT) * np.exp(e)
    w /= w.sum(axis=1, keepdims=True)
    weights = WeightParams.single(*POINT, np.float64)
    return MixedWeights.of_point(weights, jnp.asarray(near), jnp.asarray(far), **options), w, votes, values


@pytest.mark.parametrize("kind", ["plain", "pi, evidence and votes"])
@pytest.mark.parametrize("tiles", [None, Tiles(7, 6)], ids=["whole", "tiles"])
def test_errors_are_those_of_the_dense_weights(kind, tiles):
    with jax.enable_x64(True):
        source, w, votes, values = problem(kind)
        error = standard_error(source, jnp.asarray(values), tiles=tiles)
        number = effective_cells(source, tiles=tiles)
    for k in range(LOCATIONS):
        v = votes * w[:, k]
        share = v / v.sum()
        mean = share @ values
        np.testing.assert_allclose(error[k], np.sqrt(share**2 @ (values - mean) ** 2), rtol=1e-9)
        np.testing.assert_allclose(number[k], 1 / (share**2).sum(), rtol=1e-10)


def test_the_error_of_a_mixture_is_that_of_its_weights():
    """Two points that share six tenths: c_nk = 0.2 share^1_nk + 0.4 share^2_nk, about their common mean."""
    rng = np.random.default_rng(5)
    near, far, values = (rng.normal(size=(rows, 3)) for rows in (CELLS, LOCATIONS, CELLS))
    points, shares = ((0.2, 0.4), (0.0, 1.6)), (0.2, 0.4)
    distance = oracle.mahalanobis(near, far, np.eye(3))
    mixed = np.zeros((CELLS, LOCATIONS))
    for point, share in zip(points, shares, strict=True):
        w = oracle.weights(distance, np.full(LOCATIONS, 1 / LOCATIONS), *point)
        mixed += share * w / w.sum(axis=0)
    with jax.enable_x64(True):
        alpha, beta = (jnp.asarray(each) for each in zip(*points, strict=True))
        at = Points(alpha, beta, jnp.zeros(2, jnp.int32))
        sides = (jnp.asarray(near)[:, None], jnp.asarray(far)[:, None])
        source = MixedWeights(at, jnp.asarray(shares), *sides)
        error = standard_error(source, jnp.asarray(values))
    mean = mixed.T @ values / 0.6
    expected = [np.sqrt(mixed[:, k] ** 2 @ (values - mean[k]) ** 2) for k in range(LOCATIONS)]
    np.testing.assert_allclose(error, expected, rtol=1e-9)


def test_equal_weights_give_the_textbook_standard_error():
    values = np.random.default_rng(1).normal(size=(50, 3))
    with jax.enable_x64(True):
        weights = WeightParams.single(0.0, 0.0, np.float64)
        everywhere = MixedWeights.of_point(weights, jnp.ones((50, 2)), jnp.ones((4, 2)))
        error = standard_error(everywhere, jnp.asarray(values))
        number = effective_cells(everywhere)
    np.testing.assert_allclose(number, 50, rtol=1e-12)
    np.testing.assert_allclose(error[2], values.std(axis=0) / np.sqrt(50), rtol=1e-12)


def test_errors_in_single_precision_keep_four_digits():
    with jax.enable_x64(True):
        source, _, _, values = problem("plain")
        exact = standard_error(source, jnp.asarray(values))
    single = jax.tree.map(
        lambda leaf: jnp.asarray(
            leaf, jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
        ),
        source,
    )
    found = standard_error(single, jnp.asarray(values, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_the_pass_needs_no_more_memory_than_a_plain_reconstruction():
    cells, locations, metagenes = 4000, 6000, 8
    block = gene_block_size(cells, locations, 20_000)

    def plain(near, far, values):
        return weighted_means(WeightParams.single(*POINT), near, far, None, values)

    def errors(near, far, values):
        return standard_error(MixedWeights.of_point(WeightParams.single(*POINT), near, far), values)

    sides = (cells, metagenes), (locations, metagenes)
    usual = scratch_bytes(plain, *sides, (cells, block))
    ours = scratch_bytes(errors, *sides, (cells, block // 4))
    assert ours < 1.5 * usual


SETTINGS = {
    "plain": dataclasses.replace(PerlerSettings.paper(), n_metagenes=4, folds=6),
    "experts": PerlerSettings(n_metagenes=4, folds=6),
    "foreign": PerlerSettings(n_metagenes=4, folds=6, foreign_cells=True),
}


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=3, n_locations=120, n_cells=150, n_genes=45, n_landmarks=12)


@pytest.fixture(scope="module")
def fits(embryo):
    return {
        name: fit_perler(embryo.cells, embryo.reference, settings=settings, progress=False)
        for name, settings in SETTINGS.items()
    }


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_mean_of_the_summary_is_the_reconstruction(fits, kind):
    usual, found = fits[kind].reconstruct(), summarise(fits[kind])
    np.testing.assert_allclose(found.X, usual.X, rtol=1e-4, atol=1e-5)
    assert list(found.var_names) == list(usual.var_names)
    assert (found.layers["standard_error"] >= 0).all()
    assert (found.layers["lower"] < found.X).all()
    assert (found.layers["upper"] > found.X).all()
    assert (found.obs["effective_cells"] > 1).all()


def test_the_summary_says_what_it_is_and_can_be_written(fits, tmp_path):
    found = summarise(fits["plain"], ["stripe7_1", "stripe14_1"], level=0.8)
    assert found.shape == (120, 2)
    assert found.uns["perler"]["level"] == 0.8
    assert "share `level`" in found.uns["perler"]["meaning"]
    found.write_h5ad(tmp_path / "summary.h5ad")
    read = ad.read_h5ad(tmp_path / "summary.h5ad")
    np.testing.assert_array_equal(read.layers["upper"], found.layers["upper"])


def test_a_gene_has_one_summary_whatever_is_asked_for_beside_it(fits):
    intervals = fit_intervals(fits["plain"])
    whole = summarise(fits["plain"], intervals=intervals)
    some = summarise(fits["plain"], ["gap2", "stripe7_2", "stripe14_1"], intervals=intervals)
    assert list(some.var_names) == ["gap2", "stripe7_2", "stripe14_1"]
    for layer in ("standard_error", "lower", "upper"):
        np.testing.assert_allclose(
            some.layers[layer],
            whole[:, ["gap2", "stripe7_2", "stripe14_1"]].layers[layer],
            rtol=1e-3,
            atol=1e-5,
        )


def test_a_higher_level_is_wider(fits):
    intervals = fit_intervals(fits["plain"])
    widths = [
        summarise(fits["plain"], ["stripe14_1"], level=level, intervals=intervals).layers["upper"].mean()
        for level in (0.5, 0.8, 0.9)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_loaded_fits_and_missing_things(fits, embryo, tmp_path):
    fit = fits["plain"]
    fit.save(tmp_path / "fit.npz")
    loaded = load_fit(tmp_path / "fit.npz")
    with pytest.raises(PerlerInputError, match="expected the expression of the cells"):
        summarise(loaded)
    again = summarise(loaded, ["stripe14_1"], cells=embryo.cells)
    np.testing.assert_allclose(
        again.layers["upper"], summarise(fit, ["stripe14_1"]).layers["upper"], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(PerlerInputError, match="unknown"):
        summarise(fit, ["nobody"])
    with pytest.raises(PerlerInputError, match=r"at least 19 .* found 12"):
        summarise(fit, level=0.95)
    given = fit_perler(embryo.cells, embryo.reference, weights=POINT, progress=False)
    assert "lower" not in summarise(given, ["stripe14_1"], level=None).layers
    with pytest.raises(PerlerInputError, match="held-out landmarks"):
        summarise(given, ["stripe14_1"])


def test_folds_predict_what_tuning_scored(fits):
    fit = fits["plain"]
    landmarks = landmark_table(fit, fit.cells)
    found, error = held_out_patterns(fit, landmarks)
    y, h = (jnp.asarray(each, jnp.float32) for each in (landmarks.cells, landmarks.reference))
    order = np.array([np.asarray(genes)[0] for genes in fit.held_out.genes])
    points = [
        jnp.asarray(fit.scores[name].to_numpy()[order][:, None], jnp.float32) for name in ("alpha", "beta")
    ]
    expected = held_out_predictions(fit.held_out, WeightParams(*points), y, h)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        oracle.correlations(found, landmarks.reference), fit.scores["nested"], atol=1e-4
    )
    assert (error > 0).all()


def test_a_fold_has_no_trace_of_its_genes(fits, embryo):
    """Another pattern of the held-out landmark in the reference changes nothing that predicts it."""
    fit = fits["experts"]
    landmarks = landmark_table(fit, fit.cells)
    genes, before = next(fold_predictors(fit, landmarks))
    other = landmarks.reference.copy()
    other[:, genes] = np.random.default_rng(0).normal(size=other[:, genes].shape)
    _, after = next(fold_predictors(fit, dataclasses.replace(landmarks, reference=other)))
    names, values = landmarks.names[genes], landmarks.cells[:, genes]
    np.testing.assert_allclose(
        before.predict(names, values), after.predict(names, values), rtol=1e-5, atol=1e-6
    )


def test_bootstrap_draws_are_weighted_means_under_exponential_weights(fits):
    fit, genes = fits["plain"], ["stripe14_1", "stripe7_1"]
    draws = bootstrap_patterns(fit, genes, seed=4, draws=3)
    assert draws.shape == (3, 120, 2)
    weights = np.random.default_rng(4).exponential(size=(150, 3))
    near, far = (np.asarray(side, np.float64) for side in fit.distance_space())
    alpha, beta = float(fit.weights.alpha[0]), float(fit.weights.beta[0])
    w = oracle.weights(oracle.mahalanobis(near, far, np.eye(near.shape[1])), np.ones(len(far)), alpha, beta)
    logs = fit.preprocessing.apply(fit.cells.dense(genes))
    for draw in range(3):
        expected = oracle.weighted_mean(w * weights[:, [draw]], logs)
        np.testing.assert_allclose(draws[draw], expected, rtol=1e-3, atol=1e-4)


def test_standard_error_is_the_spread_of_the_bootstrap(fits):
    fit = fits["plain"]
    draws = bootstrap_patterns(fit, ["stripe14_1", "gap1", "stripe7_1"], seed=0, draws=1500)
    found = summarise(fit, ["stripe14_1", "gap1", "stripe7_1"], level=None)
    # Equal to first order: what is left is of the order of one over the effective number of cells.
    many = found.obs["effective_cells"].to_numpy() > 15
    assert many.sum() > 30
    gap = np.abs(draws.mean(axis=0) - found.X)[many] / draws.std(axis=0)[many]
    ratio = draws.std(axis=0)[many] / found.layers["standard_error"][many]
    assert gap.max() < 0.25
    assert abs(np.median(ratio) - 1) < 0.05
    assert ratio.min() > 0.8
    assert ratio.max() < 1.2


def test_bootstrap_blocks_are_the_whole_and_the_seed_decides(fits):
    names, blocks = zip(*bootstrap_blocks(fits["experts"], seed=1, draws=3), strict=True)
    joined = np.concatenate(blocks, axis=2)
    assert list(np.concatenate(names)) == list(fits["experts"].cells.genes)
    some = bootstrap_patterns(fits["experts"], ["stripe14_1"], seed=1, draws=3)
    at = list(fits["experts"].cells.genes).index("stripe14_1")
    np.testing.assert_allclose(some[..., 0], joined[..., at], rtol=1e-3, atol=1e-4)
    assert not np.allclose(
        some, bootstrap_patterns(fits["experts"], ["stripe14_1"], seed=2, draws=3), atol=1e-3
    )
    with pytest.raises(PerlerInputError, match="unknown"):
        bootstrap_blocks(fits["plain"], ["nobody"], seed=1)
    with pytest.raises(PerlerInputError, match="at least one draw"):
        bootstrap_blocks(fits["plain"], seed=1, draws=0)


def test_totals_of_parts_of_the_cells_add_up(fits):
    fit = fits["foreign"]
    predictor = whole_predictor(fit, fit.cells)
    assert predictor.source.votes is not None
    half = (np.arange(150) % 2 == 0)[:, None].astype(float)
    totals = predictor.total(np.hstack([half, 1 - half]))
    everyone = predictor.total(np.ones((150, 1)))
    np.testing.assert_allclose(totals.sum(axis=1), everyone[:, 0], rtol=1e-5)
