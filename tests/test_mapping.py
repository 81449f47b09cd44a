"""The sparse mapping against rows of the dense posterior and dense weights, sorted by NumPy."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import perler_jax as pj
from perler_jax.errors import PerlerInputError
from perler_jax.mixture import MappingParams
from perler_jax.trust import origins
from perler_jax.trust.credible import count_threshold
from perler_jax.trust.mapping import _posterior_kept, _sparse
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.rows import Tissue

WEIGHTS = (0.2, 0.7)


@pytest.fixture(scope="module")
def fit():
    embryo = pj.simulate_embryo(seed=3, n_locations=120, n_cells=70, n_genes=40, n_landmarks=14)
    settings = pj.PerlerSettings(dtype="float64", foreign_cells=True)
    return pj.fit_perler(embryo.cells, embryo.reference, settings=settings, weights=WEIGHTS, progress=False)


def brute(dense, mass=None, top=None):
    """Row by row, most probable first, until there is enough."""
    found = np.zeros_like(dense)
    for row, into in zip(dense, found, strict=True):
        order = np.argsort(-row, kind="stable")
        if mass is not None:
            order = order[: int(np.searchsorted(np.cumsum(row[order]), mass * row.sum())) + 1]
        order = order[:top]
        into[order] = row[order]
    return found


@pytest.mark.parametrize(("mass", "top"), [(0.8, None), (None, 5), (0.6, 3), (None, 1000)])
def test_what_is_kept_equals_brute_force(fit, mass, top):
    found = fit.mapping(mass=mass, top=top)
    assert sp.issparse(found.X)
    assert found.X.format == "csr"
    expected = brute(fit.posterior().to_numpy(), mass, top)
    np.testing.assert_allclose(found.X.toarray(), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.obs["kept_mass"], expected.sum(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(found.obs["n_locations"], (expected > 0).sum(axis=1))
    assert list(found.obs_names) == list(fit.cell_names)
    assert list(found.var_names) == list(fit.reference.locations)
    np.testing.assert_array_equal(found.varm["spatial"], fit.reference.coordinates)
    np.testing.assert_allclose(found.obs["foreign"], fit.foreign)
    assert found.uns["perler"]["mapping"].get("top") == top


def test_a_mass_is_kept_where_nothing_is_said(fit):
    found = fit.mapping()
    assert found.uns["perler"]["mapping"] == {
        "of": "posterior",
        "mass": 0.95,
        "temperature": 1.0,
        "spread": 0.0,
    }
    assert (found.obs["kept_mass"] >= 0.95).all()
    assert found.X.nnz < found.n_obs * found.n_vars / 2


def test_a_tempered_posterior_is_broader(fit):
    plain, dull = fit.mapping(mass=0.9), fit.mapping(mass=0.9, tempering=Tempering(3.0))
    assert dull.obs["n_locations"].mean() > 1.3 * plain.obs["n_locations"].mean()
    assert dull.uns["perler"]["mapping"]["temperature"] == 3.0


def test_weights_are_those_of_the_weighted_mean(fit):
    """The dense matrix, divided by what each location gathers, makes the same averages."""
    found = fit.mapping(top=len(fit.reference.locations), of="weights").X.toarray()
    values = np.random.default_rng(0).normal(size=(len(found), 2))
    means = found.T @ values / found.sum(axis=0)[:, None]
    with jax.enable_x64(True):
        expected = fit.cell_weights().total(jnp.asarray(values))
    np.testing.assert_allclose(means, expected, rtol=1e-7)


def test_chosen_cells_in_their_order(fit):
    some = fit.cell_names[[5, 2]]
    found = fit.mapping(some, top=4, of="weights")
    assert list(found.obs_names) == list(some)
    whole = fit.mapping(top=4, of="weights")
    np.testing.assert_allclose(found.X.toarray(), whole.X.toarray()[[5, 2]], rtol=1e-12)


def test_ties_are_all_in_a_mass_and_cut_at_a_number():
    rows = np.array([[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]], np.float32)
    least = np.asarray(count_threshold(jnp.asarray(rows), 2))
    np.testing.assert_allclose(least, [0.25, 0.1])
    kept = _sparse((rows, least), top=2).toarray()
    np.testing.assert_array_equal(kept, np.float32([[0.25, 0.25, 0, 0], [0.7, 0.1, 0, 0]]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mass": 1.5}, "between 0 and 1"),
        ({"mass": 0.0}, "between 0 and 1"),
        ({"top": 0}, "at least 1 location"),
        ({"of": "gamma"}, "of='posterior' or of='weights'"),
        ({"tempering": 2.0}, "or a Tempering"),
        ({"of": "weights", "tempering": Tempering(2.0)}, "leave it out"),
        ({"cells": []}, "at least one cell"),
        ({"cells": ["nobody"]}, "unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(fit, arguments, words):
    with pytest.raises(PerlerInputError, match=words):
        fit.mapping(**arguments)


def test_what_is_known_of_cells_and_locations_stays(fit):
    reference = pj.simulate_embryo(seed=3, n_locations=120, n_cells=70, n_genes=40, n_landmarks=14).reference
    reference.obs["side"] = np.where(reference.obsm["spatial"][:, 2] > 0, "dorsal", "ventral")
    cells = fit.cells
    again = pj.fit_perler(cells, reference, weights=WEIGHTS, progress=False)
    found = again.mapping(fit.cell_names[[4, 1]], top=2)
    assert list(found.var["side"]) == list(reference.obs["side"])
    assert list(found.obs["true_location"]) == list(cells.beside.obs["true_location"].iloc[[4, 1]])


def test_it_is_written_and_read(fit, tmp_path):
    import anndata as ad

    found = fit.mapping(top=3)
    assert {found.obs.index.dtype, found.var.index.dtype} == {np.dtype(object)}  # also by pandas 3
    found.write_h5ad(tmp_path / "mapping.h5ad")
    again = ad.read_h5ad(tmp_path / "mapping.h5ad")
    assert (again.X != found.X).nnz == 0


def test_memory_is_a_few_tiles_and_the_result():
    """By the compiler's own account on the device, and by Python's on the host."""
    n_locations, n_metagenes = 20_000, 8
    tile = origins._ROW_ELEMENTS // n_locations

    params = MappingParams(*(jnp.ones(n_metagenes) for _ in range(3)))
    tissue = Tissue(None, jnp.zeros((0, n_locations)))
    sides = (params, jnp.zeros((tile, n_metagenes)), jnp.zeros((n_locations, n_metagenes)), None, tissue)
    program = _posterior_kept.lower(*sides, mass=jnp.float32(0.9), top=50).compile().memory_analysis()
    assert program.temp_size_in_bytes + program.output_size_in_bytes < 8 * 4 * origins._ROW_ELEMENTS

    rng = np.random.default_rng(0)
    peaks = [host_peak(rng, n_cells, 3000) for n_cells in (2000, 8000)]
    dense = 4 * 8000 * 3000
    assert peaks[1] < dense / 2
    assert peaks[1] - peaks[0] < 6000 * 20 * 60  # 20 entries of each cell, a few copies of index and value


def host_peak(rng, n_cells, n_locations):
    """Bytes of NumPy at the peak of a mapping of so many cells."""
    params = MappingParams(*(jnp.ones(4, jnp.float32) for _ in range(3)))
    posterior = OriginPosterior(
        params,
        rng.normal(size=(n_cells, 4)).astype(np.float32),
        rng.normal(size=(n_locations, 4)).astype(np.float32),
        np.arange(n_cells).astype(str),
        np.arange(n_locations).astype(str),
    )
    tracemalloc.start()
    try:
        parts = posterior.over_tiles(
            lambda *tile: _posterior_kept(*tile, mass=None, top=20),
            np.arange(n_cells),
            tempering=Tempering(),
            shrink=lambda found: _sparse(found, top=20),
        )
        assert sp.vstack(parts).nnz == 20 * n_cells
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
