"""What every experiment shares: where the data are, on what it ran, how its results are written."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.freshness import imported_code
from perler_jax.inputs.io import atomic_path

__all__ = [
    "arguments",
    "data_folder",
    "data_hash",
    "load_config",
    "peak_rss_gb",
    "provenance",
    "timed",
    "write_json",
]

_PACKAGES = ("perler_jax", "jax", "numpyro", "optax", "numpy", "scipy", "pandas", "anndata", "arviz")


def arguments(name: str, question: str) -> argparse.ArgumentParser:
    """The options that every experiment has."""
    parser = argparse.ArgumentParser(f"python -m experiments.{name}", description=question)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the data set (default: its folder in PERLER_JAX_DATA, else in ../shared/data)",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / name / "results", help="results")
    parser.add_argument("--fast", action="store_true", help="small enough for a test; not for the record")
    return parser


def data_folder(given: Path | None, name: str) -> Path:
    """Folder of a data set; exits with one sentence where there is none."""
    shared = Path(os.environ.get("PERLER_JAX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = given or shared / name
    if not folder.is_dir():
        sys.exit(f"expected the data set {name} in a folder; found none at {folder}; give --data FOLDER")
    return folder


def data_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of a data set's files: which data a result is about."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def load_config(module_file: str) -> dict[str, Any]:
    """config.toml beside a module."""
    return tomllib.loads((Path(module_file).parent / "config.toml").read_text(encoding="utf-8"))


def peak_rss_gb() -> float:
    """Highest resident memory of this program so far, GB."""
    status = Path("/proc/self/status")
    if status.exists():  # that of `getrusage` begins, on Linux, with the parent's
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def provenance(seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Versions, machine, seed, data and code of a result: call it when the work is done."""
    import jax

    device = jax.devices()[0]
    found = {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.platform(terse=True),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "device": device.device_kind,
        },
        "seed": seed,
        "code": imported_code(),
    }
    return found if folder is None else found | {"data_sha256": data_hash(folder)}


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the wall time of a block."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write results whole or not at all, numbers to six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_rounded(content), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
