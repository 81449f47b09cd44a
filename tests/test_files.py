"""Saved fits: every field comes back exactly, and a file that is not whole and unchanged is refused."""

import dataclasses
import io
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from perler_jax.app.describe import describe_file
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.files import load_fit
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.tuning import Tuning
from perler_jax.inputs.archive import read_archive, write_archive
from perler_jax.mixture import MappingParams
from perler_jax.perler import fit_perler
from perler_jax.saved_fit import FORMAT_VERSION, KIND, read_saved_fit
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.simulation.simulate import simulate_embryo

SIZES = {"n_locations": 100, "n_cells": 50, "n_genes": 50, "n_landmarks": 8}
METAGENES = 4


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, **SIZES)


def random_tuning(rng, landmarks):
    """A tuning with every field filled; nothing here depends on what it says."""
    evaluated = rng.random((7, landmarks))
    evaluated[0, 0] = np.nan
    vectors = rng.random((5, landmarks))
    return Tuning(
        0.1, 1 / 3, 12.5, *vectors[:4], rng.random((7, 2)), evaluated, rng.random(7), rng.random((2, 3))
    )


def random_folds(rng, landmarks, dtype):
    """Held-out fits with every field filled."""
    loadings = jnp.asarray(rng.random((2, landmarks, landmarks, METAGENES)), dtype)
    per_metagene = jnp.asarray(rng.random((3, landmarks, METAGENES)), dtype)
    params = jax.tree.unflatten(jax.tree.structure(MappingParams(*per_metagene[:, 0])), list(per_metagene))
    genes = jnp.arange(landmarks)[:, None]
    steps = jnp.arange(landmarks)
    return HeldOutFits(genes, genes >= 0, *loadings, params, steps, steps % 2 == 0)


@pytest.fixture(scope="module")
def fit(embryo):
    """A small fit in float64, with location weights and all optional parts."""
    fitted = fit_perler(
        embryo.cells,
        embryo.reference,
        settings=PerlerSettings(n_metagenes=METAGENES, dtype="float64"),
        location_weights=np.arange(1, 101),
        weights=(0.1, 0.7),
        progress=False,
    )
    rng = np.random.default_rng(1)
    with device_precision("float64"):
        held_out = random_folds(rng, 8, "float64")
    scores = fitted.scores.assign(nested=rng.random(8), alpha=rng.random(8))
    return dataclasses.replace(fitted, held_out=held_out, tuning=random_tuning(rng, 8), scores=scores)


@pytest.fixture(scope="module")
def saved(fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "fit.npz"
    fit.save(path)
    return path


def assert_same(found, expected, where="fit"):
    """Equal field by field, types and every bit included."""
    assert type(found) is type(expected), where
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            if (type(expected).__name__, field.name) != ("PerlerFit", "cells"):
                pair = (getattr(each, field.name) for each in (found, expected))
                assert_same(*pair, f"{where}.{field.name}")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, each in expected.items():
            assert_same(found[key], each, f"{where}[{key!r}]")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    elif isinstance(expected, np.ndarray | jax.Array):
        assert found.dtype == expected.dtype, where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where


def test_every_field_comes_back_exactly(fit, saved):
    assert_same(load_fit(saved), fit)
    assert load_fit(saved).cells is None


def test_a_loaded_fit_does_what_the_fit_does(fit, saved, embryo):
    loaded = load_fit(saved, cells=embryo.cells)
    assert repr(loaded) == repr(fit)
    assert loaded.provenance() == fit.provenance()
    for make in (
        lambda each: each.reconstruct(["gap1", "flat1"]).to_df(),
        lambda each: each.posterior([3, 0]),
    ):
        pd.testing.assert_frame_equal(make(loaded), make(fit), check_exact=True)


def test_what_describes_a_fit_is_read_as_the_fit_has_it(fit, saved):
    found, record = read_saved_fit(saved), fit.provenance()
    for name in ("settings", "reference", "preprocessing", "cell_names", "landmarks", "scores", "seconds"):
        assert_same(getattr(found, name), getattr(fit, name), name)
    for name in ("n_metagenes", "em_steps", "em_converged", "log_likelihood", "alpha", "beta"):
        assert_same(getattr(found, name), record[name], name)
    assert found.tuned


def test_info_names_the_release_that_wrote_a_fit(fit, tmp_path, monkeypatch):
    """Not the one that reads it."""
    monkeypatch.setattr("perler_jax.files.package_version", lambda: "0.0.7")
    fit.save(tmp_path / "fit.npz")
    assert describe_file(tmp_path / "fit.npz")[0]["kind"] == "fit by perler_jax 0.0.7"
    plain, arrays = read_archive(tmp_path / "fit.npz", kind=KIND, version=FORMAT_VERSION)
    del plain["written_by"]  # as in files of before it was kept
    write_archive(tmp_path / "old.npz", plain | arrays, kind=KIND, version=FORMAT_VERSION)
    assert describe_file(tmp_path / "old.npz")[0]["kind"] == "fit by perler_jax (release not kept)"


def test_a_loaded_fit_asks_for_the_cells_it_needs(fit, saved, embryo):
    loaded = load_fit(saved)
    with pytest.raises(PerlerInputError, match=r"load_fit\(path, cells=...\)"):
        loaded.reconstruct()
    with pytest.raises(PerlerInputError, match=r"expected the 50 cells of the fit, in any order; found 49"):
        loaded.reconstruct(cells=embryo.cells[1:])
    turned = loaded.reconstruct(["gap1"], cells=embryo.cells[np.roll(np.arange(50), -1)]).to_df()
    pd.testing.assert_frame_equal(turned, fit.reconstruct(["gap1"]).to_df(), rtol=1e-5)
    given = loaded.reconstruct(["gap1"], cells=embryo.cells).to_df()
    pd.testing.assert_frame_equal(given, fit.reconstruct(["gap1"]).to_df(), check_exact=True)


def test_the_file_holds_plain_arrays_and_json_and_no_expression(saved):
    with zipfile.ZipFile(saved) as archive:
        for name in archive.namelist():
            array = np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            assert array.dtype.kind in "biufU", name
            assert array.shape != (SIZES["n_cells"], SIZES["n_genes"]), name
    header = json.loads(np.load(saved)["header"].tobytes())
    assert header["kind"] == KIND
    assert header["format_version"] == FORMAT_VERSION


def rewrite(saved, path, change):
    """The archive again, valid as a zip, after ``change`` to its dict of arrays."""
    with np.load(saved) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez_compressed(path, **arrays)
    return path


def edit_header(arrays, change):
    header = json.loads(arrays["header"].tobytes())
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)


def scale_noise(arrays):
    arrays["em/params/noise"] = arrays["em/params/noise"] * 2


def lose_an_array(arrays):
    del arrays["cell_metagenes"]


def add_an_array(arrays):
    arrays["em/params/extra"] = np.zeros(3)


def change_a_plain_value(arrays):
    edit_header(arrays, lambda header: header["plain"].update({"tuning/alpha": 0.9}))


@pytest.mark.parametrize("change", [scale_noise, lose_an_array, add_an_array, change_a_plain_value])
def test_a_changed_file_is_refused(saved, tmp_path, change):
    with pytest.raises(PerlerFileError, match="was changed after it was written"):
        load_fit(rewrite(saved, tmp_path / "changed.npz", change))


def lose_the_header(arrays):
    del arrays["header"]


def break_the_header(arrays):
    arrays["header"] = arrays["header"][:-5]


def empty_the_header(arrays):
    edit_header(arrays, lambda header: header.clear())


def lose_the_plain_values(arrays):
    edit_header(arrays, lambda header: header.pop("plain"))


def garble_the_version(arrays):
    edit_header(arrays, lambda header: header.update(format_version="next"))


@pytest.mark.parametrize(
    "change",
    [lose_the_header, break_the_header, empty_the_header, lose_the_plain_values, garble_the_version],
)
def test_a_file_with_another_header_is_refused(saved, tmp_path, change):
    with pytest.raises(PerlerFileError, match="expected a perler_jax fit"):
        load_fit(rewrite(saved, tmp_path / "other.npz", change))


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(saved, tmp_path, kept):
    content = saved.read_bytes()
    path = tmp_path / "short.npz"
    path.write_bytes(content[: round(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(PerlerFileError, match="another file or a truncated one"):
        load_fit(path)


def test_no_flipped_bit_passes_unseen(tmp_path):
    """Each byte of a small archive in turn: it is refused, or what is read is what was written."""
    content = {"x": np.arange(12.0).reshape(3, 4), "names": np.array(["a", "bc"]), "n": 3, "f": 0.1}
    path = tmp_path / "small.npz"
    write_archive(path, content, kind="test", version=1)
    raw, refused = path.read_bytes(), 0
    for position in range(len(raw)):
        for bit in (0, 6):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                plain, arrays = read_archive(path, kind="test", version=1)
            except PerlerFileError:
                refused += 1
            else:
                assert plain == {"n": 3, "f": 0.1}
                assert set(arrays) == {"x", "names"}
                np.testing.assert_array_equal(arrays["x"], content["x"])
                np.testing.assert_array_equal(arrays["names"], content["names"])
    assert refused > len(raw), "most of the bytes matter"


def test_other_kinds_and_newer_formats_are_refused(tmp_path):
    content = {"x": np.zeros(2)}
    write_archive(tmp_path / "kind.npz", content, kind="something else", version=FORMAT_VERSION)
    write_archive(tmp_path / "newer.npz", content, kind=KIND, version=FORMAT_VERSION + 1)
    with pytest.raises(PerlerFileError, match="found a something else"):
        load_fit(tmp_path / "kind.npz")
    with pytest.raises(PerlerFileError, match=f"found a .* of format {FORMAT_VERSION + 1}: upgrade"):
        load_fit(tmp_path / "newer.npz")


def plain_npz(path):
    np.savez(path, x=np.zeros(3))


def pickled_npz(path):
    np.savez(path, header=np.array([{"kind": KIND}], dtype=object))


def text(path):
    path.write_text("gene,location\n")


def folder(path):
    path.mkdir()


@pytest.mark.parametrize("make", [plain_npz, pickled_npz, text, folder, lambda path: None])
def test_what_is_no_saved_fit_is_refused(tmp_path, make):
    make(tmp_path / "fit.npz")
    with pytest.raises(PerlerFileError, match=r"expected a perler_jax fit.*fit\.npz"):
        load_fit(tmp_path / "fit.npz")


def test_other_suffixes_are_refused_before_writing(fit, tmp_path):
    with pytest.raises(PerlerFileError, match=r"ends in \.npz, found 'fit\.pkl'"):
        fit.save(tmp_path / "fit.pkl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("problem", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, problem):
    path = tmp_path / "fit.npz"
    write_archive(path, {"x": np.arange(3)}, kind="test", version=1)
    before = path.read_bytes()

    def half(file, **arrays):
        with open(file, "wb") as stream:
            stream.write(b"PK")
        raise problem

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(type(problem)):
        write_archive(path, {"x": np.arange(4)}, kind="test", version=1)
    assert [each.name for each in tmp_path.iterdir()] == ["fit.npz"]
    assert path.read_bytes() == before


def test_saving_twice_replaces_the_file(tmp_path):
    for value in (1, 2):
        write_archive(tmp_path / "a.npz", {"n": value}, kind="test", version=1)
    assert read_archive(tmp_path / "a.npz", kind="test", version=1)[0] == {"n": 2}
