"""What a result holds is what the page says, and other programs open it."""

import dataclasses
import re
from pathlib import Path

import anndata
import matplotlib
import numpy as np
import pytest

import perler_jax as pj
from perler_jax.trust import summarise

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "results.md"


@pytest.fixture(scope="module")
def fit():
    embryo = pj.simulate_embryo(seed=2, n_locations=150, n_cells=120, n_genes=50, n_landmarks=20)
    reference = embryo.reference.copy()
    reference.obsm["spatial"] = reference.obsm["spatial"][:, :2]
    reference.obs["half"] = np.where(reference.obsm["spatial"][:, 0] > 0, "right", "left")
    reference.X = np.array(reference.X)
    reference.X[3, 2] = np.nan
    settings = pj.PerlerSettings(n_metagenes=8, predictor="mean", search="grid", folds=4)
    return pj.fit_perler(embryo.cells, reference, settings=settings, missing="fill", progress=False)


@pytest.fixture(scope="module")
def result(fit):
    return fit.reconstruct()


def test_every_field_of_the_record_is_in_the_table(fit, result):
    part = PAGE.read_text(encoding="utf-8").partition('## `uns["perler"]`')[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    halves = {"sections": fit.reference.beside.obs["half"].to_numpy(str), "section_key": "half"}
    in_sections = dataclasses.replace(fit, reference=dataclasses.replace(fit.reference, **halves))
    found = set(result.uns["perler"]) | set(summarise(fit, ["gap1"]).uns["perler"])
    found |= set(in_sections.provenance())
    assert named == found


def test_scanpy_draws_a_result(result, tmp_path):
    scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed")
    matplotlib.use("agg")
    result.write_h5ad(tmp_path / "result.h5ad")
    again = scanpy.read_h5ad(tmp_path / "result.h5ad")
    axes = scanpy.pl.embedding(again, "spatial", color=["gap1", "half"], show=False)
    assert len(axes) == 2


def test_squidpy_draws_a_result(result):
    squidpy = pytest.importorskip("squidpy", reason="squidpy is not installed")
    matplotlib.use("agg")
    axes = squidpy.pl.spatial_scatter(result, shape=None, color=["gap1", "half"], return_ax=True)
    assert len(axes) == 2


def test_texts_are_written_as_all_readers_know_them(result, tmp_path):
    """No encoding that is younger than anndata 0.8: what R's readers and anndata 0.10 open."""
    import h5py

    result.write_h5ad(tmp_path / "result.h5ad", convert_strings_to_categoricals=False)
    old = {
        "anndata",
        "dataframe",
        "dict",
        "array",
        "string",
        "string-array",
        "categorical",
        "csr_matrix",
        "csc_matrix",
    }
    old |= {"numeric-scalar", "raw", "null"}
    kinds = set()
    with h5py.File(tmp_path / "result.h5ad") as file:
        file.visititems(lambda _, node: kinds.add(node.attrs.get("encoding-type", "array")))
    assert kinds <= old - {"null"}


def test_a_result_becomes_a_spatialdata(result):
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    made = pj.to_spatialdata(result)
    table = made["perler"]
    element, key = "perler_locations", table.uns["spatialdata_attrs"]["instance_key"]
    centres = spatialdata.get_centroids(made[element]).compute().loc[table.obs[key]]
    np.testing.assert_allclose(centres[["x", "y"]], result.obsm["spatial"])
    assert made[element]["radius"].iloc[0] > 0
    np.testing.assert_array_equal(table.X, result.X)
    assert "instance_id" not in result.obs


def test_a_result_annotates_what_its_reference_did(fit):
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    first = pj.to_spatialdata(
        anndata.AnnData(np.zeros((150, 1)), obsm={"spatial": fit.reference.coordinates})
    )
    known = first["perler"]
    with_keys = fit.reconstruct(["gap1"])
    with pytest.raises(pj.PerlerInputError, match="annotates; leave"):
        pj.to_spatialdata(with_keys, into=first, name="genes")
    with_keys.uns["spatialdata_attrs"] = dict(known.uns["spatialdata_attrs"])
    for column in ("region", "instance_id"):
        with_keys.obs[column] = known.obs[column].to_numpy()
    made = pj.to_spatialdata(with_keys, into=first, name="genes")
    assert made is first
    assert isinstance(made, spatialdata.SpatialData)
    assert list(made["genes"].var_names) == ["gap1"]
    assert made["genes"].uns["spatialdata_attrs"]["region"] == ["perler_locations"] or (
        made["genes"].uns["spatialdata_attrs"]["region"] == "perler_locations"
    )
    with pytest.raises(pj.PerlerInputError, match="new name"):
        pj.to_spatialdata(with_keys, into=first, name="genes")
    with pytest.raises(pj.PerlerInputError, match="found dict"):
        pj.to_spatialdata(with_keys, into={})


def test_three_coordinates_become_points():
    pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    places = np.random.default_rng(0).normal(size=(30, 3))
    made = pj.to_spatialdata(anndata.AnnData(np.zeros((30, 1)), obsm={"spatial": places}))
    np.testing.assert_allclose(made["perler_locations"].compute()[["x", "y", "z"]], places)
    with pytest.raises(pj.PerlerInputError, match="positions"):
        pj.to_spatialdata(anndata.AnnData(np.zeros((3, 1))))


def test_without_spatialdata_it_says_how_to_get_it(result, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spatialdata", None)
    with pytest.raises(pj.PerlerInputError, match=r"perler_jax\[spatial\]"):
        pj.to_spatialdata(result)
