"""10x folders: matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, each of which may be gzipped."""

from pathlib import Path

import scipy.io
import scipy.sparse as sp

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.readers.tenx_features import annotated
from perler_jax.inputs.tables import read_raw, reading

__all__ = ["TENX_FOLDER"]

_MATRIX, _FEATURES, _BARCODES = ("matrix.mtx",), ("features.tsv", "genes.tsv"), ("barcodes.tsv",)


def _read(folder: Path, request: Request) -> Content:
    """Read the three files.

    Raises:
        PerlerFileError: a file is missing, truncated, or the sizes do not fit.
    """
    matrix_path, features_path = _one_of(folder, _MATRIX), _one_of(folder, _FEATURES)
    features = read_raw(features_path, "\t", dtype=str, keep_default_na=False)
    barcodes = read_raw(_one_of(folder, _BARCODES), "\t", dtype=str, keep_default_na=False)
    with reading(matrix_path):
        matrix = scipy.io.mmread(matrix_path, spmatrix=False)
    if matrix.shape != (len(features), len(barcodes)):
        raise PerlerFileError(
            f"expected genes x barcodes in {matrix_path}, {len(features)} x {len(barcodes)}; found "
            f"{matrix.shape}; take the three files from the same run"
        )
    columns = [features[number].to_numpy(object) for number in features.columns[:3]]
    identifiers, symbols, kinds = [*columns, None, None][:3]
    names, counts = barcodes[0].to_numpy(object), sp.csr_array(matrix.T)
    return Content(annotated(counts, names, identifiers, symbols, kinds, request.landmarks, features_path))


def _candidates(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / f"{name}{ending}" for name in names for ending in ("", ".gz")]


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    for path in _candidates(folder, names):
        if path.is_file():
            return path
    raise PerlerFileError(
        f"expected {' or '.join(names)} (or .gz) in the 10x folder {folder}; found no such file; give the "
        "folder that holds matrix, features and barcodes"
    )


def _recognises(path: Path) -> bool:
    every = _MATRIX + _FEATURES + _BARCODES
    return path.is_dir() and any(each.is_file() for each in _candidates(path, every))


TENX_FOLDER = Reader(
    name="a 10x folder",
    ending="matrix.mtx, features.tsv and barcodes.tsv (10x)",
    recognises=_recognises,
    read=_read,
    options=frozenset({"gene_key"}),
)
