"""Which releases are installed: read from the packages' metadata, so that none of them is imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions", "package_version"]

# What decides numbers, formats and speed. The CUDA plugins are JAX's way onto an NVIDIA card.
_TOLD = (
    *("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin"),
    *(
        "numpyro",
        "optax",
        "arviz",
        "anndata",
        "h5py",
        "zarr",
        "numpy",
        "scipy",
        "pandas",
        "matplotlib",
        "plotly",
    ),
)


def package_version() -> str:
    """The installed version of this package."""
    return _version("perler_jax") or "unknown (not installed)"


def installed_versions() -> dict[str, str]:
    """Of this package, of Python and of what it stands on; packages that are not there are left out."""
    found = {name: _version(name) for name in _TOLD}
    about = {"perler_jax": package_version(), "python": platform.python_version()}
    return about | {name: release for name, release in found.items() if release is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
