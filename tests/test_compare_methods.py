"""The methods of the comparison against loops, closed forms and each other; peers where installed."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg

from experiments.common import load_config
from experiments.compare import __main__ as compare_main
from experiments.compare.contract import Cells, Reference
from experiments.compare.methods import baselines, distmap, ours, spage
from experiments.compare.problems import make_problem
from experiments.compare.runner import configured_methods, missing, prepared, run_method
from perler_jax import PerlerSettings, fit_perler

METHODS = {each.name: each for each in configured_methods(load_config(compare_main.__file__))}


@pytest.fixture
def sides():
    """15 cells and 12 locations that share two patterns; six genes, the last two held out."""
    rng = np.random.default_rng(4)
    patterns = rng.normal(size=(2, 6))
    cells, places = (
        4.0 + rng.normal(size=(n, 2)) @ patterns + 0.1 * rng.normal(size=(n, 6)) for n in (15, 12)
    )
    names = np.array([f"g{number}" for number in range(6)])
    linear = 2.0 ** places[:, :4] - 1.0
    reference = Reference(linear, places[:, :4], None, names[:4], rng.normal(size=(12, 2)))
    return Cells(cells, None, names), reference, names[4:], places[:, 4:]


@pytest.fixture(scope="module")
def task():
    return make_problem("simulated", None, {"seed": 0, "folds": 10}).task(0)


def zscore(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def test_gene_mean_is_flat(sides):
    cells, reference, genes, _ = sides
    values = baselines.gene_mean(cells, reference, genes).values
    np.testing.assert_allclose(values, np.tile(cells.log[:, 4:].mean(axis=0), (12, 1)))


@pytest.mark.parametrize("count", [1, 4, 99])
def test_nearest_neighbours_against_loops(sides, count):
    cells, reference, genes, _ = sides
    near, far = zscore(cells.log[:, :4]), zscore(reference.log)
    found = baselines.nearest_neighbours(cells, reference, genes, count)
    mapping = found.mapping()
    for k in range(12):
        order = sorted(range(15), key=lambda n, k=k: float(((near[n] - far[k]) ** 2).sum()))[:count]
        np.testing.assert_allclose(found.values[k], cells.log[order, 4:].mean(axis=0))
    for n in range(15):
        order = sorted(range(12), key=lambda k, n=n: float(((near[n] - far[k]) ** 2).sum()))[:count]
        assert set(np.flatnonzero(mapping[n])) == set(order)
    np.testing.assert_allclose(mapping.sum(axis=1), 1.0)


def test_ridge_is_penalised_least_squares(sides):
    cells, reference, genes, _ = sides
    landmarks, values = zscore(cells.log[:, :4]), cells.log[:, 4:]
    means = values.mean(axis=0)
    stacked = np.concatenate([landmarks, np.sqrt(0.3 * 15) * np.eye(4)])
    expected = np.linalg.lstsq(stacked, np.concatenate([values - means, np.zeros((4, 2))]), rcond=None)[0]
    found = baselines.ridge(cells, reference, genes, 0.3).values
    np.testing.assert_allclose(found, zscore(reference.log) @ expected + means, atol=1e-10)


def test_kernel_ridge_is_the_mean_of_a_gaussian_process(sides):
    """The posterior mean given noisy values, cell by cell: joint normal of all values, conditioned."""
    cells, reference, genes, _ = sides
    near, far = zscore(cells.log[:, :4]), zscore(reference.log)
    rows = np.concatenate([far, near])
    joint = np.array([[np.exp(-((a - b) ** 2).sum() / (2 * 0.8**2 * 4)) for b in rows] for a in rows])
    joint[12:, 12:] += 0.3 * np.eye(15)
    precision = np.linalg.inv(joint)
    centred = cells.log[:, 4:] - cells.log[:, 4:].mean(axis=0)
    expected = -np.linalg.solve(precision[:12, :12], precision[:12, 12:] @ centred)
    found = baselines.kernel_ridge(cells, reference, genes, 0.3, 0.8).values
    np.testing.assert_allclose(found, expected + cells.log[:, 4:].mean(axis=0), atol=1e-8)


def test_kernel_ridge_by_hand():
    """Two cells at -1 and 1, locations likewise: K = [[1, k], [k, 1]], values centred to -1 and 1."""
    names = np.array(["l", "y"])
    cells = Cells(np.array([[2.0, 5.0], [4.0, 7.0]]), None, names)
    reference = Reference(np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]]), None, names[:1], np.eye(2))
    k = np.exp(-4 / 2)  # a distance of 2, width 1, one landmark
    found = baselines.kernel_ridge(cells, reference, names[1:], 0.5, 1.0).values[:, 0]
    np.testing.assert_allclose(found, 6 + np.array([-1, 1]) * (1 - k) / (1.5 - k))


def test_translation_of_full_rank_is_penalised_least_squares_over_genes(sides):
    cells, reference, genes, _ = sides
    x, h = cells.log[:, :4], reference.log
    weight = 0.2 * (x**2).sum() / 4
    w = np.linalg.lstsq(
        np.concatenate([x.T, np.sqrt(weight) * np.eye(15)]),
        np.concatenate([h.T, np.zeros((15, 12))]),
        rcond=None,
    )[0].T
    found = baselines.low_rank_translation(cells, reference, genes, 0.2, 99).values
    np.testing.assert_allclose(found, w @ cells.log[:, 4:], atol=1e-8)


def test_translation_of_low_rank_is_the_best_of_its_rank(sides):
    """Against alternating least squares on the two factors of W, to convergence."""
    cells, reference, _, _ = sides
    x, h = cells.log[:, :4], reference.log
    weight = 0.2 * (x**2).sum() / 4
    rows = np.concatenate([x.T, np.sqrt(weight) * np.eye(15)])  # samples x cells
    wanted = np.concatenate([h.T, np.zeros((15, 12))])
    right = np.random.default_rng(0).normal(size=(15, 1))
    for _ in range(500):
        left = np.linalg.lstsq(rows @ right, wanted, rcond=None)[0]
        right = np.linalg.lstsq(rows, wanted @ np.linalg.pinv(left), rcond=None)[0]
    # Every gene of the cells may be asked for: a unit vector is a cell.
    asked = Cells(np.concatenate([x, np.eye(15)], axis=1), None, np.array([f"g{n}" for n in range(19)]))
    found = baselines.low_rank_translation(asked, reference, asked.genes[4:], 0.2, 1).values
    np.testing.assert_allclose(found, (right @ left).T, atol=1e-6)
    assert np.linalg.matrix_rank(found, tol=1e-8) == 1


@pytest.mark.parametrize(
    "predict",
    [
        lambda *task: baselines.ridge(*task, 0.5, False),
        lambda *task: baselines.kernel_ridge(*task, 0.5, 1.0, False),
        lambda *task: baselines.nearest_neighbours(*task, 3, False),
        lambda *task: spage.predict(*task, [3, False]),
    ],
)
def test_without_levels_a_factor_on_a_whole_row_changes_nothing(sides, predict):
    cells, reference, genes, _ = sides
    shifts = np.random.default_rng(1).normal(size=(12, 1))
    brighter = replace(reference, log=reference.log + shifts)
    same = predict(cells, reference, genes).values
    np.testing.assert_allclose(predict(cells, brighter, genes).values, same, atol=1e-9)


def test_principal_vectors_have_the_principal_angles(sides):
    cells, reference, _, _ = sides
    source, target = zscore(cells.log[:, :4]), zscore(reference.log)
    vectors, cosines = spage.principal_vectors(source, target, 2)
    axes = [np.linalg.svd(side)[2][:2].T for side in (source, target)]
    angles = np.sort(scipy.linalg.subspace_angles(*axes))
    np.testing.assert_allclose(np.arccos(np.clip(cosines, -1, 1)), angles, atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(axes[0] @ axes[0].T @ vectors, vectors, atol=1e-12)  # within the cells' space


def test_spage_against_loops(sides):
    cells, reference, genes, _ = sides
    source, target = zscore(cells.log[:, :4]), zscore(reference.log)
    vectors, cosines = spage.principal_vectors(source, target, 3)
    vectors = vectors[:, cosines > 0.3]
    found = spage.predict(cells, reference, genes, [3, True]).values
    for k in range(12):
        place = target[k] @ vectors
        distances = []
        for row in source @ vectors:
            distances.append(1 - row @ place / np.linalg.norm(row) / np.linalg.norm(place))
        near = [n for n in np.argsort(distances)[:50] if distances[n] < 1]
        total = sum(distances[n] for n in near)
        weights = [(1 - distances[n] / total) / (len(near) - 1) for n in near]
        assert sum(weights) == pytest.approx(1.0)
        expected = sum(w * cells.log[n, 4:] for w, n in zip(weights, near, strict=True))
        np.testing.assert_allclose(found[k], expected, atol=1e-10)


BASELINES = ["nearest", "ridge", "kernel_ridge", "translation", "spage_like", "distmap"]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_predict_unseen_genes(task, name):
    method = METHODS[name]
    predict = {"spage_like": spage, "distmap": distmap}.get(name, baselines).predict
    truth = make_problem("simulated", None, {"seed": 0, "folds": 10}).truth
    columns = [int(np.flatnonzero(task.cells.genes == gene)[0]) for gene in task.genes]
    best = -1.0
    for knob in method.candidates:
        values = predict(task.cells, task.reference, task.genes, knob, **method.options).values
        scores = [np.corrcoef(values[:, at], truth[:, each])[0, 1] for at, each in enumerate(columns)]
        best = max(best, float(np.mean(scores)))
    assert best > 0.45


def test_distmap_takes_the_published_binary_map(task):
    binary = task.reference.linear > np.quantile(task.reference.linear, 0.6, axis=0)
    own = replace(task.reference, binary=binary)
    by_name = distmap.predict(task.cells, own, task.genes, [0.0, 0.0])
    by_quantile = distmap.predict(task.cells, task.reference, task.genes, [0.6, 0.0])
    np.testing.assert_array_equal(by_name.values, by_quantile.values)
    np.testing.assert_allclose(by_name.mapping().sum(axis=1), 1.0)


@pytest.mark.parametrize("preset", [None, "paper"])
def test_ours_is_the_call_that_a_user_makes(task, preset):
    named = [f"cell {n}" for n in range(len(task.cells.log))]
    table = pd.DataFrame(task.cells.log, named, task.cells.genes)
    places = [f"location {n}" for n in range(len(task.reference.linear))]
    reference = pd.DataFrame(task.reference.log, places, task.reference.genes)
    settings = PerlerSettings() if preset is None else PerlerSettings.paper()
    fit = fit_perler(
        *(table, reference),
        settings=settings,
        cells_scale="log2",
        reference_scale="log2",
        coordinates=task.reference.coordinates,
        progress=False,
    )
    expected = fit.reconstruct(task.genes.tolist()).X
    found = ours.predict(task.cells, task.reference, task.genes, None, preset=preset)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    np.testing.assert_allclose(found.mapping(), fit.posterior().to_numpy(), atol=1e-4)


PEERS = [name for name, method in METHODS.items() if not method.is_builtin]


@pytest.mark.parametrize("name", PEERS)
def test_peers_run_through_files(name):
    """Slow; only where it is asked for by PERLER_JAX_PEERS=1."""
    if os.environ.get("PERLER_JAX_PEERS") != "1":
        pytest.skip("set PERLER_JAX_PEERS=1 to run the peers that are installed")
    method = replace(METHODS[name], problems=())
    reason = missing(method, "simulated")
    if reason:
        pytest.skip(reason)
    method = replace(method, candidates=method.candidates[-1:])
    problem = make_problem("simulated", None, {"seed": 0, "folds": 10}).first_folds(1)
    problem = replace(problem, totals=np.maximum(problem.values.sum(axis=1), 1.0))
    if name == "gimvi":
        method = replace(method, options={"epochs": 2})
        problem = replace(problem, values=np.round(100 * problem.values))
    with prepared(problem) as tasks:
        run = run_method(method, problem, tasks)
    held = problem.folds[0]
    assert np.isfinite(run.values[0][:, held]).all()
    assert run.version
    assert isinstance(run.method.module, Path)
