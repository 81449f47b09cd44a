"""Cells that a fit has not seen: the same mapping, the same centre, the same total."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import perler_jax as pj
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.trust import cell_positions
from perler_jax.trust.origins import Tempering

WEIGHTS = (0.2, 0.7)


def normalised(cells, total):
    counts = cells.X.toarray()
    linear = total * counts / counts.sum(axis=1, keepdims=True)
    return pj.as_cells(ad.AnnData(np.log1p(linear), obs=cells.obs, var=cells.var), scale="log1p")


@pytest.fixture(scope="module")
def embryo():
    return pj.simulate_embryo(seed=5, n_locations=150, n_cells=160, n_genes=40, n_landmarks=20)


@pytest.fixture(scope="module")
def old(embryo):
    return embryo.cells[:100].copy()


@pytest.fixture(scope="module")
def new(embryo):
    return embryo.cells[100:].copy()


@pytest.fixture(scope="module")
def fit(embryo, old):
    return pj.fit_perler(old, embryo.reference, weights=WEIGHTS, progress=False)


def test_the_cells_of_the_fit_come_back_where_they_were(fit, old):
    again = fit.place(old)
    np.testing.assert_allclose(again.cell_metagenes, fit.cell_metagenes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again.posterior().to_numpy(), fit.posterior().to_numpy(), atol=2e-4)
    np.testing.assert_allclose(again.reconstruct().X, fit.reconstruct().X, rtol=1e-3, atol=1e-3)


def test_some_of_them_stay_where_they_are(fit, old):
    """Neither the total nor the centre is that of the few: two cells are placed as among many."""
    some = old[[7, 3]]
    placed = fit.place(some)
    np.testing.assert_allclose(placed.cell_metagenes, fit.cell_metagenes[[7, 3]], rtol=1e-5, atol=1e-5)
    assert placed.preprocessing.target_total == fit.preprocessing.target_total
    np.testing.assert_allclose(placed.preprocessing.factors, fit.preprocessing.factors[[7, 3]])


def test_new_cells_are_found_and_predict(fit, new, embryo):
    placed = fit.place(new)
    assert list(placed.cell_names) == list(new.obs_names)
    truth = embryo.reference.obsm["spatial"][new.obs["true_location"].to_numpy()]
    found = cell_positions(placed, tempering=Tempering(), medoid=False)
    error = np.linalg.norm(found.mean - truth, axis=1)
    shuffled = np.linalg.norm(found.mean - truth[np.random.default_rng(0).permutation(len(truth))], axis=1)
    assert np.median(error) < 0.5 * np.median(shuffled)
    result = placed.reconstruct()
    assert result.shape == (150, 40)
    known = result.var["is_landmark"].to_numpy()
    both = [np.asarray(each.X[:, known], np.float64) for each in (result, fit.reconstruct())]
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(both[0].T, both[1].T, strict=True)]) > 0.5
    assert placed.scores.isna().all(axis=None)
    assert placed.mapping(top=3).shape == (60, 150)


def test_a_tuned_fit_and_a_saved_one_place_alike(embryo, old, new, tmp_path):
    settings = pj.PerlerSettings(folds=4)
    fit = pj.fit_perler(old, embryo.reference, settings=settings, progress=False)
    fit.save(tmp_path / "fit.npz")
    placed = fit.place(new)
    again = pj.load_fit(tmp_path / "fit.npz").place(new)
    np.testing.assert_array_equal(placed.cell_metagenes, again.cell_metagenes)
    assert len(placed.predictor) == 2  # the weighted mean, as it is
    placed.save(tmp_path / "placed.npz")
    assert list(pj.load_fit(tmp_path / "placed.npz").cell_names) == list(new.obs_names)


def test_order_of_genes_and_layout_do_not_matter(fit, new):
    turned = ad.AnnData(sp.csc_matrix(new.X), obs=new.obs, var=new.var)[:, ::-1]
    np.testing.assert_allclose(fit.place(turned).cell_metagenes, fit.place(new).cell_metagenes, atol=1e-5)


def test_evidence_has_its_say(fit, new):
    of_cells = np.ones((60, 1))
    of_locations = np.where(np.arange(150) < 10, 0.0, -1e3)[:, None]
    placed = fit.place(new, evidence=CellEvidence(of_cells, of_locations))
    assert placed.posterior().to_numpy()[:, :10].sum(axis=1).min() > 0.999
    with pytest.raises(PerlerInputError, match="evidence of 60 cells"):
        fit.place(new, evidence=CellEvidence(of_cells[:5], of_locations))


def test_what_does_not_fit_is_refused(fit, new):
    with pytest.raises(PerlerInputError, match=r"20 landmarks of the fit.*found no"):
        fit.place(new[:, 3:])
    logged = normalised(new, 1e4)
    with pytest.raises(PerlerInputError, match="scale"):
        fit.place(logged)
    with pytest.raises(PerlerInputError, match="positive totals"):
        fit.place(new, totals=np.ones(3))
    with pytest.raises(PerlerInputError, match="at least 2 cells"):
        fit.place(new[:1])


def test_normalised_cells_must_have_the_total_of_the_fit(embryo):
    old, new = embryo.cells[:100].copy(), embryo.cells[100:].copy()
    fit = pj.fit_perler(normalised(old, 1e4), embryo.reference, weights=WEIGHTS, progress=False)
    placed = fit.place(normalised(new, 1e4))
    np.testing.assert_allclose(placed.preprocessing.factors, fit.preprocessing.factors[0])
    with pytest.raises(PerlerInputError, match=r"same total.*times"):
        fit.place(normalised(new, 1e6))
    with pytest.raises(PerlerInputError, match="scale"):
        fit.place(pj.as_cells(new, scale="counts"))


def test_an_older_file_needs_its_cells(fit, old, new, tmp_path):
    import dataclasses

    older = dataclasses.replace(fit, given=dataclasses.replace(fit.given, centres=None))
    np.testing.assert_allclose(older.place(new).cell_metagenes, fit.place(new).cell_metagenes, atol=1e-6)
    older.save(tmp_path / "old.npz")
    with pytest.raises(PerlerInputError, match="older version"):
        pj.load_fit(tmp_path / "old.npz").place(new)
