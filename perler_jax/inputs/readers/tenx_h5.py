"""10x .h5 files: filtered_feature_bc_matrix.h5 of Cell Ranger 3 and newer, or one group per genome before."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.labels import few
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.readers.tenx_features import annotated
from perler_jax.inputs.tables import reading

__all__ = ["TENX_H5", "read_features"]

_ALSO = (RuntimeError, TypeError)


def _read(path: Path, request: Request) -> Content:
    """Read the counts of all barcodes.

    Raises:
        PerlerFileError: another HDF5 file, truncated, without a part, or with parts that do not fit.
    """
    with reading(path, also=_ALSO), h5py.File(path, "r") as file:
        group = _group(file, path)
        parts = {key: group[key][()] for key in ("data", "indices", "indptr", "shape")}
        barcodes, features = _texts(group["barcodes"]), _features(group)
        n_features, n_barcodes = (int(size) for size in parts["shape"])
        # Columns of features x barcodes are rows of barcodes x features: the same arrays.
        counts: Any = sp.csr_array(
            (parts["data"], parts["indices"], parts["indptr"]), shape=(n_barcodes, n_features)
        )
        counts.check_format(full_check=True)
    if (n_features, n_barcodes) != (len(features), len(barcodes)):
        raise PerlerFileError(
            f"expected the names of {n_features} features and {n_barcodes} barcodes in {path}; found "
            f"{len(features)} and {len(barcodes)}; fetch or write it again"
        )
    kinds = features["kind"].to_numpy(object) if "kind" in features else None
    ids, symbols = (features[column].to_numpy(object) for column in ("gene_ids", "gene_symbols"))
    return Content(annotated(counts, barcodes, ids, symbols, kinds, request.landmarks, path))


def read_features(path: Path) -> pd.DataFrame:
    """Columns gene_ids, gene_symbols and, where the file says, kind of the features; errors as on reading."""
    with reading(path, also=_ALSO), h5py.File(path, "r") as file:
        return _features(_group(file, path))


def _features(group: h5py.Group) -> pd.DataFrame:
    if "features" not in group:
        return pd.DataFrame({"gene_ids": _texts(group["genes"]), "gene_symbols": _texts(group["gene_names"])})
    features = group["features"]
    columns = {"gene_ids": _texts(features["id"]), "gene_symbols": _texts(features["name"])}
    if "feature_type" in features:
        columns["kind"] = _texts(features["feature_type"])
    return pd.DataFrame(columns)


def _group(file: h5py.File, path: Path) -> h5py.Group:
    """The group that holds the matrix: "matrix", or the one that has the name of the genome."""
    if "matrix" in file and isinstance(file["matrix"], h5py.Group):
        return file["matrix"]
    genomes = [name for name, each in file.items() if isinstance(each, h5py.Group) and "gene_names" in each]
    if len(genomes) == 1:
        return file[genomes[0]]
    if genomes:
        raise PerlerFileError(
            f"expected one genome in {path}; found {few(genomes)}; save one of them as h5ad: "
            f'scanpy.read_10x_h5(path, genome="{genomes[0]}").write_h5ad("cells.h5ad")'
        )
    raise PerlerFileError(
        f"expected a 10x file with the group matrix (or one named like a genome) at {path}; found "
        f"{few(sorted(file)) or 'an empty file'}; give filtered_feature_bc_matrix.h5, or the ending .h5ad if "
        "it is an AnnData"
    )


def _texts(dataset: Any) -> np.ndarray:
    return dataset.asstr()[:].astype(object) if dataset.dtype.kind in "SO" else np.asarray(dataset[:], object)


TENX_H5 = Reader(
    name="a 10x .h5 file",
    ending=".h5",
    recognises=lambda path: path.is_file() and path.name.lower().endswith(".h5"),
    read=_read,
    options=frozenset({"gene_key"}),
)
