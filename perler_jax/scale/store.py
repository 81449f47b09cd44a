"""Results larger than memory: columns written block by block to .h5ad or .zarr, whole or not at all.

Finished blocks wait in a folder beside the result (`checkpoint`). When all are there they become one file; a
job that was killed goes on where it was. What stands under the result's name is always complete.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from anndata import AnnData
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.errors import PerlerFileError
from perler_jax.scale.checkpoint import Checkpoint, open_checkpoint

__all__ = ["check_target", "stream_to_file"]

_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}  # how AnnData marks a dense matrix


def check_target(path: Any) -> Path:
    """A path that a result can be streamed to.

    Raises:
        PerlerFileError: on another ending, a missing folder, or a zarr store that exists.
    """
    path = Path(path)
    if path.suffix not in (".h5ad", ".zarr"):
        raise PerlerFileError(f"expected a path that ends in .h5ad or .zarr, found {path.name!r}")
    if not path.parent.is_dir():
        raise PerlerFileError(f"expected the folder {path.parent} to exist; found none; create it first")
    if path.is_dir():
        raise PerlerFileError(f"expected a new path, found the folder {path}: delete it, or name another")
    return path


def stream_to_file(
    path: Any,
    shell: AnnData,
    make: Callable[[np.ndarray], Iterable[Float[np.ndarray, "rows block"]]],
    *,
    block: int,
    mark: str,
    dtype: Any,
    progress: bool = False,
) -> Path:
    """Make the columns of X in blocks, keep each as it is finished, and put them together at the end.

    Args:
        path: ends in .h5ad or .zarr.
        shell: everything but X.
        make: names of columns -> their values, ``block`` columns at a time.
        block: columns that are made and kept at once.
        mark: fingerprint of the work: unfinished work of another one is refused.
        dtype: of X.
        progress: show a progress bar.

    Returns:
        The path.

    Raises:
        PerlerFileError: on a path that cannot be written to, or unfinished work of another fingerprint.
    """
    path = check_target(path)
    columns = shell.var_names.to_numpy()
    parts = [columns[start : start + block] for start in range(0, len(columns), block)]
    checkpoint = open_checkpoint(path.with_name(f"{path.name}.unfinished"), mark)
    names = [f"block{index:06d}" for index in range(len(parts))]
    missing = [index for index, name in enumerate(names) if not checkpoint.has(name)]
    # All blocks but the last are full, so that those that are missing come out as they were cut.
    left = np.concatenate([columns[:0], *(parts[index] for index in missing)])
    with tqdm(total=len(columns), desc="reconstruct", unit="gene", disable=not progress, leave=False) as bar:
        bar.update(len(columns) - len(left))
        for index, values in zip(missing, make(left) if missing else (), strict=True):
            checkpoint.put(names[index], {"values": np.asarray(values, dtype)})
            bar.update(len(parts[index]))
    widths = [len(part) for part in parts]
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        fill = _fill_h5ad if path.suffix == ".h5ad" else _fill_zarr
        fill(temporary, shell, widths, _read(checkpoint, names), dtype)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    checkpoint.remove()
    return path


def _read(checkpoint: Checkpoint, names: list[str]) -> Iterator[np.ndarray]:
    for name in names:
        found = checkpoint.get(name)
        assert found is not None, f"block {name} vanished"
        yield found["values"]


def _fill_h5ad(
    path: Path, shell: AnnData, widths: list[int], blocks: Iterator[np.ndarray], dtype: Any
) -> None:
    shell.write_h5ad(path, convert_strings_to_categoricals=False)
    with h5py.File(path, "a") as file:
        file.pop("X", None)
        chunks = _chunks(shell, widths)
        matrix = file.create_dataset("X", shell.shape, dtype, chunks=chunks, compression="gzip")
        matrix.attrs.update(_ENCODING)
        _fill(matrix, widths, blocks)


def _fill_zarr(
    path: Path, shell: AnnData, widths: list[int], blocks: Iterator[np.ndarray], dtype: Any
) -> None:
    shell.write_zarr(path)
    group: Any = zarr.open_group(str(path), mode="a")
    if "X" in group:
        del group["X"]
    matrix = group.create_array("X", shape=shell.shape, dtype=np.dtype(dtype), chunks=_chunks(shell, widths))
    matrix.attrs.update(_ENCODING)
    _fill(matrix, widths, blocks)
    zarr.consolidate_metadata(str(path))


def _chunks(shell: AnnData, widths: list[int]) -> tuple[int, int]:
    """A gene is read across all rows: chunks are tall and no wider than a block."""
    return shell.n_obs, max(1, min(widths[0], 64))


def _fill(matrix: Any, widths: list[int], blocks: Iterator[np.ndarray]) -> None:
    start = 0
    for width, values in zip(widths, blocks, strict=True):
        matrix[:, start : start + width] = values
        start += width
