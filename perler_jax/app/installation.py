"""What `perler-jax info` says without a file: releases, and what the work would run on."""

from __future__ import annotations

import os
import platform
from collections import Counter

import jax

from perler_jax.app.lines import Pairs, as_lines
from perler_jax.idle_card import idle_card
from perler_jax.versions import installed_versions

__all__ = ["describe_installation"]


def describe_installation() -> str:
    """Releases, devices of JAX, and whether a GPU is used; ready to print. Starts JAX's devices."""
    pairs: Pairs = installed_versions()
    pairs |= {"machine": f"{platform.system()} {platform.machine()}, {_cores()} cores for this process"}
    return as_lines(pairs | _describe_devices())


def _describe_devices() -> Pairs:
    devices = jax.devices()
    counted = Counter(device.device_kind for device in devices)
    pairs = {"devices": ", ".join(f"{count} x {kind}" for kind, count in counted.items())}
    backend = jax.default_backend()
    if backend == "cpu":
        pairs["GPU"] = f"not used{f': {told}' if (told := idle_card()) else ''}"
    else:
        pairs["GPU"] = "used" if backend in ("gpu", "cuda", "rocm") else f"not used: JAX runs on {backend}"
    return pairs


def _cores() -> int:
    """That this process may use; a container or a cluster's job often has fewer than the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
