"""Methods written from their publications (Halpern, Achim, Seurat v1) against examples worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from experiments.compare.contract import Cells, Reference
from experiments.compare.methods import achim, halpern, seurat_v1
from experiments.compare.methods.lasso import lasso
from experiments.compare.methods.on_off import on_off
from experiments.compare.problems import make_problem


@pytest.fixture(scope="module")
def simulated():
    return make_problem("simulated", None, {"seed": 0, "folds": 10})


def accuracy(problem, predict, knob):
    task = problem.task(0)
    found = predict(task.cells, task.reference, task.genes, knob)
    truth = problem.truth[:, problem.folds[0]]
    scores = [np.corrcoef(*pair)[0, 1] for pair in zip(found.values.T, truth.T, strict=True)]
    np.testing.assert_allclose(found.mapping().sum(axis=1), 1.0)
    return np.mean(scores)


# Halpern et al. 2017


def test_halpern_by_hand():
    """Shape 1 makes a geometric distribution; mean 1 in one zone, 3 in the other; molecules 3 and 1.

    The cells' mean is that of the zones, 2, so the sensitivity is 1: P(n) = 2^-(n+1), or (3/4)^n / 4.
    """
    counts, totals, even = np.array([[3.0], [1.0]]), np.ones(2), np.array([0.5, 0.5])
    shapes, rates = np.ones((2, 1)), np.array([[1.0], [1 / 3]])
    likelihood = halpern.log_likelihood(counts, totals, shapes, rates, even)
    np.testing.assert_allclose(np.exp(likelihood), [[1 / 16, 27 / 256], [1 / 4, 3 / 16]])
    np.testing.assert_allclose(halpern.posterior(likelihood, even)[:, 0], [16 / 43, 4 / 7])
    # Of three cells two are from the second zone, say their areas.
    np.testing.assert_allclose(halpern.posterior(likelihood, np.array([1, 2]) / 3)[1], [2 / 5, 3 / 5])


def test_halpern_is_the_negative_binomial_of_each_landmark():
    rng = np.random.default_rng(0)
    counts, totals = rng.poisson(4.0, (5, 3)).astype(float), rng.uniform(50, 150, 5)
    shapes, rates, prior = rng.uniform(0.5, 4, (2, 3)), rng.uniform(0.2, 2, (2, 3)), np.array([0.3, 0.7])
    factors = counts.sum(axis=0) / totals.sum() / (0.3 * shapes[0] / rates[0] + 0.7 * shapes[1] / rates[1])
    expected = np.zeros((5, 2))
    for cell, zone, gene in np.ndindex(5, 2, 3):
        mean = totals[cell] * factors[gene] / rates[zone, gene]  # for each unit of the shape
        each = scipy.stats.nbinom(shapes[zone, gene], 1 / (1 + mean))
        expected[cell, zone] += each.logpmf(counts[cell, gene])
    np.testing.assert_allclose(halpern.log_likelihood(counts, totals, shapes, rates, prior), expected)


def test_halpern_fits_the_gamma_distribution_under_the_sampling_noise():
    """Likeliest of a grid of shapes, against SciPy; drawn: 20,000 cells of shape 3 and rate 0.5."""
    counts, sizes = np.array([[0.0], [10.0], [3.0]]), np.array([1.0, 2.0, 1.0])
    mean = 13.5 / 4  # half a molecule more
    grid = np.logspace(-1, 3, 33)
    fits = [scipy.stats.nbinom(r, r / (r + sizes * mean)).logpmf(counts[:, 0]).sum() for r in grid]
    shape, rate = halpern.gamma_of_cells(counts, sizes)
    np.testing.assert_allclose([shape[0], shape[0] / rate[0]], [grid[np.argmax(fits)], mean])
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.5, 2, 20_000)
    counts = rng.poisson(sizes * rng.gamma(3.0, 2.0, 20_000))[:, None]
    shape, rate = halpern.gamma_of_cells(counts, sizes)
    assert shape[0] == grid[np.abs(np.log(grid / 3)).argmin()]
    assert shape[0] / rate[0] == pytest.approx(6.0, rel=0.01)


def test_halpern_profiles_and_their_standard_errors():
    means, errors = halpern.zone_profiles(np.array([[1.0], [3.0]]), np.array([[0.5], [0.5]]))
    np.testing.assert_allclose([means[0, 0], errors[0, 0]], [2.0, np.sqrt(0.5)])
    rng = np.random.default_rng(0)
    expression, weights = rng.gamma(2.0, 3.0, (400, 2)), rng.dirichlet(np.ones(3), 400)
    draws = []
    for _ in range(1000):  # the publication's bootstrap
        drawn = rng.integers(0, 400, 400)
        draws.append(halpern.zone_profiles(expression[drawn], weights[drawn])[0])
    means, errors = halpern.zone_profiles(expression, weights)
    np.testing.assert_allclose(errors, np.std(draws, axis=0), rtol=0.1)


def test_halpern_needs_counts_on_both_sides_and_predicts_unseen_genes(simulated):
    with pytest.raises(ValueError, match="none for its map"):
        accuracy(simulated, halpern.predict, None)
    molecules = np.random.default_rng(0).poisson(20 * simulated.values).astype(float)
    problem = replace(simulated, values=molecules, totals=np.maximum(molecules.sum(axis=1), 1.0))
    assert accuracy(problem, halpern.predict, None) > 0.4
    without = replace(problem, cells=replace(problem.cells, counts=None))
    with pytest.raises(ValueError, match="none for its cells"):
        accuracy(without, halpern.predict, None)


# Achim et al. 2015


def test_achim_by_hand():
    """Means 2 and 2: cell one has r 3/2 and 0, cell two 1/2 and 2."""
    specific = achim.specificity(np.array([[3.0, 0.0], [1.0, 4.0]]))
    np.testing.assert_allclose(specific, [[3 / 5, 0], [1 / 3, 2 / 3]])
    atlas = np.array([[True, False], [False, True], [True, True]])
    expected = [[3 / 5, -3 / 5, 3 / 5], [-1 / 3, 1 / 3, 1]]
    np.testing.assert_allclose(achim.correspondence(specific, atlas), expected)
    assert not achim.specificity(np.zeros((2, 1))).any()  # nowhere expressed


def test_achim_places_as_many_shuffled_cells_as_the_level_says():
    rng = np.random.default_rng(0)
    specific = np.where(rng.random((400, 30)) < 0.5, rng.random((400, 30)), 0.0)
    atlas = rng.random((60, 30)) < 0.4
    placed = achim.places(specific, atlas, 0.2, np.random.default_rng(1)).any(axis=1)
    assert placed.mean() == pytest.approx(0.2, abs=0.06)
    # Cells that match a location are placed there, and nowhere else.
    true = rng.integers(0, 60, 400)
    matching = np.where(atlas[true], 0.7, 0.0)
    found = achim.places(matching, atlas, 0.05, np.random.default_rng(1))
    assert found[np.arange(400), true].mean() > 0.9
    assert found.sum(axis=1).mean() < 1.5


def test_achim_gives_places_without_cells_the_mean_of_all():
    names = np.array(["a", "b", "c", "y"])
    log = np.array([[2.0, 2.0, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    atlas = np.array([[1, 1, 0], [0, 0, 1.0]])
    reference = Reference(atlas, atlas, None, names[:3], np.eye(2))
    # Cell one matches location one, as one in three of its shuffled copies does. Cell two has no place.
    found = achim.predict(Cells(log, None, names), reference, names[3:], [0.0, 0.9])
    np.testing.assert_allclose(found.values, [[5.0], [3.0]])
    np.testing.assert_allclose(found.mapping(), [[1.0, 0.0], [0.5, 0.5]])


def test_on_off_takes_the_published_map_where_there_is_one():
    linear = np.array([[0.0], [1.0], [2.0], [3.0]])
    reference = Reference(linear, np.log2(1 + linear), None, np.array(["g"]), np.eye(4))
    np.testing.assert_array_equal(on_off(reference, 0.0)[:, 0], [False, True, True, True])
    np.testing.assert_array_equal(on_off(reference, 0.5)[:, 0], [False, False, True, True])
    published = replace(reference, binary=np.array([[1], [0], [0], [1]]))
    np.testing.assert_array_equal(on_off(published, 0.0)[:, 0], [True, False, False, True])
    np.testing.assert_array_equal(on_off(published, 0.5)[:, 0], [False, False, True, True])


# Seurat v1


def test_lasso_by_hand():
    """Orthogonal predictors: coefficients are the correlations less a threshold, which is the next one's."""
    cross = np.array([3.0, -2.0, 1.0])
    for steps, expected in {0: [0, 0, 0], 1: [1, 0, 0], 2: [2, -1, 0], 3: [3, -2, 1], 9: [3, -2, 1]}.items():
        np.testing.assert_allclose(lasso(np.eye(3), cross, steps), expected, atol=1e-8)


def test_lasso_is_on_the_path_at_every_step():
    """Predictors in use correlate alike with what is left, with their sign; no other one does more."""
    rng = np.random.default_rng(33)
    x = rng.normal(size=(40, 8)) @ rng.normal(size=(8, 12)) + 0.3 * rng.normal(size=(40, 12))
    y = x @ rng.normal(size=12) + rng.normal(size=40)
    gram, cross = x.T @ x, x.T @ y
    sizes = []
    for steps in range(1, 60):
        coefficients = lasso(gram, cross, steps)
        left = cross - gram @ coefficients
        inside = coefficients != 0
        sizes.append(inside.sum())
        largest = np.abs(left).max()
        np.testing.assert_allclose(left[inside], largest * np.sign(coefficients[inside]), atol=1e-6)
    assert (np.diff(sizes) < 0).any()  # a predictor left on the way
    np.testing.assert_allclose(coefficients, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-6)


def test_seurat_imputes_a_landmark_from_other_genes_only():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=200)
    expression = np.stack([hidden, hidden + 0.3 * rng.normal(size=200), rng.normal(size=200)], axis=1)
    found = seurat_v1.impute(expression, np.array([0]), np.array([0]))
    np.testing.assert_allclose(found[:, 0], hidden.mean(), atol=1e-12)
    noisy = seurat_v1.impute(expression, np.array([1]), np.array([0, 1, 2]))[:, 0]
    assert np.corrcoef(noisy, hidden)[0, 1] > 0.99  # the noise of the landmark itself is gone


def test_seurat_two_normals_and_posterior_by_hand():
    """Three cells about 0, three about 10, on in half of the bins: both variances are 2/3."""
    values = np.array([-1.0, 0.0, 1.0, 9.0, 10.0, 11.0])
    means, deviations = seurat_v1.two_normals(values, 0.5)
    np.testing.assert_allclose(means, [0, 10], atol=1e-9)
    np.testing.assert_allclose(deviations, np.sqrt([2 / 3, 2 / 3]), atol=1e-9)
    found = seurat_v1.bin_posterior(values[:, None], np.array([[1.0], [0.0]]))
    np.testing.assert_allclose(found[:, 0], [0, 0, 0, 1, 1, 1], atol=1e-9)


def test_seurat_posterior_is_a_product_over_landmarks():
    rng = np.random.default_rng(0)
    imputed, atlas = rng.normal(size=(30, 3)), rng.random((4, 3)) < 0.5
    expected = np.ones((30, 4))
    for gene in range(3):
        means, deviations = seurat_v1.two_normals(imputed[:, gene], atlas[:, gene].mean())
        for place in range(4):
            state = int(atlas[place, gene])
            expected[:, place] *= scipy.stats.norm(means[state], deviations[state]).pdf(imputed[:, gene])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seurat_v1.bin_posterior(imputed, atlas), expected)


def test_seurat_refines_by_a_multivariate_normal_in_each_bin():
    rng = np.random.default_rng(0)
    imputed, weights = rng.normal(size=(20, 2)), rng.dirichlet(np.ones(3), 20)
    coordinates = np.array([[0.0], [1.0], [3.0]])
    expected = np.zeros((20, 3))
    for place in range(3):
        distance = np.abs((weights @ coordinates)[:, 0] - coordinates[place, 0])
        own = imputed[np.argsort(distance)[:4]]  # twice as many cells as genes
        covariance = np.cov(own.T) + np.diag(0.1 * imputed.var(axis=0))
        expected[:, place] = scipy.stats.multivariate_normal(own.mean(axis=0), covariance).pdf(imputed)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seurat_v1.refine(imputed, weights, coordinates), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("predict", "knob", "least"),
    [
        (seurat_v1.predict, [0.8, True], 0.45),
        (seurat_v1.predict, [0.8, False], 0.35),
        (achim.predict, [0.8, 0.9], 0.1),
    ],
)
def test_binary_methods_predict_unseen_genes(simulated, predict, knob, least):
    assert accuracy(simulated, predict, knob) > least
