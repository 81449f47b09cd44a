"""Every test runs the package with its shape annotations executed."""

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from jaxtyping import install_import_hook

import tests.annotations  # noqa: F401, the hook finds it by name

# Most tests compile far more than they compute: half the time for the same results to rounding. What computes
# more (notebooks, the README's code) runs in processes of its own with the flags of before: `run_script`.
_HASTY = " --xla_backend_optimization_level=0"
_FLAGS = os.environ.get("XLA_FLAGS", "").replace(_HASTY, "")  # a worker has the flags of its controller
os.environ["XLA_FLAGS"] = _FLAGS + _HASTY

# What one process has compiled, the next one reads: workers, notebooks and command lines share most programs.
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # see perler_jax/__main__.py

# Each worker keeps to one processor: threads of several that wait for each other cost twice the time.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if _WORKER and hasattr(os, "sched_setaffinity"):
    _PROCESSORS = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_PROCESSORS[int(_WORKER.removeprefix("gw")) % len(_PROCESSORS)]})

# Before anything imports the package: its modules are instrumented as they are imported.
install_import_hook("perler_jax", "tests.annotations.checked")

import jax  # noqa: E402
import pytest  # noqa: E402

# Compiled programs are 2 MB each and JAX keeps them all. They also map memory, and Linux gives a process
# 65530 maps: XLA aborts where none is left, far above this bound.
_MOST_MEMORY = 1400  # MiB of one worker
_PEAKS: dict[str, int] = {}

SHARED_DATA = Path(os.environ.get("PERLER_JAX_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_configure(config: pytest.Config) -> None:
    """Our own warnings are errors; said here because naming the class imports the package."""
    config.addinivalue_line("filterwarnings", "error::perler_jax.errors.PerlerWarning")


@pytest.fixture(scope="session")
def fly_directory() -> Path:
    """The real fly data, or a skip that says where it was looked for."""
    directory = SHARED_DATA / "drosophila"
    if not directory.is_dir():
        pytest.skip(f"no fly data at {directory} (set PERLER_JAX_DATA to the data folder)")
    return directory


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., None]:
    """Run a Python script as a user would: in an empty folder, without a display; optimised, unless hasty."""
    package = Path(__file__).parents[1]

    def run(script: Path, *, hasty: bool = False) -> None:
        flags = os.environ["XLA_FLAGS"] if hasty else _FLAGS
        environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(package), "XLA_FLAGS": flags}
        errors = ["-W", "error::DeprecationWarning:__main__", "-W", "error::perler_jax.errors.PerlerWarning"]
        command = [sys.executable, *errors, str(script)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run


def _resident() -> int:
    """MiB of memory that this process holds now; 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    return 0


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Forget compiled programs where they have come to be many, and give their memory back."""
    yield
    resident = _resident()
    _PEAKS["here"] = max(_PEAKS.get("here", 0), resident)
    if resident > _MOST_MEMORY:
        jax.clear_caches()
        gc.collect()
        with suppress(OSError, AttributeError):  # glibc alone keeps what is freed, and can be asked for it
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells its controller how much memory its tests took."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak"] = _PEAKS.get("here", 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    _PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak", 0)


def pytest_terminal_summary(terminalreporter: object) -> None:
    peaks = ", ".join(f"{name} {peak} MiB" for name, peak in sorted(_PEAKS.items()))
    terminalreporter.write_line(f"largest memory after a test: {peaks}")
