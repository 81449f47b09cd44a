"""Spread over devices and processes, results are those of one device, and the work is really spread."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax.app.cli import main
from perler_jax.errors import PerlerInputError
from perler_jax.scale.devices import is_first_process, join_processes, request_cpu_devices, use_devices
from perler_jax.scale.spread import one_per_device, own_cells, shard_cells, split_cells
from perler_jax.simulation.simulate import simulate_embryo
from tests.on_devices import CELLS, LANDMARKS

ROOT = Path(__file__).parents[1]
QUICK = {**os.environ, "JAX_PLATFORMS": "cpu"}


def start(*arguments):
    """A Python program beside this one."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=QUICK,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*programs):
    for program in programs:
        try:
            text, _ = program.communicate(timeout=900)
        finally:
            for each in programs:
                if program.poll() is None or program.returncode:
                    each.kill()
        assert program.returncode == 0, text


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def forced(tmp_path_factory):
    """Results on 1, 2 and 8 devices of one process."""
    path = tmp_path_factory.mktemp("forced") / "found.npz"
    finish(start("-m", "tests.on_devices", path))
    with np.load(path) as found:
        return dict(found)


def on(forced, devices):
    prefix = f"{devices}["
    return {key[1:]: value for key, value in forced.items() if key.startswith(prefix)}


def assert_same(found, expected):
    assert set(found) == set(expected)
    assert len(found) > 20
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("devices", [2, 8], ids="{} devices".format)
def test_results_are_those_of_one_device(forced, devices):
    assert_same(on(forced, devices), on(forced, 1))


def test_shards_and_whole_cells_give_one_fit(forced):
    """Cells that the kernel splits, and cells that were laid out before and padded."""
    found = on(forced, 8)
    whole = {key: value for key, value in found.items() if key.startswith("['whole']")}
    assert len(whole) == 4
    for key, value in whole.items():
        np.testing.assert_allclose(found[key.replace("['whole']", "['fitted'][0]")], value, rtol=1e-6)


@pytest.mark.parametrize("devices", [2, 8], ids="{} devices".format)
def test_work_is_spread(forced, devices):
    np.testing.assert_array_equal(forced[f"{devices}:rows"], [-(-CELLS // devices)] * devices)
    assert forced[f"{devices}:all_reduce"] > 0
    np.testing.assert_array_equal(forced[f"{devices}:items"].T, [np.arange(11), np.arange(11) % devices])
    steps = on(forced, devices)["['held_out'][2]"]
    assert steps.shape == (LANDMARKS,)
    assert (steps > 1).all()


def test_two_processes_give_what_one_device_gives(forced, tmp_path):
    """Over loopback, each with its own half of the cells; only the first writes."""
    path, port = tmp_path / "found.npz", free_port()
    finish(*(start("-m", "tests.on_devices", path, port, process) for process in range(2)))
    with np.load(path) as kept:
        found = dict(kept)
    one = {key: value for key, value in on(forced, 1).items() if not key.startswith(("['whole']", "['grad"))}
    assert_same({key: value for key, value in found.items() if key.startswith("[")}, one)
    np.testing.assert_array_equal(found[":rows"], [-(-CELLS // 2)])
    np.testing.assert_array_equal(found[":items"].T, [np.arange(11), np.arange(11) % 2])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embryo")
    embryo = simulate_embryo(seed=2, n_cells=50, n_locations=120, n_genes=60, n_landmarks=20)
    embryo.cells.write_h5ad(folder / "cells.h5ad")
    embryo.reference.write_h5ad(folder / "reference.h5ad")
    return folder


def test_the_command_line_runs_as_two_processes(files, tmp_path):
    """One launch of the README: the same fit as one process makes, written once."""
    inputs = [files / "cells.h5ad", files / "reference.h5ad", "--weights", "0.4", "0.1", "--dtype", "float64"]
    assert main(["fit", *map(str, inputs), "--quiet", "-o", str(tmp_path / "one.npz")]) == 0
    launch = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2, "--devices", 2]
    finish(
        *(
            start(
                *("-m", "perler_jax", "fit", *inputs, *launch, "--process-id", process),
                *("-o", tmp_path / f"many{process}.npz"),
            )
            for process in range(2)
        )
    )
    assert not (tmp_path / "many1.npz").exists()
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "many0.npz") as many:
        assert set(one.files) == set(many.files)
        compared = [name for name in one.files if one[name].dtype == np.float64 and "seconds" not in name]
        assert len(compared) > 5
        for name in compared:
            np.testing.assert_allclose(many[name], one[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_one_device_is_left_as_it_is():
    values = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    with use_devices(1):
        rows, present = shard_cells(values)
        doubled = list(one_per_device(lambda item, by: item * by, iter(values), 2))
        assert own_cells(3) == slice(0, 3)
        split = split_cells(lambda cells, _: ((cells.T,), cells.sum(axis=0)), jnp.asarray(values), None)
    assert present is None
    np.testing.assert_array_equal(rows, values)
    np.testing.assert_array_equal(doubled, 2 * values)
    np.testing.assert_array_equal(split[1], [6.0, 9.0])
    assert is_first_process()


def test_too_few_devices_are_an_error_that_says_what_to_do():
    jax.devices()  # started: no more can be had
    request_cpu_devices(64)
    with (
        pytest.raises(PerlerInputError, match=r"expected 64 devices, found \d+ .*request_cpu_devices\(64\)"),
        use_devices(64),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("127.0.0.1:1", 2, None), "together, found 127.0.0.1:1, 2 and None"),
        (("127.0.0.1:1", 2, 2), "from 0 to 1, found 2"),
    ],
)
def test_half_a_launch_is_an_error(arguments, message):
    with pytest.raises(PerlerInputError, match=message):
        join_processes(*arguments)
