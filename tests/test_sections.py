"""Several sections in one reference: nothing crosses them, results keep them, bad ones are refused."""

import numpy as np
import pandas as pd
import pytest

from perler_jax import pl
from perler_jax.app.cli import main
from perler_jax.errors import PerlerInputError
from perler_jax.files import load_fit
from perler_jax.inputs.intake import as_reference
from perler_jax.inputs.sections import apart, side_by_side
from perler_jax.outer import cross_validate
from perler_jax.perler import fit_perler
from perler_jax.prediction.experts import Polish
from perler_jax.prediction.polishing import smoothers
from perler_jax.scores.metrics import morans_i
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo
from perler_jax.trust import cell_positions, gene_reliability

SETTINGS = PerlerSettings(n_metagenes=8, folds=4)


def cut(reference, n=3):
    """A flat map in strips, each with coordinates that begin at zero."""
    reference = reference.copy()
    where = np.asarray(reference.obsm["spatial"])[:, [0, 2]].copy()
    names = np.empty(len(where), object)
    for i, part in enumerate(np.array_split(np.argsort(where[:, 0]), n)):
        names[part] = f"strip {i}"
        where[part] -= where[part].min(axis=0)
    reference.obsm["spatial"], reference.obs["slice"] = where, names
    reference.uns.clear()
    return reference


@pytest.fixture(scope="module")
def data():
    embryo = simulate_embryo(seed=0, n_locations=180, n_cells=120, n_genes=110, n_landmarks=16)
    return embryo.cells, cut(embryo.reference)


@pytest.fixture(scope="module")
def fit(data):
    return fit_perler(*data, settings=SETTINGS, section_key="slice", progress=False)


@pytest.fixture(scope="module")
def result(fit):
    return fit.reconstruct()


# Geometry


def two_grids():
    """Two sections of the very same coordinates."""
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    return np.concatenate([grid, grid]), np.repeat(["a", "b"], 48)


def test_distances_within_sections_stay_and_those_between_are_larger():
    where, sections = two_grids()
    places = apart(where, sections)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    exact = np.linalg.norm(where[:48, None] - where[None, :48], axis=-1)
    np.testing.assert_array_equal(distances[:48, :48], exact)
    np.testing.assert_array_equal(distances[48:, 48:], exact)
    assert distances[:48, 48:].min() > 5 * exact.max()
    np.testing.assert_array_equal(apart(where, None), where)


def test_smoothing_is_that_of_each_section_alone():
    where, sections = two_grids()
    polishes = (Polish(smoothing=1.1),)
    together = smoothers(polishes, apart(where, sections))[1.1].toarray()
    alone = smoothers(polishes, where[:48])[1.1].toarray()
    np.testing.assert_allclose(together[:48, :48], alone, atol=1e-12)
    np.testing.assert_allclose(together[48:, 48:], alone, atol=1e-12)
    assert (together[:48, 48:] == 0).all()


def test_moran_takes_neighbours_of_the_same_section():
    where, sections = two_grids()
    values = np.where(sections == "a", where[:, 0], -where[:, 0])[:, None]
    split = morans_i(values, where, sections=sections, n_neighbors=4)
    assert split[0] > 0.7
    assert morans_i(values, where, n_neighbors=4)[0] < 0.3  # half of the neighbours are of the other
    order = np.argsort(sections, kind="stable")
    np.testing.assert_allclose(
        morans_i(values[order], where[order], sections=sections[order]),
        morans_i(values[::-1], where[::-1], sections=sections[::-1]),
        rtol=0.05,
    )
    tiny = np.where(np.arange(96) < 93, "a", "b")  # fewer locations than neighbours
    assert np.isfinite(morans_i(values, apart(where, tiny), sections=tiny)).all()


def test_side_by_side_moves_sections_as_a_whole_and_apart():
    where, sections = two_grids()
    sections = np.concatenate([sections, np.repeat(["c", "d", "e"], 48)])
    where = np.concatenate([where, where, where[:48]]) * 3.0 + 7.0
    shown = side_by_side(where, sections)
    boxes = []
    for name in np.unique(sections):
        own = sections == name
        moved = shown[own] - where[own]
        np.testing.assert_allclose(moved, np.tile(moved[0], (48, 1)), atol=1e-9)
        boxes.append((shown[own].min(axis=0), shown[own].max(axis=0)))
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert (low > other_high).any() or (high < other_low).any()
    solid = side_by_side(np.column_stack([where, where[:, 0]]), sections)
    assert solid.shape == (240, 3)
    assert len(np.unique(solid[:, 1])) == len(np.unique(where[:, 1]))  # one row


# A fit


def test_predictions_do_not_depend_on_where_sections_lie(data, fit, result):
    """Each section may have an origin of its own: scores and predictions are the same."""
    cells, reference = data
    moved = reference.copy()
    shift = moved.obs["slice"].map({"strip 0": 0.0, "strip 1": 1e4, "strip 2": -3e4}).to_numpy(float)
    moved.obsm["spatial"] = np.asarray(moved.obsm["spatial"]) + shift[:, None]
    other = fit_perler(cells, moved, settings=SETTINGS, section_key="slice", progress=False)
    np.testing.assert_allclose(other.scores["nested"], fit.scores["nested"], atol=1e-6)
    np.testing.assert_allclose(other.reconstruct().X, result.X, atol=1e-4)
    np.testing.assert_allclose(
        gene_reliability(other, seed=0)["morans_i"], gene_reliability(fit, seed=0)["morans_i"], atol=1e-4
    )
    ignored = fit_perler(cells, reference, settings=SETTINGS, progress=False)
    assert np.abs(ignored.scores["nested"] - fit.scores["nested"]).max() > 1e-3


def test_sections_are_kept_in_results_and_in_a_saved_fit(data, fit, result, tmp_path):
    assert list(result.obs["slice"]) == list(data[1].obs["slice"])
    assert result.uns["perler"]["section_key"] == "slice"
    assert result.uns["perler"]["sections"] == {f"strip {i}": 60 for i in range(3)}
    np.testing.assert_array_equal(result.obsm["spatial"], data[1].obsm["spatial"])
    fit.save(tmp_path / "fit.npz")
    back = load_fit(tmp_path / "fit.npz", cells=data[0])
    np.testing.assert_array_equal(back.reference.sections, fit.reference.sections)
    np.testing.assert_array_equal(back.reconstruct().X, result.X)
    assert "3 sections" in repr(back.reference)
    half = back.reference.take_locations(slice(0, 90))
    assert len(half.sections) == 90


def test_cells_are_placed_in_a_section(fit):
    found = cell_positions(fit)
    table = found.table
    where = pd.Series(fit.reference.sections, fit.reference.locations)
    assert list(table["top_section"]) == list(where[table["top_location"]])
    shares = table[[f"probability_strip {i}" for i in range(3)]].sum(axis=1)
    np.testing.assert_allclose(shares, 1, atol=1e-5)
    assert found.mean is None
    assert found.top.shape == (120, 2)
    span = np.ptp(fit.reference.coordinates, axis=0).sum()
    radii = table["radius_90"].to_numpy()
    assert (np.isinf(radii) | (radii <= span)).all()
    # The likeliest section does not hold 90 % of such cells: no radius does.
    assert np.isinf(radii[table.filter(regex="^probability_").max(axis=1) < 0.89]).all()
    with pytest.raises(PerlerInputError, match="expected names of locations"):
        found.credible_levels(np.zeros((120, 2)))


def test_outer_cross_validation_takes_the_column(data):
    found = cross_validate(*data, outer=3, settings=SETTINGS, section_key="slice", progress=False)
    assert np.isfinite(found.scores["score"]).all()
    assert list(found.predictions.obs["slice"]) == list(data[1].obs["slice"])


def test_pictures_show_sections_side_by_side(fit, result):
    ax = pl.spatial(result, color="slice", show=False)
    assert {"strip 0", "strip 1", "strip 2"} <= {text.get_text() for text in ax.texts}
    offsets = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(
        offsets, side_by_side(np.asarray(result.obsm["spatial"], float), fit.reference.sections)
    )
    plain = result.copy()
    del plain.uns["perler"]
    assert not pl.spatial(plain, color="slice", show=False).texts
    flat = result.copy()
    flat.obsm["X_umap"] = np.asarray(flat.obsm["spatial"]) * 2
    assert not pl.spatial(flat, color="slice", basis="umap", show=False).texts
    assert len(pl.spatial(plain, color="slice", section_key="slice", show=False).texts) == 3
    pl.compare(fit, str(fit.landmarks[0]), show=False)
    drawn = pl.positions(cell_positions(fit), show=False)
    places = np.asarray(drawn.collections[1].get_offsets())
    assert len(places) == 120
    assert np.isin(places.round(3), offsets.round(3)).all()


def test_the_command_line_takes_the_column(data, tmp_path, capsys):
    cells, reference = data
    cells.write_h5ad(tmp_path / "cells.h5ad")
    reference.write_h5ad(tmp_path / "map.h5ad")
    paths = [str(tmp_path / name) for name in ("cells.h5ad", "map.h5ad", "fit.npz")]
    command = ["fit", *paths[:2], "-o", paths[2], "--weights", "0.1", "1", "--n-metagenes", "8"]
    assert main([*command, "--section-key", "slice"]) == 0
    assert "3 (slice): strip 0 (60), strip 1 (60), strip 2 (60)" in capsys.readouterr().out
    assert main([*command, "--section-key", "slices"]) != 0
    assert "--section-key slices" in capsys.readouterr().err


# Refusals


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"] * 180, "expected two sections or more"),
        (["a"] * 179 + ["b"], "expected 2 locations or more in every section"),
        (["a"] * 90 + ["b"] * 89 + [None], "expected a section for every location"),
    ],
)
def test_bad_columns_are_refused(data, names, words):
    reference = data[1].copy()
    reference.obs["bad"] = pd.Series(names, reference.obs_names, dtype=object)
    with pytest.raises(PerlerInputError, match=words):
        fit_perler(data[0], reference, section_key="bad", progress=False)


def test_unknown_columns_and_tables_without_columns_are_refused(data):
    with pytest.raises(PerlerInputError, match=r"found slice"):
        fit_perler(*data, section_key="section", progress=False)
    with pytest.raises(PerlerInputError, match="expected columns of obs in the reference"):
        fit_perler(data[0], data[1].to_df(), section_key="slice", progress=False)


def test_sections_without_common_genes_are_refused(data):
    reference = data[1].copy()
    values, first = reference.X.copy(), (reference.obs["slice"] == "strip 0").to_numpy()
    values[np.ix_(first, np.arange(8))] = np.nan
    values[np.ix_(~first, np.arange(8, 16))] = np.nan
    reference.X = values
    for missing in ("fill", "drop", "refuse"):
        with pytest.raises(PerlerInputError, match="expected sections that share measured genes"):
            fit_perler(data[0], reference, section_key="slice", missing=missing, progress=False)
    values[first, 0] = data[1].X[first, 0]  # one gene links them
    reference.X = values
    linked = as_reference(reference, section_key="slice", missing="fill", scale="linear")
    assert linked.measured is not None


def test_a_section_in_one_place_is_refused(data):
    reference = data[1].copy()
    where = np.asarray(reference.obsm["spatial"]).copy()
    where[(reference.obs["slice"] == "strip 1").to_numpy()] = 1.0
    reference.obsm["spatial"] = where
    with pytest.raises(PerlerInputError, match="all of one place in strip 1"):
        fit_perler(data[0], reference, section_key="slice", progress=False)
