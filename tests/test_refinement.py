"""Refinements: the regression is least squares, smoothing is a Gaussian mean, nothing held out leaks."""

import dataclasses

import jax
import numpy as np
import pytest

from perler_jax import PerlerSettings, fit_perler, load_fit, simulate_embryo
from perler_jax.errors import PerlerInputError
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.held_out.refinement_tuning import RefinementTuning, refined_scores, tune_refinement
from perler_jax.refinement import (
    Refinement,
    Refiner,
    candidate_refinements,
    regression_coefficients,
    smoother,
    standard_landmarks,
)
from perler_jax.streaming import Tiles

SETTINGS = PerlerSettings(n_metagenes=4, folds=4, refine=True)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=3, n_locations=120, n_cells=150, n_genes=45, n_landmarks=12)


@pytest.fixture(scope="module")
def fit(embryo):
    return fit_perler(embryo.cells, embryo.reference, settings=SETTINGS, progress=False)


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(3, 6))
    cells, reference = (rng.normal(size=(n, 3)) @ shared + 0.3 * rng.normal(size=(n, 6)) for n in (40, 30))
    return cells - cells.mean(0), reference - reference.mean(0), rng.normal(size=(30, 2))


def test_coefficients_solve_the_penalised_least_squares(sides):
    cells, _, _ = sides
    landmarks, values = standard_landmarks(cells[:, :4]), cells[:, 4:]
    found = regression_coefficients(landmarks, values, 0.7)
    stacked = np.concatenate([landmarks, np.sqrt(0.7 * len(cells)) * np.eye(4)])
    expected = np.linalg.lstsq(stacked, np.concatenate([values, np.zeros((4, 2))]), rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_landmark_takes_no_part_in_its_own_regression(sides):
    cells, _, _ = sides
    landmarks = standard_landmarks(cells)
    found = regression_coefficients(landmarks, cells[:, [2, 5]], 0.7, np.array([2, -1]))
    keep = np.arange(6) != 2
    np.testing.assert_allclose(
        found[keep, 0], regression_coefficients(landmarks[:, keep], cells[:, [2]], 0.7)[:, 0], rtol=1e-10
    )
    assert found[2, 0] == 0
    assert abs(found[5, 1]) > 0.1


def test_smoother_equals_the_dense_gaussian_and_keeps_constants(sides):
    coordinates = sides[2]
    squared = ((coordinates[:, None] - coordinates) ** 2).sum(-1)
    dense = np.exp(-0.5 * squared / 0.4**2) * (squared <= 1.6**2)
    dense /= dense.sum(1, keepdims=True)
    np.testing.assert_allclose(smoother(coordinates, 0.4).toarray(), dense, atol=1e-12)
    np.testing.assert_allclose(smoother(coordinates, 0.4) @ np.ones(30), 1.0, rtol=1e-12)


def test_a_gene_that_landmarks_explain_is_carried_by_the_reference(sides):
    cells, reference, _ = sides
    landmarks, places = standard_landmarks(cells), standard_landmarks(reference)
    truth = np.random.default_rng(1).normal(size=(6, 1))
    refiner = Refiner(Refinement(ridge=1e-9), np.array(list("abcdef")), landmarks, places, None)
    rest, carried = refiner.split(np.array(["new"]), landmarks @ truth)
    np.testing.assert_allclose(rest, 0.0, atol=1e-6)
    np.testing.assert_allclose(carried, places @ truth, atol=1e-5)


def test_no_refinement_changes_nothing(sides):
    cells, reference, _ = sides
    refiner = Refiner(Refinement(), np.array(list("abcdef")), cells, reference, None)
    rest, carried = refiner.split(np.array(["a"]), cells[:, :1])
    assert rest is not None
    np.testing.assert_array_equal(rest, cells[:, :1])
    assert carried == 0.0
    assert refiner.smooth(reference) is reference


def scored(sides, cells=None, reference=None):
    y, h, coordinates = sides
    y, h = (given if given is not None else own for given, own in ((cells, y), (reference, h)))
    folds = make_folds(6, 3, seed=0)
    fits = fit_held_out(y, h, folds, n_metagenes=3, dtype=np.float64)
    candidates = [Refinement(), Refinement(0.5), Refinement(None, 0.4), Refinement(0.5, 0.4)]
    return folds, refined_scores(fits, (0.1, 0.3), candidates, y, h, coordinates)


def test_unrefined_candidate_equals_plain_held_out_scores(sides):
    from perler_jax.held_out.scoring import HeldOutScorer

    with jax.enable_x64(True):
        y, h, _ = sides
        folds, (points, _, table) = scored(sides)
        fits = fit_held_out(y, h, folds, n_metagenes=3, dtype=np.float64)
        plain = HeldOutScorer(fits, jax.numpy.asarray(y), jax.numpy.asarray(h))(points)
        np.testing.assert_allclose(table[:, 0], plain, rtol=1e-9)
        assert np.abs(table[:, 1] - plain).max() > 1e-3


def test_tiles_change_no_refined_score(sides):
    y, h, coordinates = sides
    with jax.enable_x64(True):
        fits = fit_held_out(y, h, make_folds(6, 3, seed=0), n_metagenes=3, dtype=np.float64)
        neighbours = np.stack([(np.arange(40) + shift) % 40 for shift in (1, 2, 3)], axis=1)
        candidates = [Refinement(0.5, 0.4), Refinement(None, 0.0, 1.5)]

        def table(tiles):
            given = (fits, (0.1, 0.3), candidates, y, h, coordinates)
            return refined_scores(*given, neighbours=neighbours, tiles=tiles)[2]

        np.testing.assert_allclose(table(Tiles(7, 11)), table(None), rtol=1e-8)


def test_the_reference_of_a_held_out_gene_is_never_seen(sides):
    """Its scores follow from its truth alone: with the truth negated they are negated, for all candidates."""
    with jax.enable_x64(True):
        _, h, _ = sides
        folds, (_, _, before) = scored(sides)
        fold = folds[0]
        changed = h.copy()
        changed[:, fold] *= -1
        _, (_, _, after) = scored(sides, reference=changed)
        np.testing.assert_allclose(after[:, :, fold], -before[:, :, fold], rtol=1e-6, atol=1e-9)


def test_nested_choice_is_the_best_without_the_fold(sides):
    rng = np.random.default_rng(5)
    table = rng.uniform(-0.2, 0.9, size=(4, 3, 7))
    folds = make_folds(7, 3, seed=1)
    found = tune_refinement(
        rng.uniform(size=(4, 2)), [Refinement(), Refinement(1.0), Refinement(2.0)], table, folds
    )
    terms = -0.5 * np.log(1 - table**2)
    for fold in folds:
        total = np.delete(terms, fold, axis=2).sum(axis=2)
        for gene in fold:
            assert total[tuple(found.nested[gene])] == pytest.approx(total.max())
            assert found.nested_scores[gene] == table[(*found.nested[gene], gene)]
    assert isinstance(found, RefinementTuning)
    assert found.weights == tuple(found.points[found.best[0]])


def test_facade_reports_reconstructs_and_saves_the_refinement(fit, embryo, tmp_path):
    assert fit.refinement in candidate_refinements(np.asarray(embryo.reference.obsm["spatial"], np.float64))
    assert fit.scores["nested"].mean() > fit.scores["unrefined"].mean() - 0.02
    result = fit.reconstruct()
    landmarks = result[:, fit.landmarks].to_df().to_numpy(np.float64)
    truth = embryo.reference[:, list(fit.landmarks)].to_df().to_numpy(np.float64)
    expected = [np.corrcoef(a, np.log2(1 + b))[0, 1] for a, b in zip(landmarks.T, truth.T, strict=True)]
    np.testing.assert_allclose(fit.scores["reconstruction"], expected, atol=1e-4)
    fit.save(tmp_path / "fit.npz")
    again = load_fit(tmp_path / "fit.npz", cells=embryo.cells)
    assert again.refinement == fit.refinement
    np.testing.assert_array_equal(again.reconstruct().X, result.X)
    assert result.uns["perler"]["refinement"] == {
        name: value for name, value in dataclasses.asdict(fit.refinement).items() if value is not None
    }


def test_without_coordinates_nothing_is_smoothed():
    assert {each.smoothing for each in candidate_refinements(None)} == {0.0}


@pytest.mark.parametrize("bad", [{"ridge": 0.0}, {"ridge": np.nan}, {"smoothing": -1.0}])
def test_strengths_that_mean_nothing_are_refused(bad):
    with pytest.raises(PerlerInputError, match=r"expected (ridge|smoothing)"):
        Refinement(**bad)


def test_roc_has_no_refinement():
    with pytest.raises(PerlerInputError, match="refine=False"):
        PerlerSettings(objective="roc", refine=True)
