"""Metagenes: PLSC against the decomposed cells x locations matrix, and folds blind to their own genes."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.em import fit_em
from perler_jax.errors import PerlerInputError
from perler_jax.grams import landmark_grams
from perler_jax.metagenes import clip_n_metagenes, fit_metagenes
from tests import oracle

CELLS, LOCATIONS, LANDMARKS = 40, 31, 9
REDUCTIONS = ("plsc", "pca", "none")


@pytest.fixture
def sides():
    """Centred expression of related genes on both sides."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(LANDMARKS, LANDMARKS))
    y, h = rng.normal(size=(CELLS, LANDMARKS)) @ mixing, rng.normal(size=(LOCATIONS, LANDMARKS)) @ mixing
    return y - y.mean(axis=0), h - h.mean(axis=0)


@pytest.mark.parametrize("n", [1, 4, LANDMARKS])
def test_plsc_is_the_decomposition_of_cells_by_locations(sides, n):
    y, h = sides
    found = fit_metagenes(y, h, n_metagenes=n)
    x, r = y @ found.cell_loadings, h @ found.reference_loadings
    expected_x, expected_r = oracle.metagenes(y, h, n)
    signs = np.sign((x * expected_x).sum(axis=0))
    np.testing.assert_allclose(x * signs, expected_x, atol=1e-9 * np.abs(expected_x).max())
    np.testing.assert_allclose(r * signs, expected_r, atol=1e-9 * np.abs(expected_r).max())
    np.testing.assert_allclose(found.strength, np.linalg.norm(x, axis=0), rtol=1e-9)


@pytest.mark.parametrize("shape", [(CELLS, 6), (6, LOCATIONS)], ids=["few locations", "few cells"])
def test_plsc_with_fewer_rows_than_landmarks(sides, shape):
    """Zones: a side of low rank, where the Gram matrix is singular."""
    y, h = sides[0][: shape[0]], sides[1][: shape[1]]
    y, h = y - y.mean(axis=0), h - h.mean(axis=0)
    found = fit_metagenes(y, h, n_metagenes=5)
    x, r = y @ found.cell_loadings, h @ found.reference_loadings
    expected_x, expected_r = oracle.metagenes(y, h, 5)
    np.testing.assert_allclose(x @ r.T, expected_x @ expected_r.T, atol=1e-7 * np.abs(x @ r.T).max())


def test_grams_are_summed_over_blocks_of_rows(sides, monkeypatch):
    monkeypatch.setattr("perler_jax.grams._ROWS", 7)
    y, h = sides
    grams = landmark_grams(y.astype(np.float32), h)
    np.testing.assert_allclose(grams.cells, y.T @ y, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(grams.reference, h.T @ h, rtol=1e-12, atol=1e-12)
    assert grams.cells.dtype == np.float64
    assert repr(grams) == f"LandmarkGrams({LANDMARKS} landmarks)"


def test_grams_without_a_landmark_are_those_of_the_others(sides):
    y, h = sides
    keep = np.arange(LANDMARKS) != 2
    found = landmark_grams(y, h).keep(keep)
    for gram, side in ((found.cells, y), (found.reference, h)):
        assert not gram[2].any()
        assert not gram[:, 2].any()
        np.testing.assert_allclose(gram[np.ix_(keep, keep)], side[:, keep].T @ side[:, keep], rtol=1e-12)


def test_pca_projects_both_sides_on_the_axes_of_the_reference(sides):
    y, h = sides
    found = fit_metagenes(y, h, n_metagenes=3, reduction="pca")
    _, spread, axes = np.linalg.svd(h, full_matrices=False)
    signs = np.sign((found.cell_loadings * axes[:3].T).sum(axis=0))
    np.testing.assert_allclose(found.cell_loadings * signs, axes[:3].T, atol=1e-10)
    np.testing.assert_array_equal(found.cell_loadings, found.reference_loadings)
    np.testing.assert_allclose(found.strength, spread[:3] / np.sqrt(LOCATIONS), rtol=1e-10)


@pytest.mark.parametrize("reduction", ["plsc", "pca"])
def test_a_metagene_beyond_the_rank_of_the_reference_is_zero(sides, reduction):
    """Two landmarks with the same stain: what is left over is rounding, and must not place any cell."""
    y, h = sides
    h = h.copy()
    h[:, 3] = h[:, 1]
    found = fit_metagenes(y, h, n_metagenes=LANDMARKS, reduction=reduction)
    x, r = y @ found.cell_loadings, h @ found.reference_loadings
    assert not x[:, -1].any()
    assert not r[:, -1].any()
    assert (np.ptp(r[:, :-1], axis=0) > 0).all()
    mapping = fit_em(jnp.asarray(x, jnp.float32), jnp.asarray(r, jnp.float32)).params
    np.testing.assert_allclose(mapping.noise[-1], 1.0)  # both sides are zero there: no distance


def test_no_reduction_keeps_every_landmark(sides):
    y, h = sides
    found = fit_metagenes(y, h, n_metagenes=2, reduction="none")
    np.testing.assert_array_equal(y @ found.cell_loadings, y)
    np.testing.assert_array_equal(h @ found.reference_loadings, h)
    np.testing.assert_allclose(found.strength, h.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_signs_are_fixed_by_the_largest_cell_loading(sides, reduction):
    loadings = fit_metagenes(*sides, n_metagenes=6, reduction=reduction).cell_loadings
    largest = np.abs(loadings).argmax(axis=0)
    assert (np.take_along_axis(loadings, largest[None], axis=0) > 0).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_masked_gene_is_a_deleted_gene(sides, reduction):
    y, h = sides
    keep = np.ones(LANDMARKS, bool)
    keep[[2, 7]] = False
    masked = fit_metagenes(y, h, n_metagenes=4, reduction=reduction, keep=keep)
    deleted = fit_metagenes(y[:, keep], h[:, keep], n_metagenes=4, reduction=reduction)
    for side in ("cell_loadings", "reference_loadings"):
        assert (getattr(masked, side)[~keep] == 0).all()
        expected = getattr(deleted, side)
        np.testing.assert_allclose(
            getattr(masked, side)[keep], expected, atol=1e-9 * np.abs(expected).max(initial=0)
        )
    np.testing.assert_allclose(masked.strength, deleted.strength, rtol=1e-9)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("corruption", [1e6, np.nan])
def test_corrupting_a_masked_gene_changes_nothing(sides, reduction, corruption):
    y, h = (each.copy() for each in sides)
    keep = np.arange(LANDMARKS) != 5
    before = fit_metagenes(y, h, n_metagenes=4, reduction=reduction, keep=keep)
    y[:, 5], h[:, 5] = corruption, corruption * np.arange(LOCATIONS)
    after = fit_metagenes(y, h, n_metagenes=4, reduction=reduction, keep=keep)
    for name in ("cell_loadings", "reference_loadings", "strength"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_inputs_are_left_alone(sides):
    before = [each.tobytes() for each in sides]
    fit_metagenes(*sides, n_metagenes=4, keep=np.arange(LANDMARKS) != 0)
    assert [each.tobytes() for each in sides] == before


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"landmarks": 84, "locations": 3039, "cells": 1297}, 60),
        ({"landmarks": 60, "locations": 3039, "cells": 1297}, 59),
        ({"landmarks": 84, "locations": 9, "cells": 1297}, 8),
        ({"landmarks": 84, "locations": 3039, "cells": 30}, 29),
        ({"landmarks": 84, "locations": 3039, "cells": 1297, "held_out": 40}, 44),
    ],
)
def test_the_number_of_metagenes_suits_every_fold(sizes, expected, caplog):
    with caplog.at_level(logging.WARNING, logger="perler_jax"):
        assert clip_n_metagenes(60, **sizes) == expected
    if expected == 60:
        assert not caplog.records
    else:
        assert f"n_metagenes lowered from 60 to {expected}" in caplog.text
        assert f"{sizes['landmarks']} landmarks ({sizes.get('held_out', 1)} held out" in caplog.text
        assert f"{sizes['locations']} locations and {sizes['cells']} cells" in caplog.text


@pytest.mark.parametrize(
    ("requested", "landmarks", "held_out", "message"),
    [(0, 9, 1, "expected n_metagenes >= 1, found 0"), (5, 3, 3, "and 4 landmarks, found .* and 3 landmarks")],
)
def test_no_metagene_at_all_is_an_error(requested, landmarks, held_out, message):
    with pytest.raises(PerlerInputError, match=message):
        clip_n_metagenes(requested, landmarks=landmarks, locations=20, cells=20, held_out=held_out)


def test_unknown_reduction_is_named(sides):
    with pytest.raises((PerlerInputError, TypeError), match="umap"):
        fit_metagenes(*sides, n_metagenes=2, reduction="umap")


def test_repr_says_the_sizes(sides):
    assert repr(fit_metagenes(*sides, n_metagenes=4)) == "MetageneMap(4 metagenes of 9 landmarks)"
