"""Trees of arrays on disk: one .npz with a JSON header and a checksum of every array. No pickle.

A file is written whole or not at all; one that is truncated, changed, of another kind or of a newer format is
refused with one sentence that says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.io import atomic_path
from perler_jax.inputs.readers.arrays import open_npz

__all__ = ["read_archive", "rebuild", "write_archive"]

_HEADER = "header"
# All the ways in which NumPy, zipfile, zlib and json say that a file is not what it should be.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),
)
Arrays = dict[str, np.ndarray]


def write_archive(path: Any, content: dict[str, Any], *, kind: str, version: int) -> None:
    """Write named values atomically.

    Args:
        path: ends in .npz.
        content: values by name: arrays, plain scalars and texts, dicts of plain values, dataclasses of these
            (taken apart field by field, or what their ``packed`` gives), or None (left out).
        kind: what the file is, refused on reading if another is wanted.
        version: of the layout.

    Raises:
        PerlerFileError: if the path does not end in .npz.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise PerlerFileError(f"expected a path that ends in .npz, found {path.name!r}")
    arrays: Arrays = {}
    plain: dict[str, Any] = {}
    for name, value in content.items():
        _flatten(value, name, arrays, plain)
    checksums = {name: _digest(array) for name, array in arrays.items()}
    header = {"kind": kind, "format_version": version, "plain": plain, "sha256": checksums}
    header["header_sha256"] = _digest_header(header)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **{_HEADER: text}, **arrays)  # type: ignore[arg-type]


def read_archive(path: Any, *, kind: str, version: int) -> tuple[dict[str, Any], Arrays]:
    """Plain values and verified arrays by flat name.

    Raises:
        PerlerFileError: if the file is missing, truncated, changed, of another kind or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise PerlerFileError(f"expected a {kind} at {path}, found no such file")
    try:
        with open_npz(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
        found, found_version, told = (
            header["kind"],
            int(header["format_version"]),
            header.pop("header_sha256"),
        )
        plain, checksums = header["plain"], header["sha256"]
    except _DAMAGE as problem:
        raise PerlerFileError(
            f"expected a {kind}, but {path} is another file or a truncated one ({problem}): save it again"
        ) from problem
    if found != kind or found_version > version:
        raise PerlerFileError(
            f"expected a {kind} of format {version} or older, found a {found} of format {found_version}: "
            "upgrade perler_jax, or save it again"
        )
    if told != _digest_header(header):
        raise PerlerFileError(f"{path} was changed after it was written (its header): save it again")
    wrong = sorted(set(checksums) ^ set(arrays)) or [n for n in arrays if _digest(arrays[n]) != checksums[n]]
    if wrong:
        raise PerlerFileError(f"{path} was changed after it was written (array {wrong[0]!r}): save it again")
    return plain, arrays


def rebuild(name: str, nodes: dict[str, Any], plain: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """The value that was written under a name; dataclasses by the types that ``nodes`` names, else None.

    Where ``nodes`` names several types, the file says which; a field that it does not hold keeps its default.
    """
    if name in arrays:
        unpacked = getattr(nodes.get(name), "unpacked", None)
        return arrays[name] if unpacked is None else unpacked(arrays[name])
    if name not in nodes or name not in plain:
        return plain.get(name)
    possible = nodes[name] if isinstance(nodes[name], tuple) else (nodes[name],)
    kind = next((each for each in possible if each.__name__ == plain[name]), possible[0])
    values = {f.name: rebuild(f"{name}/{f.name}", nodes, plain, arrays) for f in dataclasses.fields(kind)}
    with_default = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    return kind(
        **{key: value for key, value in values.items() if value is not None or key not in with_default}
    )


def _flatten(value: Any, name: str, arrays: Arrays, plain: dict[str, Any]) -> None:
    """Arrays to the archive, everything else to the header."""
    if value is None:
        return
    if hasattr(value, "packed"):
        arrays[name] = value.packed()
    elif dataclasses.is_dataclass(value):
        plain[name] = type(value).__name__
        for field in dataclasses.fields(value):
            if field.init and field.metadata.get("saved", True):
                _flatten(getattr(value, field.name), f"{name}/{field.name}", arrays, plain)
    elif isinstance(value, str | bool | int | float | dict):
        plain[name] = value
    else:
        array = np.asarray(value)
        arrays[name] = array.astype(str) if array.dtype == object else array


def _digest_header(header: dict[str, Any]) -> str:
    """SHA-256 of everything in the header but this."""
    rest = {name: value for name, value in header.items() if name != "header_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digest(array: np.ndarray) -> str:
    """SHA-256 of type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
