"""Tuning: both searches find the best point, and no gene has a say in the point at which it is scored."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from perler_jax.evidence import region_evidence
from perler_jax.held_out.cross_validation import held_out_scores
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import RELEASED_GRID, objective_terms
from perler_jax.held_out.tuning import tune_weights
from perler_jax.weights import WeightParams
from tests import oracle

SEARCHES = ("gradient", "grid")
WIDE = (np.linspace(0.0, 1.0, 20) ** 2, np.linspace(0.0, 2.0, 20) ** 2)
FINE = np.stack(np.meshgrid(*[np.geomspace(1e-4, 6.0, 160)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Hills:
    """Made-up scores: each gene's is a hill in (ln alpha, ln beta) with its own top, height and width."""

    def __init__(self, tops, heights, widths):
        self.tops, self.heights, self.widths = np.log(tops), np.asarray(heights), np.asarray(widths)
        self.folds = [np.array([gene]) for gene in range(len(self.heights))]

    def _away(self, points):
        return (np.log(points[..., None, :] + 0.01) - self.tops) / self.widths[:, None]

    def everywhere(self, points):
        """(points, genes)"""
        return self.heights * np.exp(-0.5 * (self._away(points) ** 2).sum(axis=-1))

    def __call__(self, points, *, look="whole"):
        if points.ndim == 3:
            own = [self.everywhere(each)[:, gene] for gene, each in enumerate(points)]
            return np.stack(own, axis=1)
        return np.where(
            (look == "glance") & (np.arange(len(self.heights)) % 2 == 1), np.nan, self.everywhere(points)
        )

    def derivatives(self, point):
        found = self.everywhere(point)
        return found, -found[:, None] * self._away(point) / self.widths[:, None] / (point + 0.01)

    def terms(self, points=FINE):
        """(points, genes) each gene's part of J."""
        return -0.5 * np.log1p(-(self.everywhere(points) ** 2))

    def best(self, keep):
        """Brute force: the most that J of the kept genes reaches, and where."""
        total = self.terms()[:, keep].sum(axis=1)
        return total.max(), FINE[total.argmax()]


def hills(seed, n=15):
    """Genes whose tops scatter around (0.1, 0.4)."""
    rng = np.random.default_rng(seed)
    tops = np.array([0.1, 0.4]) * np.exp(rng.normal(0, 0.6, (n, 2)))
    return Hills(tops, rng.uniform(0.3, 0.85, n), rng.uniform(1.2, 2.5, n))


def two_basins(heights):
    """Two groups of genes whose tops lie about where the pooled distance has its two on the fly embryo."""
    tops = np.where(np.arange(len(heights))[:, None] < 6, [0.015, 0.2], [0.005, 3.0])
    return Hills(tops + 0.01, heights, np.full(len(heights), 1.2))


def without(n, gene):
    return np.arange(n) != gene


def nested(tuning, gene):
    return np.array([tuning.nested_alpha[gene], tuning.nested_beta[gene]])


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", range(2))
def test_the_search_finds_the_best_point_and_each_nested_one(seed, search):
    """A nested point is best for the sum of all terms but the gene's own."""
    surface = hills(seed)
    found = tune_weights(surface, surface.folds, search=search)
    best, where = surface.best(slice(None))
    assert found.objective > best - 1e-3 * best
    np.testing.assert_allclose([found.alpha, found.beta], where, rtol=0.1)
    chosen = np.array([[found.alpha, found.beta]])
    np.testing.assert_allclose(found.scores, surface(chosen)[0], rtol=1e-12)
    np.testing.assert_allclose(found.objective, oracle.mutual_information(found.scores), rtol=1e-9)
    for gene in range(15):
        keep, point = without(15, gene), nested(found, gene)
        best, _ = surface.best(keep)
        assert surface.terms(point[None])[0, keep].sum() > best - 5e-3 * best
        np.testing.assert_allclose(found.nested_scores[gene], surface(point[None])[0, gene], rtol=1e-12)
    assert np.ptp(found.nested_alpha) > 0, "genes differ, so their nested points do"


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("better", [0, 1], ids=["first", "second"])
def test_the_search_finds_the_better_of_two_basins(search, better):
    surface = two_basins(np.where(np.repeat([0, 1], 6) == better, 0.7, 0.6))
    found = tune_weights(surface, surface.folds, search=search, grid=WIDE if search == "grid" else None)
    best, where = surface.best(slice(None))
    assert found.objective > best - 1e-2 * best
    np.testing.assert_allclose(np.log([found.alpha, found.beta]) + 0.01, np.log(where) + 0.01, atol=0.2)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_gene_has_no_say_in_its_nested_point(search):
    """The gene's own surface changes altogether: the common optimum moves, its nested point does not."""
    before, after = hills(0), hills(0)
    after.tops[3], after.heights[3] = np.log([0.5, 1.5]), 0.9
    one, other = (tune_weights(each, each.folds, search=search) for each in (before, after))
    keep = without(15, 3)
    best, _ = before.best(keep)
    for found in (one, other):
        assert before.terms(nested(found, 3)[None])[0, keep].sum() > best - 5e-3 * best
    np.testing.assert_allclose(nested(other, 3), nested(one, 3), rtol=0.12)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_nested_point_leaves_the_basin_that_only_the_gene_itself_prefers(search):
    """Without gene 12 the first basin is the better one; with it the second."""
    surface = two_basins([0.7] * 6 + [0.66] * 6 + [0.75])
    assert surface.best(slice(None))[1][1] > 2
    assert surface.best(without(13, 12))[1][1] < 0.5
    found = tune_weights(surface, surface.folds, search=search, grid=WIDE if search == "grid" else None)
    assert found.beta > 2
    assert found.nested_beta[12] < 0.5
    assert found.nested_scores[12] < found.scores[12] - 0.2


@pytest.mark.parametrize("search", SEARCHES)
def test_genes_of_a_fold_share_their_nested_point(search):
    surface = hills(0)
    folds = make_folds(15, 4)

    class OfFolds(Hills):
        def __call__(self, points, *, look="whole"):
            fold_of = np.argmax([np.isin(np.arange(15), fold) for fold in folds], axis=0)
            if points.ndim == 3:
                points = points[fold_of]
            return super().__call__(points)

    surface.__class__ = OfFolds
    found = tune_weights(surface, folds, search=search)
    for fold in folds:
        keep = ~np.isin(np.arange(15), fold)
        assert np.ptp(found.nested_alpha[fold]) == 0
        assert np.ptp(found.nested_beta[fold]) == 0
        point = nested(found, fold[0])
        best, _ = surface.best(keep)
        assert surface.terms(point[None])[0, keep].sum() > best - 1e-2 * best


def test_objective_terms():
    scores = np.array([0.6, -0.6, np.nan, 0.0, 1.0])
    paper = np.asarray(objective_terms(scores))
    np.testing.assert_allclose(paper[:2], oracle.mutual_information(np.array([0.6])), rtol=1e-12)
    np.testing.assert_array_equal(paper[2:4], 0.0)
    assert 5 < paper[4] < 8, "a perfect score is finite"
    signed = np.asarray(objective_terms(scores, "signed"))
    np.testing.assert_allclose(signed, paper * [1, -1, 0, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(objective_terms(scores[:1], "roc"), paper[:1], rtol=1e-12)


def test_the_signed_objective_punishes_what_the_papers_rewards():
    """Six genes are predicted at one point, six are anticorrelated at the other."""
    surface = two_basins([0.6] * 6 + [-0.7] * 6)
    papers, signed = (
        tune_weights(surface, surface.folds, objective=each) for each in ("mutual_information", "signed")
    )
    assert papers.beta > 2
    assert papers.scores[-1] < -0.65
    assert signed.beta < 0.5
    assert signed.scores[0] > 0.55
    assert signed.objective < papers.objective


@pytest.mark.parametrize("objective", ["mutual_information", "signed"])
def test_many_folds_are_searched_as_well_as_few(objective):
    """The coarse look takes some of the folds only; the others are NaN there."""
    surface = hills(5, n=30)
    found = tune_weights(surface, surface.folds, objective=objective)
    best, where = surface.best(slice(None))
    assert found.objective > best - 1e-3 * best
    np.testing.assert_allclose([found.alpha, found.beta], where, rtol=0.1)


def test_the_roc_objective_needs_the_grid():
    surface = hills(0)
    with pytest.raises(ValueError, match="search='grid'"):
        tune_weights(surface, surface.folds, objective="roc", search="gradient")
    found = tune_weights(surface, surface.folds, objective="roc", search="grid")
    assert found.objective > 0


def test_a_given_grid_is_searched_and_everything_evaluated_is_kept():
    surface, told = hills(1), []
    found = tune_weights(
        surface,
        surface.folds,
        search="grid",
        grid=(np.array([0.0, 0.5]), np.array([0.1, 1.0, 2.0])),
        report=told.append,
    )
    expected = [[a, b] for a in (0.0, 0.5) for b in (0.1, 1.0, 2.0)]
    np.testing.assert_array_equal(found.points[:6], expected)
    np.testing.assert_allclose(found.table, surface(found.points), rtol=1e-12)
    np.testing.assert_allclose(found.objectives, surface.terms(found.points).sum(axis=1), rtol=1e-9)
    assert found.objective == found.objectives.max()
    assert sum(told) >= len(found.points)
    assert repr(found).startswith(f"Tuning(alpha={found.alpha:.4g}, beta={found.beta:.4g}, J=")


def test_the_released_grid_is_even_in_the_square_roots():
    alphas, betas = RELEASED_GRID
    assert (len(alphas), len(betas)) == (20, 20)
    np.testing.assert_allclose(np.sqrt([alphas[0], alphas[-1], betas[0], betas[-1]]), [0, 1, 0.01, 1])
    np.testing.assert_allclose(np.diff(np.sqrt(betas)), 0.99 / 19)


@pytest.fixture(scope="module")
def embryo():
    """Held-out fits of cells from known locations: more landmarks than are scored in one chunk."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        h = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 14)) + 0.5 * rng.normal(size=(40, 14))
        y = 0.8 * h[rng.integers(40, size=50)] + 0.7 * rng.normal(size=(50, 14))
        y, h = y - y.mean(axis=0), h - h.mean(axis=0)
        fits = fit_held_out(y, h, make_folds(14), n_metagenes=6, dtype=np.float64)
        return fits, jnp.asarray(y), jnp.asarray(h)


def test_both_searches_agree_on_held_out_genes(embryo):
    scorer = HeldOutScorer(*embryo)
    gradient, grid = (tune_weights(scorer, make_folds(14), search=search) for search in SEARCHES)
    np.testing.assert_allclose(gradient.objective, grid.objective, rtol=5e-3)
    np.testing.assert_allclose(gradient.scores, grid.scores, atol=0.02)
    np.testing.assert_allclose(gradient.nested_scores, grid.nested_scores, atol=0.03)
    for found in (gradient, grid):
        assert np.nanmean(found.nested_scores) <= np.nanmean(found.scores) + 0.01


def test_a_scorer_scores_chunk_by_chunk_what_all_folds_at_once_give(embryo):
    points = np.array([[0.5, 0.0], [0.0, 1.0], [0.1, 0.3]])
    expected = held_out_scores(embryo[0], WeightParams(*map(jnp.asarray, points.T)), embryo[1], embryo[2])
    scorer = HeldOutScorer(*embryo)
    np.testing.assert_allclose(scorer(points), expected, rtol=1e-9)
    np.testing.assert_array_equal(scorer(points, look="sample"), scorer(points))
    own = scorer(points[np.arange(14) % 3][:, None])
    np.testing.assert_allclose(own[0], np.asarray(expected)[np.arange(14) % 3, np.arange(14)], rtol=1e-9)


def test_a_sample_and_a_glance_see_nearly_the_same(embryo, monkeypatch):
    sizes = {"_GLANCE_FOLDS": 7, "_SAMPLE_CELLS": 42, "_SAMPLE_LOCATIONS": 33}
    for name, size in sizes.items():
        monkeypatch.setattr(f"perler_jax.held_out.scoring.{name}", size)
    fits, y, h = embryo
    evidence = region_evidence(["left"] * len(y), pd.DataFrame({"left": np.ones(len(h), bool)}))
    fits = dataclasses.replace(fits, votes=jnp.ones((14, len(y))))
    scorer = HeldOutScorer(fits, y, h, evidence=evidence.astype(np.float64))
    points = np.array([[0.5, 0.0], [0.02, 0.1]])
    sample, glance, whole = (scorer(points, look=look) for look in ("sample", "glance", "whole"))
    looked_at = np.arange(14) % 2 == 0
    assert np.isnan(glance[:, ~looked_at]).all()
    np.testing.assert_allclose(glance[:, looked_at], sample[:, looked_at], rtol=1e-9)
    assert not np.array_equal(sample, whole)
    np.testing.assert_allclose(sample, whole, atol=0.35)
    assert np.abs(sample - whole).mean() < 0.1


def test_a_scorers_derivatives_equal_finite_differences(embryo):
    scorer, point, step = HeldOutScorer(*embryo), np.array([0.1, 0.3]), 1e-5
    scores, slopes = scorer.derivatives(point)
    around = point + step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    found = scorer(around)
    np.testing.assert_allclose(scores, found[0], rtol=1e-9)
    differences = np.stack([found[1] - found[2], found[3] - found[4]], axis=1) / (2 * step)
    np.testing.assert_allclose(slopes, differences, rtol=1e-5, atol=1e-8)


def test_changing_a_genes_reference_changes_its_score_but_not_its_nested_point(embryo):
    """The fits stay, and a wrong reference of gene 4 scores gene 4 badly: only its own term changes."""
    fits, y, h = embryo
    scorer = HeldOutScorer(fits, y, h)

    class Spoiled:
        def __call__(self, points, *, look="whole"):
            found = scorer(points, look=look)
            found[:, 4] *= -0.3
            return found

        def derivatives(self, point):
            scores, slopes = scorer.derivatives(point)
            factor = np.where(np.arange(14) == 4, -0.3, 1.0)
            return scores * factor, slopes * factor[:, None]

    one, other = (tune_weights(each, make_folds(14)) for each in (scorer, Spoiled()))
    assert other.objective < one.objective - 0.05
    np.testing.assert_allclose(nested(other, 4), nested(one, 4), rtol=0.12)
