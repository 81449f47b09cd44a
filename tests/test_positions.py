"""Positions of cells against brute force on dense responsibilities, sorted and summed by NumPy."""

import dataclasses

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams
from perler_jax.noise import StudentT
from perler_jax.trust import origins, rows
from perler_jax.trust.credible import mass_radius, mass_threshold, summarise_rows
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.positions import cell_positions
from perler_jax.trust.rows import Tissue, expected_distances
from perler_jax.trust.tissue import Midline, location_spacing, region_masks
from tests import oracle

CELLS, LOCATIONS, METAGENES = 11, 37, 3
PLAIN = Tempering()


def make_posterior(seed=1, n_cells=CELLS, n_locations=LOCATIONS, noise=(0.4, 1.2)):
    """A posterior whose cells come from the model itself, its loops' arguments, and the true origins."""
    rng = np.random.default_rng(seed)
    r, pi = rng.normal(size=(n_locations, METAGENES)), rng.dirichlet(np.full(n_locations, 3.0))
    a, b, sigma = rng.normal(1, 0.3, METAGENES), rng.normal(size=METAGENES), rng.uniform(*noise, METAGENES)
    truth = rng.choice(n_locations, n_cells, p=pi)
    x = a * r[truth] + b + sigma * rng.normal(size=(n_cells, METAGENES))
    with jax.enable_x64(True):
        params = MappingParams(*(jnp.asarray(each) for each in (a, b, sigma, np.log(pi))))
    posterior = OriginPosterior(
        params,
        x,
        r,
        cells=np.array([f"cell{i}" for i in range(n_cells)]),
        locations=np.array([f"place{i}" for i in range(n_locations)]),
        coordinates=rng.uniform(-5, 5, (n_locations, 3)),
        precision="float64",
    )
    return posterior, (x, a, b, sigma, pi, r), truth


def brute_rows(loops, temperature=1.0):
    x, a, b, sigma, pi, r = loops
    return oracle.responsibilities(x, a, b, sigma * np.sqrt(temperature), pi, r)


def smallest_region(row, mass):
    """Most probable first, until the mass is there."""
    chosen, held = set(), 0.0
    for k in np.argsort(-row, kind="stable"):
        if held >= mass:
            break
        chosen.add(int(k))
        held += row[k]
    return chosen


@pytest.fixture(scope="module")
def problem():
    return make_posterior()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_every_column_equals_brute_force(problem, temperature):
    posterior, loops, _ = problem
    front = posterior.coordinates[:, 0] < 0
    regions = {"front": front, "few": ["place3", "place30"]}
    found = cell_positions(posterior, tempering=Tempering(temperature), regions=regions)
    gamma, z = brute_rows(loops, temperature), posterior.coordinates
    distance = np.linalg.norm(z[:, None] - z, axis=2)
    spacing = np.median(np.sort(distance, axis=1)[:, 1])
    assert found.spacing == pytest.approx(spacing)
    assert list(found.table.index) == list(posterior.cells)
    for row, (_, line) in zip(gamma, found.table.iterrows(), strict=True):
        top = int(row.argmax())
        assert line["top_location"] == f"place{top}"
        assert line["top_probability"] == pytest.approx(row.max(), rel=1e-9)
        entropy = -sum(p * np.log(p) for p in row if p > 0)
        assert line["entropy"] == pytest.approx(entropy, rel=1e-9)
        assert line["effective_locations"] == pytest.approx(np.exp(entropy), rel=1e-9)
        assert line["medoid_location"] == f"place{int((distance @ row).argmin())}"
        for q in (0.5, 0.9):
            assert line[f"n_locations_{100 * q:g}"] == len(smallest_region(row, q))
            order = np.argsort(distance[top])
            reached = np.searchsorted(np.cumsum(row[order]), q)
            assert line[f"radius_{100 * q:g}"] == pytest.approx(distance[top][order][reached])
        for number, column in ((1, "within_1_spacing"), (2, "within_2_spacings"), (4, "within_4_spacings")):
            assert line[column] == pytest.approx(row[distance[top] <= number * spacing * 1.00001].sum())
        assert line["probability_front"] == pytest.approx(row[front].sum())
        assert line["probability_few"] == pytest.approx(row[3] + row[30])
    np.testing.assert_allclose(found.mean, gamma @ z, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.top, z[gamma.argmax(axis=1)])
    np.testing.assert_array_equal(found.medoid, z[(gamma @ distance).argmin(axis=1)])


def test_credible_regions_hold_what_brute_force_holds(problem):
    posterior, loops, truth = problem
    found = cell_positions(posterior, tempering=PLAIN)
    gamma = brute_rows(loops)
    for mass in (0.2, 0.5, 0.9, 0.99):
        regions = [smallest_region(row, mass) for row in gamma]
        held = found.contains(truth, mass)
        assert held.tolist() == [int(k) in region for k, region in zip(truth, regions, strict=True)]
        assert set(np.flatnonzero(found.region("cell4", mass))) == regions[4]
    names = posterior.locations[truth]
    np.testing.assert_array_equal(found.contains(names), found.contains(truth))
    # Coordinates stand for their nearest location.
    nearby = posterior.coordinates[truth] + 1e-3
    np.testing.assert_array_equal(found.credible_levels(nearby), found.credible_levels(truth))


def test_regions_of_a_true_model_hold_the_truth_as_often_as_they_promise():
    posterior, _, truth = make_posterior(seed=2, n_cells=3000, n_locations=120, noise=(0.5, 1.0))
    found = cell_positions(posterior, tempering=PLAIN, medoid=False)
    for mass in (0.5, 0.9):
        # A region holds a little more than its mass: its last location is in as a whole.
        gamma = brute_mass(posterior, mass)
        assert np.all(gamma >= mass)
        error = 4 * np.sqrt(np.mean(gamma * (1 - gamma)) / len(truth))
        assert abs(found.contains(truth, mass).mean() - gamma.mean()) < error


def brute_mass(posterior, mass):
    """Probability in each cell's region, by sorting."""
    with jax.enable_x64(True):
        gamma = np.asarray(
            rows.responsibilities(
                posterior.params,
                jnp.asarray(posterior.cell_metagenes),
                jnp.asarray(posterior.reference_metagenes),
            )
        )
    ordered = -np.sort(-gamma, axis=1)
    held = np.cumsum(ordered, axis=1)
    return np.take_along_axis(held, np.argmax(held >= mass, axis=1)[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_are_exact_with_ties_and_zeros(dtype):
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, (100, 16)) + np.eye(100, 16)  # full of ties, in exact fractions
    table = (counts / 2 ** np.ceil(np.log2(counts.sum(axis=1, keepdims=True)))).astype(dtype)
    squared = rng.integers(0, 5, (100, 16)).astype(dtype)
    with jax.enable_x64(dtype is np.float64):
        of_table, of_squared = jax.jit(mass_threshold), jax.jit(mass_radius)
        for mass in (0.25, 0.5, 0.75):
            threshold = np.asarray(of_table(jnp.asarray(table), mass))
            radius = np.asarray(of_squared(jnp.asarray(table), jnp.asarray(squared), mass))
            assert threshold.dtype == radius.dtype == dtype
            for row, far, at, reach in zip(table, squared, threshold, radius, strict=True):
                needed = mass * row.sum()
                assert at == max(p for p in row if row[row >= p].sum() >= needed)
                assert reach**2 == pytest.approx(min(d for d in far if row[far <= d].sum() >= needed))


def test_temperature_is_a_power_of_the_likelihood(problem):
    posterior, loops, truth = problem
    _, *_, pi, _ = loops
    likelihood = brute_rows(loops) / pi
    tempered = pi * likelihood ** (1 / 3)
    tempered /= tempered.sum(axis=1, keepdims=True)
    _, own = posterior.levels(np.arange(CELLS), truth, Tempering(3.0))
    np.testing.assert_allclose(own, tempered[np.arange(CELLS), truth], rtol=1e-9)


def test_spread_takes_a_cell_to_the_places_around(problem):
    posterior, loops, truth = problem
    gamma, z, pi = brute_rows(loops), posterior.coordinates, loops[4]
    for spread in (0.5, 2.0):
        kernel = pi * np.exp(-0.5 * (np.linalg.norm(z[:, None] - z, axis=2) / spread) ** 2)
        expected = gamma @ (kernel / kernel.sum(axis=1, keepdims=True))
        own = expected[np.arange(CELLS), truth]
        level, found = posterior.levels(np.arange(CELLS), truth, Tempering(1.0, spread))
        np.testing.assert_allclose(found, own, rtol=1e-9)
        np.testing.assert_allclose(level, (expected * (expected > own[:, None])).sum(axis=1), rtol=1e-7)
        mean = cell_positions(posterior, tempering=Tempering(1.0, spread)).mean
        np.testing.assert_allclose(mean, expected @ z, rtol=1e-9)


def test_tiles_and_the_choice_of_cells_change_nothing(problem, monkeypatch):
    posterior, _, _ = problem
    options = {"tempering": PLAIN, "n_samples": 4, "seed": 5}
    whole = cell_positions(posterior, **options)
    monkeypatch.setattr(origins, "_ROW_ELEMENTS", 3 * LOCATIONS)
    tiled = cell_positions(posterior, **options)
    pd.testing.assert_frame_equal(tiled.table, whole.table, rtol=1e-9)
    np.testing.assert_array_equal(tiled.samples, whole.samples)
    some = cell_positions(posterior, ["cell7", "cell2"], **options)
    pd.testing.assert_frame_equal(some.table, whole.table.loc[["cell7", "cell2"]], rtol=1e-9)
    np.testing.assert_array_equal(some.samples, whole.samples[[7, 2]])


def test_blocks_of_locations_change_no_expected_distance(monkeypatch):
    rng = np.random.default_rng(4)
    table, z = rng.dirichlet(np.ones(23), 5), rng.normal(size=(23, 2))
    expected = table @ np.linalg.norm(z[:, None] - z, axis=2)
    for elements in (23 * 7, 23, 10**6):
        monkeypatch.setattr(rows, "BLOCK_ELEMENTS", elements)
        np.testing.assert_allclose(
            expected_distances(jnp.asarray(table), jnp.asarray(z)), expected, rtol=1e-5
        )


def test_samples_follow_the_posterior_and_the_seed(problem):
    posterior, loops, _ = problem
    options = {"tempering": PLAIN, "n_samples": 4000, "medoid": False}
    found = cell_positions(posterior, seed=1, **options)
    shares = np.stack([np.bincount(each, minlength=LOCATIONS) for each in found.samples]) / 4000
    gamma = brute_rows(loops)
    assert np.abs(shares - gamma).max() < 5 * np.sqrt(0.25 / 4000)
    assert not shares[gamma < 1e-12].any()
    again, other = (cell_positions(posterior, seed=seed, **options).samples for seed in (1, 2))
    np.testing.assert_array_equal(found.samples, again)
    assert (found.samples != other).any()
    np.testing.assert_array_equal(found.sampled_coordinates(), posterior.coordinates[found.samples])


def two_sided(posterior, at=0.0):
    """The same tissue with its mirror image, each pair alike in expression; the given half is on one side."""
    z = posterior.coordinates * [1, 0.1, 1] + [0, 7.0, 0]
    mirrored, shift = z * [1, -1, 1], np.array([0, at, 0])
    half = dataclasses.replace(posterior, coordinates=z + shift)
    with jax.enable_x64(True):
        weights = jnp.asarray(np.tile(np.asarray(posterior.params.log_location_weights), 2))
    both = dataclasses.replace(
        posterior,
        params=dataclasses.replace(posterior.params, log_location_weights=weights),
        reference_metagenes=np.tile(posterior.reference_metagenes, (2, 1)),
        locations=np.array([f"place{i}" for i in range(2 * LOCATIONS)]),
        coordinates=np.concatenate([z, mirrored]) + shift,
    )
    return half, both


@pytest.mark.parametrize("at", [0.0, -3.5])
def test_a_map_of_both_sides_folded_is_the_map_of_one(problem, at):
    half, both = two_sided(problem[0], at)
    one = cell_positions(half, tempering=PLAIN, midline=Midline(1, at))
    two = cell_positions(both, tempering=PLAIN, midline=Midline(1, at))
    flat = cell_positions(both, tempering=PLAIN)
    np.testing.assert_allclose(flat.mean[:, 1], at, atol=1e-9)  # on the midline: nowhere near the cell
    np.testing.assert_allclose(two.mean, one.mean, rtol=1e-9)
    assert (two.mean[:, 1] > 6).all(), "the distance from the midline"
    np.testing.assert_allclose(two.top, one.top)
    np.testing.assert_allclose(two.medoid, one.medoid)
    for column in ("radius_50", "radius_90"):
        np.testing.assert_allclose(two.table[column], one.table[column], rtol=1e-9, atol=1e-9)
    assert (flat.table["radius_90"] > 12).all(), "unfolded, it reaches across"
    np.testing.assert_allclose(two.table["effective_locations"], 2 * one.table["effective_locations"])


def test_a_true_place_on_the_other_side_is_folded_too(problem):
    half, _ = two_sided(problem[0])
    found = cell_positions(half, tempering=PLAIN, midline=Midline(1))
    right = half.coordinates[problem[2]]
    np.testing.assert_array_equal(found.credible_levels(right * [1, -1, 1]), found.credible_levels(right))
    low, high = Midline(1).sides(found.mean)
    np.testing.assert_allclose(Midline(1).fold(low), found.mean)
    np.testing.assert_allclose(high - low, 2 * found.mean * [0, 1, 0])


def test_annotation_keeps_the_input_and_survives_a_file(problem, tmp_path):
    posterior, _, _ = problem
    found = cell_positions(posterior, slice(1, 9), tempering=Tempering(2.0), n_samples=2, seed=0)
    cells = ad.AnnData(np.ones((CELLS, 4)), obs=pd.DataFrame({"mine": 1}, index=posterior.cells))
    annotated = found.annotate(cells)
    assert list(cells.obs) == ["mine"]
    assert not cells.obsm
    assert np.shares_memory(annotated.X, cells.X)
    annotated.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert read.obs["mine"].eq(1).all()
    np.testing.assert_allclose(read.obs["origin_entropy"].iloc[1:9], found.table["entropy"])
    assert read.obs["origin_entropy"].isna().sum() == CELLS - 8
    np.testing.assert_array_equal(read.obsm["spatial_mean"][1:9], found.mean)
    assert np.isnan(read.obsm["spatial_mean"][0]).all()
    assert read.obsm["spatial_samples"].shape == (CELLS, 2 * 3)
    np.testing.assert_array_equal(
        read.obsm["spatial_samples"][1:9].reshape(8, 2, 3), found.sampled_coordinates()
    )
    assert read.uns["positions"]["temperature"] == 2.0
    with pytest.raises(PerlerInputError, match="names must agree"):
        found.annotate(cells[:3])


@pytest.mark.parametrize("kind", ["whole", "view", "sparse", "backed"])
def test_annotation_keeps_the_layers_of_the_cells(problem, tmp_path, kind):
    posterior, _, _ = problem
    counts = np.arange(CELLS * 4.0).reshape(CELLS, 4)
    values = sp.csr_array(counts + 1) if kind == "sparse" else counts + 1
    cells = ad.AnnData(values, obs=pd.DataFrame(index=posterior.cells), layers={"raw": counts})
    if kind == "view":
        cells = cells[:, 1:]
    if kind == "backed":
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    annotated = cell_positions(posterior, tempering=PLAIN).annotate(cells)
    assert set(annotated.layers) - {None} == {"raw"}
    np.testing.assert_array_equal(annotated.layers["raw"], counts[:, int(kind == "view") :])
    found = annotated.X.toarray() if kind == "sparse" else np.asarray(annotated.X[:])
    np.testing.assert_array_equal(found, annotated.layers["raw"] + 1)


def test_evidence_and_heavy_tails_are_part_of_the_posterior(problem):
    posterior, loops, _ = problem
    rng = np.random.default_rng(6)
    f, g = rng.normal(size=(CELLS, 2)), rng.normal(size=(LOCATIONS, 2))
    known = dataclasses.replace(posterior, evidence=CellEvidence(f, g))
    expected = brute_rows(loops) * np.exp(f @ g.T)
    expected /= expected.sum(axis=1, keepdims=True)
    found = cell_positions(known, tempering=PLAIN)
    np.testing.assert_allclose(found.mean, expected @ posterior.coordinates, rtol=1e-8)
    one = cell_positions(known, ["cell5"], tempering=PLAIN).table
    pd.testing.assert_frame_equal(one, found.table.loc[["cell5"]], rtol=1e-9)
    heavy = dataclasses.replace(posterior.params, noise_family=StudentT(3.0))
    x, a, b, sigma, pi, r = loops
    squared = (((x[:, None] - a * r - b) / sigma) ** 2).sum(axis=2)
    expected = pi * (1 + squared / 3.0) ** (-(3.0 + METAGENES) / 2)
    expected /= expected.sum(axis=1, keepdims=True)
    found = cell_positions(dataclasses.replace(posterior, params=heavy), tempering=PLAIN)
    np.testing.assert_allclose(found.mean, expected @ posterior.coordinates, rtol=1e-8)


def test_without_coordinates_nothing_is_a_length(problem):
    zones = dataclasses.replace(problem[0], coordinates=None)
    found = cell_positions(zones, tempering=PLAIN)
    located = cell_positions(problem[0], tempering=PLAIN)
    assert found.mean is None
    assert set(located.table) - set(found.table) == {
        *("radius_50", "radius_90", "within_1_spacing", "within_2_spacings", "within_4_spacings"),
        "medoid_location",
    }
    pd.testing.assert_frame_equal(found.table, located.table[found.table.columns])


def test_regions_by_name_mask_and_label():
    names = np.array(["a", "b", "c", "d"])
    given = {"one": ["b"], "two": np.array([True, False, False, True]), "three": [2, 3]}
    found, masks = region_masks(given, names)
    assert found == ["one", "two", "three"]
    np.testing.assert_array_equal(masks, np.array([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1]], bool))
    labels = pd.Series(["x", None, "y", "x"], index=["d", "c", "b", "a"])  # matched by name
    found, masks = region_masks(labels, names)
    assert dict(zip(found, masks.tolist(), strict=True)) == {
        "x": [True, False, False, True],
        "y": [False, True, False, False],
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masses": (0.5, 1.0)}, "between 0 and 1"),
        ({"masses": ()}, "between 0 and 1"),
        ({"cells": ["nobody"]}, "nobody"),
        ({"cells": []}, "at least one cell"),
        ({"n_samples": 3}, "a seed"),
        ({"regions": {"here": ["nowhere"]}}, "nowhere"),
        ({"regions": {"here": []}}, "found none in here"),
        ({"regions": ["x", "y"]}, f"each of {LOCATIONS} locations"),
        ({"midline": Midline(3)}, "counted from 0"),
        ({"tempering": "agreement"}, "PerlerFit"),
        ({"tempering": "auto"}, "PerlerFit"),
    ],
)
def test_what_cannot_be_used_is_refused(problem, options, message):
    with pytest.raises(PerlerInputError, match=message):
        cell_positions(problem[0], **({"tempering": PLAIN} | options))


def test_bad_values_are_refused(problem):
    posterior, _, truth = problem
    with pytest.raises(PerlerInputError, match="temperature > 0"):
        Tempering(0.0)
    with pytest.raises(PerlerInputError, match="spread >= 0"):
        Tempering(1.0, -1.0)
    with pytest.raises(PerlerInputError, match="from left to right"):
        Midline(-1)
    with pytest.raises(PerlerInputError, match="one per row"):
        dataclasses.replace(posterior, locations=posterior.locations[1:])
    with pytest.raises(PerlerInputError, match="on top of another"):
        location_spacing(np.zeros((5, 2)))
    nowhere = dataclasses.replace(posterior, coordinates=None)
    with pytest.raises(PerlerInputError, match="spread"):
        cell_positions(nowhere, tempering=Tempering(1.0, 2.0))
    with pytest.raises(PerlerInputError, match="midline"):
        cell_positions(nowhere, tempering=PLAIN, midline=Midline(0))
    found = cell_positions(posterior, tempering=PLAIN)
    with pytest.raises(PerlerInputError, match=f"each of {CELLS} cells"):
        found.contains(truth[1:])
    with pytest.raises(PerlerInputError, match="finite coordinates"):
        found.contains(np.full((CELLS, 3), np.nan))
    with pytest.raises(PerlerInputError, match="between 0 and 1"):
        found.contains(truth, 90.0)


def test_no_more_than_a_tile_of_rows_lives():
    """From the compiler's own account, and from the shapes that are asked for."""
    shapes = []

    def watch(params, cells, reference, *_):
        shapes.append((len(cells), len(reference)))
        return cells[:, 0]

    posterior, _, _ = make_posterior(n_cells=5000, n_locations=3000)
    posterior.over_tiles(watch, np.arange(5000), tempering=PLAIN)
    assert sum(cells for cells, _ in shapes) >= 5000
    assert max(cells * locations for cells, locations in shapes) <= 1_400_000
    assert len({cells for cells, _ in shapes}) == 1, "one shape, one compilation"

    def summarise(a, cells, reference, coordinates, regions, pair, triple, indices):
        tissue, key = Tissue(coordinates, regions), jax.random.key(0)
        params = MappingParams(a, a, a)
        return summarise_rows(
            params, cells, reference, None, tissue, pair, triple, key, indices, medoid=True, n_samples=5
        )

    for n_cells, n_locations in ((350, 4000), (35, 40_000)):
        shapes = [(METAGENES,), (n_cells, METAGENES), (n_locations, METAGENES), (n_locations, 3)]
        shapes += [(2, n_locations), (2,), (3,)]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        indices = jax.ShapeDtypeStruct((n_cells,), jnp.int32)
        compiled = jax.jit(summarise).lower(*arguments, indices).compile()
        tile = 4 * 1_400_000
        assert compiled.memory_analysis().temp_size_in_bytes < 12 * tile
        assert 12 * tile < 0.02 * 4 * 40_000**2, "nor are there locations x locations"
