"""An NVIDIA card that JAX does not use: seen, told once, with what to do. The card is played by a script."""

import logging
import os
import subprocess
import sys

import pytest

from perler_jax import idle_card as module
from perler_jax.idle_card import GPU_EXTRA, idle_card, nvidia_card, warn_of_idle_card
from perler_jax.perler import fit_perler
from perler_jax.simulation.simulate import simulate_embryo


@pytest.fixture
def no_card(monkeypatch, tmp_path):
    """A machine without a card whatever the real one has: nothing on the PATH, no file of a driver."""
    monkeypatch.setattr(module, "_SIGNS", (tmp_path / "version",))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(module, "installed_versions", lambda: {"jax": "0.12.0"})
    warn_of_idle_card.cache_clear()
    yield tmp_path
    warn_of_idle_card.cache_clear()


def program(folder, line):
    """Something called nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", True),
        ("echo 'No devices were found'", False),
        ("echo 'GPU: NVIDIA-SMI has failed'; exit 9", False),
        ("while :; do :; done", False),
    ],
)
def test_a_card_is_seen_by_what_its_program_lists(line, found, no_card, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    assert not nvidia_card()
    program(no_card, line)
    assert nvidia_card() == found


def test_a_card_is_seen_by_its_driver(no_card):
    (no_card / "version").write_text("NVRM version")
    assert nvidia_card()


def test_what_to_do_depends_on_what_is_installed(no_card, monkeypatch):
    assert idle_card() is None
    (no_card / "version").write_text("NVRM version")
    assert GPU_EXTRA in idle_card()
    monkeypatch.setattr(module, "installed_versions", lambda: {"jax": "1.2", "jax-cuda12-plugin": "1.1"})
    told = idle_card()
    assert GPU_EXTRA not in told
    assert "jax-cuda12-plugin 1.1" in told
    assert "JAX 1.2" in told


def test_a_card_in_use_or_left_idle_on_purpose_is_not_told(no_card, monkeypatch):
    (no_card / "version").write_text("NVRM version")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert idle_card() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    assert idle_card() is None


def test_fits_say_it_once(no_card, caplog):
    (no_card / "version").write_text("NVRM version")
    embryo = simulate_embryo(seed=0, n_locations=100, n_cells=50, n_genes=50, n_landmarks=8)
    with caplog.at_level(logging.INFO, "perler_jax"):
        for _ in range(2):
            fit_perler(embryo.cells, embryo.reference, weights=(0.1, 1.0), progress=False)
    told = [record for record in caplog.records if GPU_EXTRA in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"]


# JAX sees the card too, and says so on the log when its devices start; its releases know no other place.
INFO = """
import sys
from jax._src import hardware_utils
hardware_utils.has_visible_nvidia_gpu = lambda: True
from perler_jax.app.cli import main
sys.exit(main(["info"]))
"""


@pytest.mark.parametrize("platforms", ["", "cpu"])
def test_info_says_it_once_and_not_where_the_cpu_was_asked_for(platforms, tmp_path):
    program(tmp_path, "echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'")
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "JAX_PLATFORMS": platforms}
    done = subprocess.run(
        [sys.executable, "-c", INFO], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "NVIDIA" not in done.stderr
    if "jax-cuda" not in done.stdout:
        assert done.stdout.count(GPU_EXTRA) == (platforms == "")
        assert "not used" in done.stdout
