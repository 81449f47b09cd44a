"""Every test runs the package with its shape annotations executed."""

import os
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

# Tests compile far more than they compute: half the time for the same results to rounding.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

# Before anything imports the package: its modules are instrumented as they are imported.
install_import_hook("perler_jax", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

# Every compiled program maps memory, and Linux gives a process 65530 maps: XLA aborts where none is left.
_MOST_MAPS = 30_000

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


@pytest.fixture(scope="module", autouse=True)
def _few_memory_maps() -> Iterator[None]:
    """Forget compiled programs between modules, where they have come to be many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > _MOST_MAPS:
        jax.clear_caches()
