"""Results larger than memory: the same numbers, resumed after a kill, never a half file taken for whole."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import anndata
import numpy as np
import pytest

from perler_jax import PerlerFileError, PerlerSettings, fit_perler, load_fit, simulate_embryo
from perler_jax.inputs.io import atomic_path
from perler_jax.prediction.predictor import Predictor
from perler_jax.scale.checkpoint import fingerprint, open_checkpoint

SIZES = {"n_locations": 120, "n_cells": 60, "n_genes": 60, "n_landmarks": 8}


@pytest.fixture(scope="module")
def embryo():
    return simulate_embryo(seed=0, **SIZES)


@pytest.fixture(scope="module")
def fit(embryo):
    settings = PerlerSettings(n_metagenes=4)
    return fit_perler(embryo.cells, embryo.reference, settings=settings, weights=(0.1, 0.5), progress=False)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("perler_jax.gene_patterns.gene_block_size", lambda *_: 7)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("standardise", [False, True])
def test_the_file_holds_what_reconstruct_returns(fit, small_blocks, tmp_path, suffix, standardise):
    path = fit.reconstruct_to(tmp_path / f"all.{suffix}", standardise=standardise)
    found = anndata.read_h5ad(path) if suffix == "h5ad" else anndata.read_zarr(path)
    expected = fit.reconstruct(standardise=standardise)
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-6, atol=1e-6)
    assert list(found.var_names) == list(expected.var_names)
    np.testing.assert_array_equal(found.obsm["spatial"], expected.obsm["spatial"])
    assert found.uns["perler"]["units"] == expected.uns["perler"]["units"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing else is left behind"


def test_an_interrupted_job_goes_on_and_does_nothing_twice(fit, small_blocks, tmp_path, monkeypatch):
    made = []
    apply = type(fit.preprocessing).apply

    def stopping(self, block):
        if block.shape[1] <= 7:  # not the landmarks of a refinement
            made.append(block.shape[1])
            if len(made) == 4:
                raise KeyboardInterrupt
        return apply(self, block)

    monkeypatch.setattr(type(fit.preprocessing), "apply", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit.reconstruct_to(tmp_path / "all.h5ad")
    assert not (tmp_path / "all.h5ad").exists()
    assert len(list((tmp_path / "all.h5ad.unfinished").glob("block*.npz"))) == 3
    fit.reconstruct_to(tmp_path / "all.h5ad")
    assert len(made) == 4 + 6, "60 genes are nine blocks; three were kept"
    np.testing.assert_allclose(anndata.read_h5ad(tmp_path / "all.h5ad").X, fit.reconstruct().X, rtol=1e-6)


SCRIPT = """
import sys, time
import perler_jax.gene_patterns
from perler_jax import load_fit
from perler_jax.preprocessing import Preprocessing
import anndata
perler_jax.gene_patterns.gene_block_size = lambda *_: 7
apply = Preprocessing.apply
def slow(self, block):
    time.sleep(0.5)
    return apply(self, block)
Preprocessing.apply = slow
fit = load_fit(sys.argv[1], cells=anndata.read_h5ad(sys.argv[2]))
print("begun", flush=True)
fit.reconstruct_to(sys.argv[3])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_process_loses_nothing_that_was_finished(fit, embryo, small_blocks, tmp_path, monkeypatch):
    fit.save(tmp_path / "fit.npz")
    embryo.cells.write_h5ad(tmp_path / "cells.h5ad")
    target, unfinished = tmp_path / "all.zarr", tmp_path / "all.zarr.unfinished"
    inputs = [str(tmp_path / name) for name in ("fit.npz", "cells.h5ad")]
    command = [sys.executable, "-c", SCRIPT, *inputs, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout.readline() == b"begun\n"
        for _ in range(600):
            if len(list(unfinished.glob("block*.npz"))) >= 2:
                break
            time.sleep(0.1)
        process.kill()
    done = list(unfinished.glob("block*.npz"))
    assert 2 <= len(done) < 9
    assert not target.exists()
    back = load_fit(tmp_path / "fit.npz", cells=embryo.cells)
    made = []
    polish = Predictor.polish
    monkeypatch.setattr(Predictor, "polish", lambda self, block: made.append(1) or polish(self, block))
    back.reconstruct_to(target)
    assert len(made) == 9 - len(done), "what was finished was not done again"
    np.testing.assert_allclose(anndata.read_zarr(target).X, fit.reconstruct().X, rtol=1e-6)


def test_unfinished_work_of_another_fit_is_refused(fit, embryo, tmp_path):
    (tmp_path / "a.h5ad.unfinished").mkdir()
    open_checkpoint(tmp_path / "a.h5ad.unfinished", "another")
    with pytest.raises(PerlerFileError, match="found other work"):
        fit.reconstruct_to(tmp_path / "a.h5ad")


def test_paths_that_cannot_be_written_to_are_refused(fit, tmp_path):
    for name, said in (("a.csv", "ends in .h5ad or .zarr"), ("no/a.h5ad", "create it first")):
        with pytest.raises(PerlerFileError, match=said):
            fit.reconstruct_to(tmp_path / name)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(PerlerFileError, match="delete it"):
        fit.reconstruct_to(tmp_path / "b.zarr")
    (tmp_path / "c.h5ad.unfinished").mkdir()
    (tmp_path / "c.h5ad.unfinished" / "mine.txt").write_text("precious")
    with pytest.raises(PerlerFileError, match="other files"):
        fit.reconstruct_to(tmp_path / "c.h5ad")
    assert (tmp_path / "c.h5ad.unfinished" / "mine.txt").read_text() == "precious"


def test_a_checkpoint_keeps_pieces_whole(tmp_path):
    work = open_checkpoint(tmp_path / "work", "mark")
    assert work.get("a") is None
    work.put("a", {"x": np.arange(3), "y": np.ones((2, 2))})
    again = open_checkpoint(tmp_path / "work", "mark")
    np.testing.assert_array_equal(again.get("a")["y"], np.ones((2, 2)))
    with contextlib.suppress(KeyboardInterrupt), atomic_path(tmp_path / "work" / "b.npz") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not again.has("b")
    (tmp_path / "work" / ".1234.c.npz").write_bytes(b"left by a kill")
    open_checkpoint(tmp_path / "work", "mark")
    assert not list((tmp_path / "work").glob(".*"))
    again.remove()
    assert not (tmp_path / "work").exists()


def test_a_fingerprint_is_of_the_content():
    one = {"a": np.arange(3.0), "b": ["x", 1, None]}
    assert fingerprint(one) == fingerprint({"b": ["x", 1, None], "a": np.arange(3.0)})
    others = [
        {**one, "a": np.arange(3)},
        {**one, "a": np.arange(4.0)},
        {**one, "b": ["x", 1.0, None]},
        {**one, "b": ["x", 1]},
        {**one, "c": 0},
    ]
    assert len({fingerprint(each) for each in [one, *others]}) == 6
    assert fingerprint(PerlerSettings()) != fingerprint(PerlerSettings(seed=1))
