"""Every test runs the package with its shape annotations executed."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

_HOOK = install_import_hook("perler_jax", "beartype.beartype")
_HOOK.install() if hasattr(_HOOK, "install") else None

import pytest  # noqa: E402

SHARED_DATA = Path(os.environ.get("PERLER_JAX_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def fly_directory() -> Path:
    """The real fly data, or a skip that says where it was looked for."""
    directory = SHARED_DATA / "drosophila"
    if not directory.is_dir():
        pytest.skip(f"no fly data at {directory} (set PERLER_JAX_DATA to the data folder)")
    return directory
