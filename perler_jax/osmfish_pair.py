"""A small real pair that a first try can fetch: osmFISH cells, and dissociated cells of another laboratory.

Mouse somatosensory cortex by osmFISH (Codeluppi et al. 2018) and visual cortex by SMART-seq (Tasic et al.
2018), 33 shared genes, as the authors of TISSUE keep them under the MIT licence with the tests of their
program; 0.4 MB. What is fetched is that of one commit and is compared with its checksum.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from perler_jax.datasets import CortexPair
from perler_jax.errors import PerlerFileError
from perler_jax.inputs.tables import read_named

__all__ = ["load_osmfish_pair"]

_ADDRESS = (
    "https://raw.githubusercontent.com/sunericd/TISSUE/ffc35998004ecf44eaf2aedf774c2f6a2292e7b9/tests/data"
)
_CHECKSUMS = {
    "scRNA_count.txt": "d77d0546fe15c26a5668525f4e3ebfedcfc35be7c83d24933dd4776e3d0916c3",
    "Spatial_count.txt": "39e75bf727f26662a3f25dc7d4cf52b35bc6ade73fcc33fafe5f21736df87958",
    "Locations.txt": "3297b8e374656088f98cc991432591a74224ea7b3ff72b0999eb590f5f015b06",
}


def load_osmfish_pair(directory: str | PathLike[str] | None = None) -> CortexPair:
    """Load 1000 dissociated cells and 3405 located cells with the same 33 genes; counts on both sides.

    Args:
        directory: folder that holds ``scRNA_count.txt``, ``Spatial_count.txt`` and ``Locations.txt``, or the
            same with ``.gz``; None fetches them, once, into the user's cache (needs ``perler_jax[data]``).

    Returns:
        Cells and map as AnnData; ``obsm["spatial"]`` of the map in pixels.

    Raises:
        PerlerFileError: a file is missing or is no such table; nothing could be fetched.
    """
    files = {name: _fetch(name) if directory is None else _find(Path(directory), name) for name in _CHECKSUMS}
    counts, located, places = (
        _table(files[name], named) for name, named in zip(_CHECKSUMS, (True, False, False), strict=True)
    )
    if len(located) != len(places) or list(counts.index) != list(located.columns):
        raise PerlerFileError(
            f"expected the same genes on both sides and a position for each of {len(located)} located cells; "
            f"found {len(counts)} and {located.shape[1]} genes, {len(places)} positions in "
            f"{files['Locations.txt'].parent}; fetch the files anew"
        )
    located.index = [f"location{i + 1}" for i in range(len(located))]
    reference = ad.AnnData(located.astype(np.float32))
    reference.obsm["spatial"] = places.to_numpy(np.float64)
    return CortexPair(ad.AnnData(counts.T.astype(np.float32)), reference)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise PerlerFileError(
        f"expected the file {name} or {name}.gz in {folder}; found none; give the folder that holds it, or "
        "no folder to fetch it"
    )


def _fetch(name: str) -> Path:
    by_hand = f"fetch {_ADDRESS}/{name} by hand, and give the folder: load_osmfish_pair(FOLDER)"
    try:
        import pooch
    except ImportError as error:
        raise PerlerFileError(
            f'expected pooch, which fetches data; found it not installed; pip install "perler_jax[data]", or '
            f"{by_hand}"
        ) from error
    cache = pooch.os_cache("perler_jax") / "osmfish_pair"
    try:
        found = pooch.retrieve(f"{_ADDRESS}/{name}", f"sha256:{_CHECKSUMS[name]}", fname=name, path=cache)
    except (OSError, ValueError) as error:  # no network, no such file, another content
        raise PerlerFileError(f"expected {name} at its address; found {error}; {by_hand}") from error
    return Path(found)


def _table(path: Path, named: bool) -> pd.DataFrame:
    try:
        return read_named(path) if named else pd.read_csv(path, sep="\t")
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise PerlerFileError(
            f"expected a tab-separated table; found {path}, which could not be read ({error}); fetch it anew"
        ) from error
