"""Compiled programs kept between runs of the command line: a second run need not compile them again."""

from __future__ import annotations

import hashlib
import logging
import platform
from pathlib import Path

import jax
import platformdirs

__all__ = ["keep_compiled_programs"]

logger = logging.getLogger(__name__)

_WORTH_KEEPING = 0.1  # seconds of compilation


def keep_compiled_programs() -> None:
    """Keep them in the user's cache folder, unless a folder is set (``JAX_COMPILATION_CACHE_DIR``) already.

    JAX files each program under its shapes and its own version; unlike machines that share a home have
    folders of their own, for a program may hold instructions that only one of them knows. A library must not
    decide this for its caller, so only the command line does. ``JAX_ENABLE_COMPILATION_CACHE=0`` switches it
    off.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    folder = platformdirs.user_cache_path("perler_jax") / f"programs-{_kind_of_machine()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a home that cannot be written to costs only time
        logger.debug("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _kind_of_machine() -> str:
    """Of the processor and what it can do: the same where the same programs run."""
    described = Path("/proc/cpuinfo")
    abilities = [platform.machine(), platform.processor()]
    if described.is_file():
        lines = described.read_text(encoding="utf-8", errors="replace").splitlines()
        named = {line.partition(":")[0].strip(): line for line in lines}
        abilities += [named[key] for key in ("flags", "Features", "model name") if key in named]
    return hashlib.sha256("\n".join(abilities).encode()).hexdigest()[:12]
