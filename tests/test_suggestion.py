"""Genes to measure next: variances and gains against loops, and against the truth of a simulated embryo."""

import dataclasses

import numpy as np
import pytest

from perler_jax import PerlerSettings, fit_perler, simulate_embryo
from perler_jax.errors import PerlerInputError
from perler_jax.trust.landmark_space import space_of_fit
from perler_jax.trust.panel_criteria import RemainingEntropy
from perler_jax.trust.suggestion import split_molecules, suggest_landmarks


def mapped(embryo, landmarks):
    settings = PerlerSettings(n_metagenes=60)
    reference = embryo.reference[:, landmarks].copy()
    return fit_perler(embryo.cells, reference, settings=settings, weights=(0.2, 0.1), progress=False)


@pytest.fixture(scope="module")
def embryo():
    """Shallow enough that genes differ in how well they can be counted."""
    return simulate_embryo(
        seed=6, n_locations=250, n_cells=300, n_genes=80, n_landmarks=30, cell_noise=0.3, depth=800
    )


@pytest.fixture(scope="module")
def fit(embryo):
    """Only every third landmark is measured in the tissue."""
    return mapped(embryo, np.arange(0, 30, 3))


def test_halves_of_molecules_are_independent_measurements():
    rng = np.random.default_rng(0)
    rate = rng.gamma(4.0, 2.0, (20_000, 1))
    one, other = split_molecules(rng.poisson(np.repeat(rate, 2, axis=1)).astype(float), rng)
    assert np.all((one >= 0) & (other >= 0) & (one == np.round(one)))
    # Given the rate the halves are independent Poisson: what they share is the variance of half the rate.
    shared = np.cov(one[:, 0], other[:, 0])[0, 1]
    assert shared == pytest.approx((rate / 2).var(), rel=0.1)
    assert ((one - other) ** 2).mean() == pytest.approx(rate.mean(), rel=0.05)


def oracle(fit, genes, order_of_genes, seed):
    """Signal, noise and covariance of what landmarks leave unexplained; one regression per gene and half."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(300)
    halves = np.sort(order[::2]), np.sort(order[1::2])
    factors = fit.preprocessing.factors[:, None]
    counts = fit.cells.dense(genes).astype(float)
    thinned = rng.binomial(counts.astype(int), 0.5)

    def log2(values):
        values = np.log2(1 + values * factors)
        return values - values.mean(0)

    h = log2(fit.cells.dense(fit.landmarks).astype(float))
    h = h / h.std(0)

    def unexplained(values):
        left = np.zeros_like(values)
        for learn, apply in (halves, halves[::-1]):
            gram = h[learn].T @ h[learn] + 0.5 * len(learn) * np.eye(h.shape[1])
            for gene in range(values.shape[1]):
                b = np.linalg.solve(gram, h[learn].T @ values[learn, gene])
                left[apply, gene] = values[apply, gene] - h[apply] @ b
        return left

    one, other = log2(2.0 * thinned), log2(2.0 * (counts - thinned))
    signal = np.maximum((unexplained(one) * unexplained(other)).mean(0), 0)
    noise = 0.5 * ((one - other) ** 2).mean(0)
    left = unexplained(log2(counts))
    covariance = left.T @ left / 300
    np.fill_diagonal(covariance, signal)
    chosen = [list(genes).index(gene) for gene in order_of_genes]
    return signal[chosen], noise[chosen], covariance[np.ix_(chosen, chosen)]


def test_gains_are_the_capacity_of_a_gaussian_channel(fit):
    """Gene by gene they add up to the log determinant of all suggested genes together."""
    genes = fit.cells.genes[~np.isin(fit.cells.genes, fit.landmarks)][:20]
    found = suggest_landmarks(fit, 6, candidates=genes, least_agreement=-1, seed=3, progress=False)
    signal, noise, covariance = oracle(fit, genes, found.index, seed=3)
    np.testing.assert_allclose(found["signal"], signal, atol=1e-9)
    np.testing.assert_allclose(found["noise"], noise, atol=1e-9)
    np.testing.assert_allclose(found["gain_alone"], 0.5 * np.log1p(signal / noise), atol=1e-9)
    scaled = covariance / np.sqrt(noise[:, None] * noise)
    together = [0.5 * np.linalg.slogdet(np.eye(k) + scaled[:k, :k])[1] for k in range(1, 7)]
    np.testing.assert_allclose(np.cumsum(found["gain"]), together, atol=1e-9)
    assert np.all(found["gain"] <= found["gain_alone"] + 1e-12)
    assert found["gain"].iloc[0] == found["gain_alone"].max()
    counts = fit.cells.dense(found.index.to_numpy())
    np.testing.assert_allclose(found["detected"], (counts > 0).mean(0))


def test_agreement_tells_patterns_from_what_only_differs_between_cells(embryo, fit):
    """Genes without pattern vary from cell to cell too, and reproducibly so."""
    classes = embryo.truth.var["class"]
    every = suggest_landmarks(fit, 70, least_agreement=-1, progress=False)
    unspatial = (classes[every.index] == "unspatial").to_numpy()
    assert unspatial.sum() >= 20
    assert every.loc[unspatial, "signal"].median() > 0.05
    # Not zero: all genes of a cell share its depth.
    assert every.loc[unspatial, "agreement"].mean() < 0.12 < every.loc[~unspatial, "agreement"].median() / 2
    assert every.loc[~unspatial, "agreement"].median() > 3 / np.sqrt(300)
    passed = suggest_landmarks(fit, 70, progress=False)
    assert 20 <= len(passed) < len(every)
    assert (classes[passed.index] == "unspatial").mean() < unspatial.mean() / 3
    assert passed["agreement"].min() >= 3 / np.sqrt(300)


def test_suggested_landmarks_tell_more_than_random_ones(embryo, fit):
    """The real maps of hidden landmarks say what each would have told of the places of cells."""
    truth = RemainingEntropy(space_of_fit(mapped(embryo, np.arange(30))))
    genes = truth.space.genes
    measured = np.isin(genes, fit.landmarks)
    found = suggest_landmarks(fit, 6, candidates=genes[~measured], progress=False)

    def left(added):
        return truth.of(measured | np.isin(genes, added))

    rng = np.random.default_rng(0)
    random = np.array([left(rng.choice(genes[~measured], 6, replace=False)) for _ in range(20)])
    assert len(found) == 6
    assert left(found.index) < random.mean() - random.std()


def test_unusable_requests_are_refused(fit):
    with pytest.raises(PerlerInputError, match="found no cells"):
        suggest_landmarks(dataclasses.replace(fit, cells=None))
    logs = dataclasses.replace(fit.cells, values=np.log2(1 + fit.cells.values.toarray()), scale="log2")
    with pytest.raises(PerlerInputError, match="found cells of scale 'log2'"):
        suggest_landmarks(dataclasses.replace(fit, cells=logs))
    with pytest.raises(PerlerInputError, match="1 landmarks"):
        suggest_landmarks(fit, 1, candidates=[fit.landmarks[0], fit.cells.genes[70]])
    with pytest.raises(PerlerInputError, match="1 repeats"):
        suggest_landmarks(fit, 1, candidates=[fit.cells.genes[70]] * 2)
    with pytest.raises(PerlerInputError, match="1 to 2 candidates, found n = 3"):
        suggest_landmarks(fit, 3, candidates=fit.cells.genes[70:72])
    with pytest.raises(PerlerInputError, match="nothere"):
        suggest_landmarks(fit, 1, candidates=["nothere"])
