"""An NVIDIA card that JAX does not use: nobody else says so, and all work is done, only many times slower."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import subprocess
from pathlib import Path

import jax

from perler_jax.versions import installed_versions

__all__ = ["GPU_EXTRA", "idle_card", "nvidia_card", "warn_of_idle_card"]

logger = logging.getLogger(__name__)

GPU_EXTRA = 'pip install "perler_jax[gpu]"'
_SIGNS = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PATIENCE = 10  # seconds; nvidia-smi hangs where a driver is broken


def nvidia_card() -> bool:
    """Whether this machine shows a card: by its driver, or by nvidia-smi where that hides (WSL)."""
    if any(sign.exists() for sign in _SIGNS):
        return True
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def idle_card() -> str | None:
    """What to do about a card that JAX leaves idle; None where there is none, or where that was asked for.

    Starts JAX's devices.
    """
    wished = getattr(jax.config, "jax_platforms", None) == "cpu" or os.environ.get(_VISIBLE) in ("", "-1")
    if wished or jax.default_backend() != "cpu" or not nvidia_card():
        return None
    versions = installed_versions()
    plugins = [f"{name} {release}" for name, release in versions.items() if name.startswith("jax-cuda")]
    if not plugins:
        return f"an NVIDIA card is here, but this JAX is for the CPU only; {GPU_EXTRA} lets it use the card"
    return (
        f"an NVIDIA card and {', '.join(plugins)} are here, but JAX {versions.get('jax')} found no GPU; see "
        "why: python -c \"import jax; jax.devices('cuda')\" (an old driver, or releases that differ)"
    )


@functools.cache
def warn_of_idle_card() -> None:
    """Say it on the log, once in the life of a process."""
    told = idle_card()
    if told is not None:
        logger.warning(told)
