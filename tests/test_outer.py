"""Outer cross-validation: the maps of a fold's landmarks are nowhere within reach of what predicts them."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

import perler_jax.outer as module
from perler_jax import PerlerInputError, PerlerSettings, cross_validate, fit_perler, simulate_embryo
from perler_jax.app.cli import main
from perler_jax.outer import cross_validate_fit

SETTINGS = PerlerSettings(n_metagenes=4, folds=4)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=3, n_locations=100, n_cells=100, n_genes=40, n_landmarks=9)


@pytest.fixture(scope="module")
def found(embryo):
    return cross_validate(embryo.cells, embryo.reference, outer=3, settings=SETTINGS, progress=False)


def test_each_fold_is_the_users_call_without_its_maps(embryo, found):
    assert list(found.scores.columns) == ["outer_fold", "score", "nested"]
    assert found.scores["outer_fold"].value_counts().tolist() == [3, 3, 3]
    fold = found.scores.index[found.scores["outer_fold"] == 1]
    rest = embryo.reference[:, ~embryo.reference.var_names.isin(fold)].copy()
    fit = fit_perler(embryo.cells, rest, settings=SETTINGS, progress=False)
    expected = fit.reconstruct(list(fold)).X
    np.testing.assert_allclose(found.predictions[:, fold].X, expected, rtol=1e-5)
    maps = np.log2(1 + np.asarray(embryo.reference[:, fold].X))
    by_hand = [np.corrcoef(one, other)[0, 1] for one, other in zip(expected.T, maps.T, strict=True)]
    np.testing.assert_allclose(found.scores.loc[fold, "score"], by_hand, atol=1e-5)
    others = cross_validate(embryo.cells, embryo.reference, outer=3, settings=SETTINGS, progress=False)
    np.testing.assert_array_equal(others.scores, found.scores)


def test_another_map_of_a_fold_changes_its_scores_and_no_prediction_of_it(embryo, found):
    """Not its nested point, nor the shares, nor where a search was begun: nothing."""
    fold = found.scores.index[found.scores["outer_fold"] == 0]
    other = embryo.reference.copy()
    other.X = np.asarray(other.X).copy()
    at = other.var_names.get_indexer(fold)
    other.X[:, at] = np.random.default_rng(0).permutation(other.X[:, at])
    after = cross_validate(embryo.cells, other, outer=3, settings=SETTINGS, progress=False)
    np.testing.assert_array_equal(after.predictions[:, fold].X, found.predictions[:, fold].X)
    assert np.abs(after.scores.loc[fold, "score"] - found.scores.loc[fold, "score"]).max() > 0.1


def test_gaps_are_filled_in_without_the_fold(embryo):
    holed = embryo.reference.copy()
    holed.X = np.asarray(holed.X, np.float64).copy()
    holed.X[:12, 2] = np.nan
    options = {"outer": 3, "settings": SETTINGS, "missing": "fill", "progress": False}
    before = cross_validate(embryo.cells, holed, **options)
    fold = before.scores.index[before.scores["outer_fold"] != before.scores["outer_fold"].iloc[2]][:1]
    other = holed.copy()
    at = other.var_names.get_indexer(fold)
    other.X[:, at] = np.random.default_rng(0).permutation(other.X[:, at])
    after = cross_validate(embryo.cells, other, **options)
    np.testing.assert_array_equal(after.predictions[:, fold].X, before.predictions[:, fold].X)


def test_a_stopped_run_goes_on(embryo, found, tmp_path, monkeypatch):
    made, fit = [], module.fit_perler

    def count(*args, **options):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(module, "fit_perler", count)
    options = {"outer": 3, "settings": SETTINGS, "checkpoint": tmp_path / "work", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(embryo.cells, embryo.reference, **options)
    done = cross_validate(embryo.cells, embryo.reference, **options)
    assert len(made) == 4, "the first fold was kept"
    np.testing.assert_array_equal(done.scores, found.scores)


def test_binary_maps_are_scored_by_the_area_under_the_curve(embryo):
    binary = embryo.reference.copy()
    binary.X = (np.asarray(binary.X) > np.median(binary.X, axis=0)).astype(float)
    settings = dataclasses.replace(SETTINGS, objective="roc")
    found = cross_validate(embryo.cells, binary, outer=2, settings=settings, progress=False)
    assert found.scores["score"].between(0.4, 1).all()


def test_a_saved_fit_is_scored_from_the_command_line(embryo, found, tmp_path, capsys):
    embryo.cells.write_h5ad(tmp_path / "cells.h5ad")
    fit_perler(embryo.cells, embryo.reference, settings=SETTINGS, progress=False).save(tmp_path / "fit.npz")
    line = ["evaluate", str(tmp_path / "fit.npz"), str(tmp_path / "cells.h5ad"), "--outer", "3"]
    assert main([*line, "-o", str(tmp_path / "outer.csv")]) == 0
    said = capsys.readouterr().out
    assert re.search(
        rf"mean of all +{found.scores['score'].mean():.3f} +{found.scores['nested'].mean():.3f}", said
    )
    written = pd.read_csv(tmp_path / "outer.csv", index_col=0)
    np.testing.assert_allclose(written["score"], found.scores["score"], atol=1e-5)
    assert main(line[:3]) == 2
    assert "expected --outer N" in capsys.readouterr().err
    assert main([line[0], line[1], *line[3:]]) == 2
    assert "expected the file of cells" in capsys.readouterr().err


def test_a_fit_by_given_weights_has_nothing_to_score(embryo):
    given = fit_perler(embryo.cells, embryo.reference, weights=(0.1, 0.4), progress=False)
    with pytest.raises(PerlerInputError, match="chose its predictor"):
        cross_validate_fit(given)


@pytest.mark.parametrize("outer", [1, 10])
def test_folds_that_leave_too_little_are_refused(embryo, outer):
    with pytest.raises(PerlerInputError, match="expected 2 or more outer folds"):
        cross_validate(embryo.cells, embryo.reference, outer=outer)
