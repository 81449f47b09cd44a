"""Fits that go on after a kill, and jobs within a memory budget: the same numbers, and nothing done twice."""

import dataclasses
import logging

import numpy as np
import pytest

import perler_jax.held_out.fold_em as fold_em
import perler_jax.perler as perler
from perler_jax import PerlerFileError, PerlerInputError, PerlerSettings, fit_perler, simulate_embryo
from perler_jax.held_out.expert_grams import ExpertScorer
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.scale.plan import WorkPlan, parse_memory, plan_work
from perler_jax.streaming import Tiles

SETTINGS = PerlerSettings(n_metagenes=4, folds=4, dtype="float64", foreign_cells=True)


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, n_locations=100, n_cells=60, n_genes=40, n_landmarks=8)


def fit(embryo, settings=SETTINGS, **options):
    return fit_perler(embryo.cells, embryo.reference, settings=settings, progress=False, **options)


@pytest.fixture(scope="module")
def whole(embryo):
    return fit(embryo)


def test_a_fit_by_the_mean_goes_on_where_it_was_stopped(embryo, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, predictor="mean")
    whole = fit(embryo, settings)
    folder, fitted, scored = tmp_path / "work", [], []
    fit_em, score = fold_em.fit_em, HeldOutScorer.__call__

    def count(*args, **options):
        fitted.append(1)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit_em(*args, **options)

    def count_scores(self, points, *, look="whole"):
        scored.append(len(points))
        if len(scored) == 4:
            raise KeyboardInterrupt
        return score(self, points, look=look)

    monkeypatch.setattr(fold_em, "fit_em", count)
    monkeypatch.setattr(HeldOutScorer, "__call__", count_scores)
    for _ in range(2):  # stopped in the third fold, then in the fourth batch of scores
        with pytest.raises(KeyboardInterrupt):
            fit(embryo, settings, checkpoint=folder)
    assert len(fitted) == 3 + 2, "two folds were kept"
    done = fit(embryo, settings, checkpoint=folder)
    assert len(fitted) == 5, "all folds were kept"
    assert not list(folder.glob(".*")), "no half piece is left"
    np.testing.assert_array_equal(done.scores, whole.scores)
    np.testing.assert_array_equal(done.held_out.votes, whole.held_out.votes)
    before = len(scored)
    again = fit(embryo, settings, checkpoint=folder)
    assert len(scored) == before, "all scores were kept"
    np.testing.assert_array_equal(again.reconstruct().X, whole.reconstruct().X)


def test_a_fit_by_experts_goes_on_where_it_was_stopped(embryo, whole, tmp_path, monkeypatch):
    folder, scored, patterns = tmp_path / "work", [], ExpertScorer.patterns

    def count(self, fold):
        scored.append(fold)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return patterns(self, fold)

    monkeypatch.setattr(ExpertScorer, "patterns", count)
    with pytest.raises(KeyboardInterrupt):
        fit(embryo, checkpoint=folder)
    done = fit(embryo, checkpoint=folder)
    assert scored == [0, 1, 2, 2, 3], "two folds were kept"
    np.testing.assert_array_equal(done.scores, whole.scores)
    np.testing.assert_array_equal(done.reconstruct().X, whole.reconstruct().X)


def test_work_of_other_settings_is_refused(embryo, tmp_path):
    fit(embryo, checkpoint=tmp_path / "work")
    other = PerlerSettings(n_metagenes=3, folds=4, dtype="float64")
    with pytest.raises(PerlerFileError, match="found other work"):
        fit(embryo, other, checkpoint=tmp_path / "work")


def test_a_memory_budget_changes_tiles_and_no_number(embryo, whole, monkeypatch):
    tiles, blocks = [], []
    fit_em, made = fold_em.fit_em, perler.reconstruct_blocks

    def spy_blocks(*args, **options):
        blocks.append((options["block_size"], options["tiles"]))
        return made(*args, **options)

    def spy(*args, **options):
        tiles.append(options["tiles"])
        return fit_em(*args, **options)

    monkeypatch.setattr(fold_em, "fit_em", spy)
    monkeypatch.setattr(perler, "reconstruct_blocks", spy_blocks)
    monkeypatch.setattr(perler, "plan_work", lambda **_: WorkPlan(Tiles(13, 37), 3, 1e6, 1.0))
    small = fit(embryo, memory="100 MB")
    assert set(tiles) == {Tiles(13, 37)}
    assert blocks == [(3, Tiles(13, 37))]
    for score in ("nested", "reconstruction"):
        np.testing.assert_allclose(small.scores[score], whole.scores[score], rtol=1e-6)


def test_budgets_are_read_as_people_write_them():
    assert parse_memory("1GB") == parse_memory("1 gb") == parse_memory(10**9) == parse_memory("1000MB")
    assert parse_memory("1.5G") == 1_500_000_000
    for wrong in ("much", "-1GB", "1 PB", "31 MB"):
        with pytest.raises(PerlerInputError, match="memory budget"):
            parse_memory(wrong)


def test_tiles_shrink_with_the_budget_and_the_estimate_keeps_to_it():
    sizes = {"n_cells": 100_000, "n_locations": 50_000, "n_metagenes": 50, "n_genes": 20_000, "n_folds": 10}
    entries = []
    for memory in ("150MB", "600MB", "2GB"):
        plan = plan_work(**sizes, memory=memory)
        assert plan.peak_bytes <= parse_memory(memory)
        entries.append(plan.tiles.cells * plan.tiles.locations)
        assert 1 <= plan.gene_block <= 20_000
    assert entries[0] < entries[2]
    with pytest.raises(PerlerInputError, match="at least"):
        plan_work(**sizes, memory="40MB")


def test_the_estimate_grows_with_the_work():
    sizes = {"n_locations": 3000, "n_metagenes": 20, "n_genes": 1000}
    small = plan_work(n_cells=1000, n_folds=10, **sizes)
    large = plan_work(n_cells=100_000, n_folds=10, **sizes)
    assert large.seconds > 10 * small.seconds > 0
    assert large.peak_bytes > small.peak_bytes
    assert "GB beyond the inputs" in str(large)


def test_long_work_says_what_it_will_take(embryo, caplog):
    with caplog.at_level(logging.INFO, logger="perler_jax"):
        fit_perler(embryo.cells, embryo.reference, settings=SETTINGS, weights=(0.1, 0.5), progress=True)
    assert "GB beyond the inputs" in caplog.text
