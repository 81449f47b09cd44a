"""Work that survives a kill: finished pieces lie in a folder, each whole or absent, and are not done again.

A piece is one .npz, written beside its name and renamed to it, so that whatever is there is complete. The
folder belongs to one piece of work, named by a fingerprint of everything that it depends on; another one is
refused and never mixed in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.io import atomic_path
from perler_jax.inputs.readers.arrays import open_npz

__all__ = ["Checkpoint", "fingerprint", "open_checkpoint"]

_LABEL = "work.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Finished pieces of one piece of work.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a piece, or None where it is not done."""
        path = self._path(name)
        if not path.is_file():
            return None
        with open_npz(path) as found:
            return {key: found[key] for key in found.files}

    def has(self, name: str) -> bool:
        """Whether a piece is done."""
        return self._path(name).is_file()

    def put(self, name: str, arrays: dict[str, Any]) -> None:
        """Keep a finished piece, whole or not at all."""
        with atomic_path(self._path(name)) as temporary:
            kept: dict[str, Any] = {key: np.asarray(value) for key, value in arrays.items()}
            np.savez(temporary, **kept)

    def keep(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The arrays of a piece: as they were kept, or made now and kept."""
        found = self.get(name)
        if found is None:
            found = make()
            self.put(name, found)
        return found

    def remove(self) -> None:
        """Delete the folder: the work is done and its result is elsewhere."""
        shutil.rmtree(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def open_checkpoint(folder: Any, mark: str) -> Checkpoint:
    """Begin or go on with the work of this fingerprint.

    Args:
        folder: made if it is not there; its parent must be.
        mark: from `fingerprint`.

    Raises:
        PerlerFileError: if the folder holds other work, or something that is no checkpoint.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise PerlerFileError(f"expected a folder for unfinished work at {folder}; found a file")
    if not folder.parent.is_dir():
        raise PerlerFileError(f"expected the folder {folder.parent} to exist; found none; create it first")
    label = folder / _LABEL
    if not label.is_file():
        if folder.is_dir() and any(folder.glob("[!.]*")):
            raise PerlerFileError(
                f"expected an empty folder or unfinished work at {folder}; found other files: name another"
            )
        folder.mkdir(exist_ok=True)
        with atomic_path(label) as temporary:
            temporary.write_text(json.dumps({"fingerprint": mark}), encoding="utf-8")
    found = json.loads(label.read_text(encoding="utf-8"))["fingerprint"]
    if found != mark:
        raise PerlerFileError(
            f"expected unfinished work of the same data and settings in {folder}; found other work: "
            "delete the folder, or name another"
        )
    for stale in folder.glob(".*"):  # left by a writer that was killed
        stale.unlink()
    return Checkpoint(folder)


def fingerprint(*values: Any) -> str:
    """SHA-256 of arrays, texts, numbers, and dataclasses, dicts and lists of these."""
    digest = hashlib.sha256()
    for value in values:
        _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__name__.encode())
        _add(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, dict):
        for key in sorted(value):
            digest.update(str(key).encode())
            _add(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for each in value:
            _add(digest, each)
    elif value is None or isinstance(value, str | bool | int | float):
        digest.update(f"{type(value).__name__}:{value!r}".encode())
    else:
        array = np.asarray(value)
        array = array.astype(str) if array.dtype == object else array
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
