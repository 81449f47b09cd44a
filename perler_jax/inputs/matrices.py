"""Readers of matrices with names: npz files and 10x folders, with nothing renamed or guessed."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.tables import read_raw, reading

__all__ = ["open_npz", "read_mtx", "read_npz"]

logger = logging.getLogger("perler_jax")


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


def read_npz(path: Path, rows: str) -> tuple[Any, Any, Any, np.ndarray | None]:
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


def read_mtx(
    folder: Path, landmarks: Sequence[str] | np.ndarray | None
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Read a 10x folder (matrix.mtx, genes.tsv or features.tsv, barcodes.tsv; each may be gzipped).

    Genes are called by their symbol, or by their identifier if more of the landmarks are among these. Other
    features than "Gene Expression" are left out, and said.

    Note: symbols that stand for several genes name none of them; such genes go by the identifier that the
    file itself gives them, which is said.

    Returns:
        CSR (cells, genes), cell names and gene names.

    Raises:
        PerlerFileError: a file is missing, truncated, or the sizes do not fit.
    """
    matrix_path = _one_of(folder, "matrix.mtx")
    features_path = _one_of(folder, "features.tsv", "genes.tsv")
    features = read_raw(features_path, "\t", dtype=str, keep_default_na=False)
    barcodes = read_raw(_one_of(folder, "barcodes.tsv"), "\t", dtype=str, keep_default_na=False)
    with reading(matrix_path):
        matrix = scipy.io.mmread(matrix_path, spmatrix=False)
    if matrix.shape != (len(features), len(barcodes)):
        raise PerlerFileError(
            f"expected genes x barcodes in {matrix_path}, {len(features)} x {len(barcodes)}; found "
            f"{matrix.shape}; take the three files from the same run"
        )
    values = sp.csr_array(matrix.T)
    if features.shape[1] > 2 and "Gene Expression" in set(features[2]):
        keep = (features[2] == "Gene Expression").to_numpy()
        if not keep.all():
            logger.warning(
                "%s: left out %d features that are not Gene Expression", features_path, (~keep).sum()
            )
            values, features = values[:, keep], features[keep]
    return values, barcodes[0].to_numpy(), _feature_names(features, landmarks, features_path)


def _feature_names(
    features: pd.DataFrame, landmarks: Sequence[str] | np.ndarray | None, path: Path
) -> np.ndarray:
    identifiers = features[0].to_numpy()
    if features.shape[1] < 2:
        return identifiers
    symbols = features[1].to_numpy()
    if landmarks is not None and np.isin(identifiers, landmarks).sum() > np.isin(symbols, landmarks).sum():
        logger.info("%s: genes go by their identifiers, as the landmarks do", path)
        return identifiers
    ambiguous = features[1].duplicated(keep=False).to_numpy()
    if ambiguous.any():
        logger.warning(
            "%s: %d genes share a symbol with another (%s, ...) and go by their identifiers",
            path,
            ambiguous.sum(),
            ", ".join(pd.unique(symbols[ambiguous])[:3]),
        )
    return np.where(ambiguous, identifiers, symbols)


def _one_of(folder: Path, *names: str) -> Path:
    for path in [folder / f"{name}{ending}" for name in names for ending in ("", ".gz")]:
        if path.is_file():
            return path
    raise PerlerFileError(
        f"expected {' or '.join(names)} (or .gz) in the 10x folder {folder}; found no such file; give the "
        "folder that holds matrix, features and barcodes"
    )
