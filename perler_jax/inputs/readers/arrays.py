"""Archives of NumPy arrays with names: npz."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.tables import reading

__all__ = ["NPZ", "open_npz"]


@contextmanager
def open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of an npz file, never a pickle; closed at the end, and where it is broken.

    NumPy by itself leaves a broken file open.

    Raises:
        ValueError: it holds one array without a name.
        OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error: missing or broken.
    """
    with open(path, "rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("one array without a name in the place of several with names")
        with archive:
            yield archive


def _read(path: Path, request: Request) -> Content:
    values, names, genes, coordinates = _parts(path, request.rows)
    return Content(values, names, genes, coordinates if request.rows == "locations" else None)


def _parts(path: Path, rows: str) -> tuple[Any, Any, Any, np.ndarray | None]:
    """Read values, row names (``rows`` is their key), gene names and coordinates of an npz file.

    Either the parts of a CSR or CSC matrix (data, indices, indptr, shape, optionally format) or ``values``,
    with the names ``genes`` and ``cells`` or ``locations``; ``coordinates`` may be there too. Never a pickle.

    Raises:
        PerlerFileError: missing, truncated, without one of the keys, or with parts that do not fit.
    """
    known = {"data", "indices", "indptr", "shape", "format", "values", "genes", rows, "coordinates"}
    with reading(path), open_npz(path) as archive:
        parts = {key: archive[key] for key in archive.files if key in known}
    needed = {"genes", rows} | ({"values"} if "values" in parts else {"data", "indices", "indptr", "shape"})
    if needed - parts.keys():
        raise PerlerFileError(
            f"expected {path} to hold {', '.join(sorted(needed))}; found no "
            f"{', '.join(sorted(needed - parts.keys()))}; store the names and the values (or the parts of a "
            "CSR matrix) under these keys"
        )
    values: Any = parts.get("values")
    if values is None:
        with reading(path):
            kind = sp.csc_array if str(parts.get("format", "csr")) in ("csc", "b'csc'") else sp.csr_array
            shape = tuple(int(size) for size in parts["shape"])
            values = kind((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
            values.check_format(full_check=True)
    return values, parts[rows], parts["genes"], parts.get("coordinates")


NPZ = Reader(
    name="an npz file",
    ending=".npz",
    recognises=lambda path: path.is_file() and path.name.lower().endswith(".npz"),
    read=_read,
)
