"""The pair that a first try fetches: read whole, fetched once, checked, and refused where broken."""

import gzip
import hashlib
import socket

import numpy as np
import pytest

from perler_jax import PerlerFileError, fit_perler, osmfish_pair
from perler_jax.osmfish_pair import load_osmfish_pair
from tests.conftest import SHARED_DATA
from tests.test_docs import served

NAMES = ["scRNA_count.txt", "Spatial_count.txt", "Locations.txt"]


@pytest.fixture
def folder(tmp_path):
    """The three files, small, in their real shape."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / NAMES[0]).write_text("\tc1\tc2\tc3\nGad2\t0\t5\t1\nNA\t2\t0\t7\n")
    (folder / NAMES[1]).write_text("Gad2\tNA\n3\t1\n0\t4\n")
    (folder / NAMES[2]).write_text("X\tY\n1.5\t2\n3\t4.25\n")
    return folder


def test_files_are_read_as_they_are(folder):
    pair = load_osmfish_pair(folder)
    assert list(pair.cells.obs_names) == ["c1", "c2", "c3"]
    assert list(pair.cells.var_names) == list(pair.reference.var_names) == ["Gad2", "NA"]
    np.testing.assert_array_equal(pair.cells.X, [[0, 2], [5, 0], [1, 7]])
    np.testing.assert_array_equal(pair.reference.X, [[3, 1], [0, 4]])
    np.testing.assert_array_equal(pair.reference.obsm["spatial"], [[1.5, 2], [3, 4.25]])


def test_packed_files_are_read_alike(folder):
    plain = load_osmfish_pair(folder)
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    np.testing.assert_array_equal(load_osmfish_pair(folder).cells.X, plain.cells.X)


def test_what_is_missing_or_does_not_fit_is_refused(folder):
    (folder / NAMES[2]).write_text("X\tY\n1.5\t2\n")
    with pytest.raises(PerlerFileError, match=r"position for each of 2 .* found .* 1 positions"):
        load_osmfish_pair(folder)
    (folder / NAMES[2]).unlink()
    with pytest.raises(PerlerFileError, match=r"Locations\.txt or Locations\.txt\.gz"):
        load_osmfish_pair(folder)


@pytest.fixture
def fetching(monkeypatch, tmp_path, folder):
    """Fetch from a folder of this machine into an empty cache."""
    pooch = pytest.importorskip("pooch", reason='no pooch: pip install "perler_jax[data]"')
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}
    monkeypatch.setattr(osmfish_pair, "_CHECKSUMS", sums)
    with served(folder) as address:
        monkeypatch.setattr(osmfish_pair, "_ADDRESS", address)
        yield


@pytest.mark.usefixtures("fetching")
def test_files_are_fetched_once(folder, monkeypatch):
    first = load_osmfish_pair()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(osmfish_pair, "_ADDRESS", f"http://127.0.0.1:{closed.getsockname()[1]}")
        np.testing.assert_array_equal(load_osmfish_pair().reference.X, first.reference.X)


@pytest.mark.usefixtures("fetching")
def test_another_content_is_refused(folder):
    (folder / NAMES[1]).write_text("Gad2\tNA\n3\t1\n0\t5\n")
    with pytest.raises(PerlerFileError, match=r"by hand.*load_osmfish_pair\(FOLDER\)"):
        load_osmfish_pair()


def test_the_real_files_are_those_of_the_checksums():
    real = SHARED_DATA / "osmfish_allen"
    if not real.is_dir():
        pytest.skip(f"no data at {real} (set PERLER_JAX_DATA to the data folder)")
    for name, expected in osmfish_pair._CHECKSUMS.items():
        assert hashlib.sha256(gzip.decompress((real / f"{name}.gz").read_bytes())).hexdigest() == expected
    pair = load_osmfish_pair(real)
    assert (pair.cells.shape, pair.reference.shape) == ((1000, 33), (3405, 33))
    fit = fit_perler(pair.cells, pair.reference, weights=(0.5, 0.0), progress=False)
    assert len(fit.landmarks) == 33
