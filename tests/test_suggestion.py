"""Genes to measure next: gains against dense formulas, and against the truth of a simulated embryo."""

import dataclasses

import numpy as np
import pytest

from perler_jax import PerlerSettings, fit_perler, simulate_embryo
from perler_jax.errors import PerlerInputError
from perler_jax.settings import device_precision
from perler_jax.trust.channel import CrossView
from perler_jax.trust.suggestion import suggest_landmarks


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=5, n_locations=250, n_cells=300, n_genes=80, n_landmarks=30)


@pytest.fixture(scope="module")
def fit(embryo):
    """Only every third landmark is measured in the tissue."""
    settings = PerlerSettings(n_metagenes=9, dtype="float64")
    return fit_perler(
        embryo.cells, embryo.reference[:, ::3].copy(), settings=settings, weights=(0.2, 0.1), progress=False
    )


def dense_channel(fit, drawn, judging, genes):
    """Posterior of the judging cells, patterns of the drawn cells, and their line, gene by gene."""
    y = np.asarray(fit.preprocessing.apply(fit.cells.dense(genes)), float)
    y = y - y.mean(0)
    near, far = map(np.asarray, fit.distance_space())
    d = np.sqrt(((near[drawn][:, None] - far) ** 2).sum(-1))
    logits = -0.2 * d**2 - 0.1 * d
    w = np.exp(logits - logits.max(1, keepdims=True))
    w /= w.sum(1, keepdims=True)
    patterns = (w.T @ y[drawn]) / w.sum(0)[:, None]
    gamma = fit.posterior(judging).to_numpy()
    lines = []
    for pattern, values in zip(patterns.T, y[judging].T, strict=True):
        root = np.sqrt(gamma).ravel()
        design = np.stack([np.tile(pattern, len(judging)), np.ones(gamma.size)], axis=1)
        target = np.repeat(values, len(pattern))
        line = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0]
        noise = np.sqrt((gamma.ravel() * (target - design @ line) ** 2).sum() / len(judging))
        lines.append((line[0], noise))
    return gamma, patterns, np.array(lines).T


def test_channels_equal_dense_least_squares(fit):
    rng = np.random.default_rng(0)
    order = rng.permutation(300)
    drawn, judging = np.sort(order[:180]), np.sort(order[180:])
    genes = fit.cells.genes[[3, 20, 40, 60]]
    y = np.asarray(fit.preprocessing.apply(fit.cells.dense(genes)), float)
    with device_precision("float64"):
        channel = CrossView(fit, drawn, judging).channel(y - y.mean(0))
        pattern = np.asarray(channel.pattern)
    gamma, patterns, (a, noise) = dense_channel(fit, drawn, judging, genes)
    np.testing.assert_allclose(pattern, patterns, atol=1e-9)
    np.testing.assert_allclose(channel.sensitivity, a, atol=1e-6)
    np.testing.assert_allclose(channel.noise, noise, rtol=1e-6)
    variance = gamma @ patterns**2 - (gamma @ patterns) ** 2
    expected = np.where(a > 0, 0.5 * np.log1p(variance * (a / noise) ** 2).mean(0), 0.0)
    np.testing.assert_allclose(channel.nats, expected, atol=1e-9)


def test_gains_are_the_information_of_a_gaussian_channel(fit):
    """Gains add up to the log determinant of what the suggested genes leave unknown together."""
    candidates = fit.cells.genes[~np.isin(fit.cells.genes, fit.landmarks)][:25]
    found = suggest_landmarks(fit, 6, candidates=candidates, seed=3, progress=False)
    order = np.random.default_rng(3).permutation(300)
    one, other = np.sort(order[::2]), np.sort(order[1::2])
    total, alone = np.zeros(6), np.zeros(6)
    for drawn, judging in ((one, other), (other, one)):
        gamma, patterns, (a, noise) = dense_channel(fit, drawn, judging, found.index.to_numpy())
        f = patterns * np.where(a > 0, a / noise, 0.0)
        mean = gamma @ f
        covariance = np.einsum("nk,ki,kj->nij", gamma, f, f) - mean[:, :, None] * mean[:, None, :]
        for size in range(1, 7):
            inner = np.eye(size) + covariance[:, :size, :size]
            total[size - 1] += 0.25 * np.linalg.slogdet(inner)[1].mean()
        alone += 0.25 * np.log1p(np.einsum("nii->ni", covariance)).mean(0)
    np.testing.assert_allclose(np.cumsum(found["gain"]), total, atol=1e-6)
    np.testing.assert_allclose(found["gain_alone"], alone, atol=1e-6)
    assert np.all(np.diff(found["gain"]) <= 1e-9)
    assert np.all(found["gain"] <= found["gain_alone"] + 1e-9)
    assert found["gain"].iloc[0] == pytest.approx(found["gain_alone"].iloc[0])
    assert found["detected"].between(0, 1).all()


def test_genes_without_pattern_are_not_suggested(embryo, fit):
    """Patterns of the judging cells themselves would give noise a gain; the split gives next to none."""
    classes = embryo.truth.var["class"]
    found = suggest_landmarks(fit, 50, progress=False)
    alone = suggest_landmarks(fit, 70, progress=False)["gain_alone"]
    unspatial = classes[alone.index] == "unspatial"
    assert unspatial.sum() >= 20
    assert not (classes[found.index[:15]] == "unspatial").any()
    assert alone[unspatial].mean() < 0.1 * alone[~unspatial].mean()


def test_unusable_requests_are_refused(fit):
    with pytest.raises(PerlerInputError, match="expression of its cells"):
        suggest_landmarks(dataclasses.replace(fit, cells=None))
    with pytest.raises(PerlerInputError, match="1 landmarks"):
        suggest_landmarks(fit, 1, candidates=[fit.landmarks[0], fit.cells.genes[70]])
    with pytest.raises(PerlerInputError, match="1 repeats"):
        suggest_landmarks(fit, 1, candidates=[fit.cells.genes[70]] * 2)
    with pytest.raises(PerlerInputError, match="1 to 2 candidates, found n = 3"):
        suggest_landmarks(fit, 3, candidates=fit.cells.genes[70:72])
    with pytest.raises(PerlerInputError, match="nothere"):
        suggest_landmarks(fit, 1, candidates=["nothere"])
