"""What a result holds is what the page says, and other programs open it."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pytest

import perler_jax as pj
from perler_jax.app.believable import believable_result
from perler_jax.app.outputs import write_h5ad
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


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    """A Python with anndata 0.10: that of PERLER_JAX_OLD_ANNDATA, or one made here."""
    given = os.environ.get("PERLER_JAX_OLD_ANNDATA")
    if given:
        return given
    folder = tmp_path_factory.mktemp("old") / "environment"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    make = [sys.executable, "-m", "venv", str(folder)]
    fill = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10"]
    try:
        subprocess.run(make, check=True, capture_output=True, timeout=120)
        subprocess.run([*fill, "anndata==0.10.9"], check=True, capture_output=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(
            f"no environment with anndata 0.10 could be made ({type(error).__name__}); name a Python "
            "that has it in PERLER_JAX_OLD_ANNDATA"
        )
    return str(python)


def test_anndata_from_before_opens_a_result(result, fit, old_python, tmp_path):
    """Plain encodings of texts, which readers of R share; also with sections, flags and reasons."""
    told = believable_result(fit)
    told.obs["slice"] = pd.Categorical(np.where(np.arange(150) % 2, "a", "b"))
    write_h5ad(told, tmp_path / "result.h5ad")
    script = """
import json, sys, anndata
found = anndata.read_h5ad(sys.argv[1])
assert anndata.__version__.startswith("0.10"), anndata.__version__
print(json.dumps({
    "shape": found.shape, "genes": list(found.var_names[:3]), "flag": list(found.var["flag"][:3].astype(str)),
    "half": list(found.obs["half"][:3].astype(str)), "x": float(found.X[2, 1]),
    "units": str(found.uns["perler"]["units"]), "spatial": found.obsm["spatial"].shape,
}))
"""
    done = subprocess.run(
        [old_python, "-W", "ignore", "-c", script, str(tmp_path / "result.h5ad")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shape"] == list(told.shape)
    assert found["genes"] == list(told.var_names[:3])
    assert found["flag"] == list(told.var["flag"][:3].astype(str))
    assert found["half"] == list(told.obs["half"][:3].astype(str))
    assert found["x"] == pytest.approx(float(told.X[2, 1]))
    assert found["units"] == told.uns["perler"]["units"]
    assert found["spatial"] == [150, 2]


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


@pytest.mark.parametrize("axes", [2, 3])
def test_every_section_is_an_element_of_its_own(axes):
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    places = np.random.default_rng(0).normal(size=(30, axes))
    table = anndata.AnnData(np.zeros((60, 1)), obsm={"spatial": np.concatenate([places, places])})
    table.obs["slice"], table.uns["perler"] = ["one"] * 30 + ["no. 2"] * 30, {"section_key": "slice"}
    made = pj.to_spatialdata(table)
    for name, rows in (("perler_locations_one", slice(30)), ("perler_locations_no._2", slice(30, 60))):
        own = made["perler"].obs["region"] == name
        np.testing.assert_array_equal(np.flatnonzero(own), np.arange(60)[rows])
        if axes == 2:
            centres = spatialdata.get_centroids(made[name]).compute()
            np.testing.assert_allclose(centres[["x", "y"]], places)
            assert list(centres.index) == list(made["perler"].obs["instance_id"][own])
        else:
            np.testing.assert_allclose(made[name].compute()[["x", "y", "z"]], places)


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
