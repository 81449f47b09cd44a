"""The objective of a fit as a function of everything that makes a prediction: value, slopes, a search."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perler_jax as pj
from perler_jax.errors import PerlerInputError
from perler_jax.held_out.cross_validation import held_out_predictions
from perler_jax.held_out.prediction import HeldOutParams
from perler_jax.prediction.polishing import smoother
from perler_jax.prediction.regression import prepare_regression
from perler_jax.weights import WeightParams, distance_space, weighted_means

SETTINGS = pj.PerlerSettings(n_metagenes=6, folds=5, dtype="float64")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=3, n_locations=120, n_cells=90, n_genes=40, n_landmarks=15)


@pytest.fixture(scope="module")
def fit(embryo):
    return pj.fit_perler(embryo.cells, embryo.reference, settings=SETTINGS, progress=False)


@pytest.fixture(scope="module")
def made(fit):
    with jax.enable_x64(True):
        objective, params = pj.differentiable_objective(fit)
        return objective, jax.tree.map(jnp.asarray, params)


def total(objective):
    return jax.jit(lambda params: objective(params).sum())


def test_slopes_in_all_parameters_equal_finite_differences(made):
    objective, params = made
    assert params.shares.shape == (len(params.alpha) + 1,)
    # No share sits at the edge, where a difference would leave the support.
    params = dataclasses.replace(params, shares=params.shares + 0.05, alpha=params.alpha + 0.01)
    value, slopes = total(objective), jax.grad(total(objective))(params)
    leaves, structure = jax.tree.flatten(params)
    for number, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(slopes), strict=True)):
        for at in np.ndindex(leaf.shape):
            step = 1e-5 * max(1.0, float(abs(leaf[at])))

            def moved(by, number=number, leaf=leaf, at=at):
                return jax.tree.unflatten(
                    structure, [*leaves[:number], leaf.at[at].add(by), *leaves[number + 1 :]]
                )

            expected = float(value(moved(step)) - value(moved(-step))) / (2 * step)
            np.testing.assert_allclose(slope[at], expected, rtol=1e-5, atol=1e-7)


def test_the_prediction_is_the_mixture_of_its_parts(fit, made):
    """Two weighted means, a regression beside them and alone, smoothed in part: with NumPy, fold by fold."""
    objective, start = made
    params = dataclasses.replace(
        start,
        alpha=jnp.array([0.3, 0.05]),
        beta=jnp.array([0.0, 0.6]),
        shares=jnp.array([1.0, 2.0, 1.0]),
        ridge=jnp.asarray(1.5),
        smoothed=jnp.asarray(0.4),
    )
    y, h = (np.asarray(side, np.float64) for side in (objective.data.cells, objective.data.reference))
    smooth = smoother(fit.reference.coordinates, float(params.smoothing)).toarray()
    found = objective.scores(params)
    for fold in range(5):
        genes = np.asarray(fit.held_out.genes[fold])[np.asarray(fit.held_out.held[fold])]
        kept = np.ones(len(fit.landmarks), bool)
        kept[genes] = False
        regression = prepare_regression(y.T @ y / len(y), h.T @ h / len(h), kept, ridge=1.5)
        of_cells, of_map = regression.coefficients(y.T @ y[:, genes] / len(y))
        one = jax.tree.map(lambda leaf, fold=fold: leaf[fold : fold + 1], fit.held_out)
        rest = jnp.asarray(y).at[:, genes].set(y[:, genes] - y @ of_cells)
        prediction = h @ of_map
        for alpha, beta, share in zip(params.alpha, params.beta, (0.25, 0.5), strict=True):
            near = _means(
                one,
                WeightParams.single(float(alpha), float(beta)),
                jnp.asarray(y),
                rest,
                jnp.asarray(h),
                genes,
            )
            prediction = prediction + share * near
        prediction = 0.6 * prediction + 0.4 * smooth @ prediction
        expected = [np.corrcoef(prediction[:, i], h[:, gene])[0, 1] for i, gene in enumerate(genes)]
        np.testing.assert_allclose(found[genes], expected, atol=2e-4)


def _means(fits, weights, y, values, h, genes):
    """Weighted means of other values than the landmarks that are compared with the map."""
    fit = jax.tree.map(lambda leaf: leaf[0], fits)
    near, far = distance_space(fit.params, y @ fit.cell_loadings, h @ fit.reference_loadings, "fitted")
    return np.asarray(weighted_means(weights, near, far, fit.params.log_location_weights, values))[0][
        :, genes
    ]


def test_one_weighted_mean_alone_is_the_papers(fit, made):
    objective, _ = made
    point = HeldOutParams(0.2, 0.4)
    data = objective.data
    predicted = held_out_predictions(fit.held_out, WeightParams.single(0.2, 0.4), data.cells, data.reference)
    expected = [np.corrcoef(predicted[:, g], data.reference[:, g])[0, 1] for g in range(len(fit.landmarks))]
    np.testing.assert_allclose(objective.scores(point), expected, rtol=1e-6)


def test_steps_along_the_gradient_raise_j(made):
    objective, params = made
    logs = jax.tree.map(jnp.log, dataclasses.replace(params, smoothed=None))
    step = jax.jit(jax.value_and_grad(lambda logs: -objective(jax.tree.map(jnp.exp, logs)).sum()))
    optimiser = optax.adam(0.05)
    state, values = optimiser.init(logs), []
    for _ in range(15):
        value, slopes = step(logs)
        values.append(-float(value))
        updates, state = optimiser.update(slopes, state)
        logs = optax.apply_updates(logs, updates)
    assert values[-1] > values[0] + 1e-3


def test_what_has_no_gradient_is_refused(embryo, fit):
    plain = pj.fit_perler(
        embryo.cells, embryo.reference, settings=SETTINGS, weights=(0.1, 0.2), progress=False
    )
    with pytest.raises(
        PerlerInputError, match="fit with held-out landmarks; found one made with given weights"
    ):
        pj.differentiable_objective(plain)
    objective, params = pj.differentiable_objective(fit)
    for wrong, message in (
        ({"shares": np.ones(1)}, "a share for each of"),
        ({"smoothing": None}, "expected smoothing where a share is smoothed"),
    ):
        with pytest.raises(PerlerInputError, match=message):
            objective(dataclasses.replace(params, **wrong))
