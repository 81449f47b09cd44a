"""Files in, files out: readers that dispatch on the suffix, and the one way in which files are written."""

import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np

from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.matrices import read_mtx, read_npz
from perler_jax.inputs.scales import ReferenceNormalisation, Scale
from perler_jax.inputs.tables import TABLE_SUFFIXES, orient, read_coordinates, read_table

__all__ = ["atomic_path", "read_cells", "read_reference"]

logger = logging.getLogger("perler_jax")

PathLike = str | os.PathLike[str]
Landmarks = Sequence[str] | np.ndarray


def read_cells(
    path: PathLike,
    *,
    landmarks: Landmarks | None = None,
    layer: str | None = None,
    scale: Scale = "auto",
    backed: bool = False,
) -> CellExpression:
    """Read dissociated cells from a file or a 10x folder.

    Args:
        path: .h5ad, .csv or .tsv or .txt (also .gz; either way round), .npz, or a folder with matrix.mtx.
        landmarks: names of the reference's genes; they decide which way round a table lies and which names of
            a 10x folder are meant. Without them a table is read as cells x genes, and that is logged.
        layer: layer of the h5ad to use in place of X.
        scale: as of :func:`perler_jax.inputs.intake.as_cells`.
        backed: leave the h5ad's X in the file and read it when needed.

    Raises:
        PerlerFileError: missing, empty, truncated, or of an unknown kind.
        PerlerInputError: as :func:`perler_jax.inputs.intake.as_cells`.
    """
    path = _existing(path)
    kind = _kind(path)
    if kind != "h5ad" and (layer is not None or backed):
        option = f"layer={layer!r}" if layer is not None else "backed=True"
        raise PerlerInputError(f"expected an h5ad file with {option}; found {path}; leave the option out")
    if kind == "h5ad":
        return as_cells(_read_h5ad(path, backed), layer=layer, scale=scale)
    if kind == "table":
        return as_cells(orient(read_table(path), landmarks, "cells", path), scale=scale)
    if kind == "npz":
        values, cells, genes, _ = read_npz(path, "cells")
    else:
        values, cells, genes = read_mtx(path, landmarks)
    return as_cells(values, cells=cells, genes=genes, scale=scale)


def read_reference(
    path: PathLike,
    *,
    coordinates: PathLike | None = None,
    landmarks: Landmarks | None = None,
    layer: str | None = None,
    scale: Scale = "auto",
    normalisation: ReferenceNormalisation = "auto",
) -> SpatialReference:
    """Read a reference map, and its coordinates, from files.

    Args:
        path: .h5ad (positions in ``obsm["spatial"]``), .csv or .tsv or .txt (also .gz), or .npz.
        coordinates: csv or tsv with a header and 2 or 3 columns of numbers; wins over what ``path`` holds.
            Rows are matched by name if the first column holds the locations' names, else they go in order
            and there must be exactly one per location.
        landmarks: names of genes to expect (such as those of the cells); they decide which way round a table
            lies. Without them a table is read as locations x landmarks, and that is logged.
        layer: layer of the h5ad to use in place of X.
        scale: as of :func:`perler_jax.inputs.intake.as_reference`.
        normalisation: likewise.

    Raises:
        PerlerFileError: missing, empty, truncated, or of an unknown kind.
        PerlerInputError: as :func:`perler_jax.inputs.intake.as_reference`.
    """
    path = _existing(path)
    kind = _kind(path)
    if kind != "h5ad" and layer is not None:
        raise PerlerInputError(
            f"expected an h5ad file with layer={layer!r}; found {path}; leave the layer out"
        )
    where = None if coordinates is None else read_coordinates(_existing(coordinates))
    how: dict[str, Any] = {"scale": scale, "normalisation": normalisation}
    if kind == "h5ad":
        return as_reference(_read_h5ad(path, False), coordinates=where, layer=layer, **how)
    if kind == "table":
        return as_reference(orient(read_table(path), landmarks, "locations", path), coordinates=where, **how)
    if kind == "folder":
        raise PerlerFileError(
            f"expected a reference as h5ad, csv, tsv or npz; found the folder {path}; name a file"
        )
    values, locations, genes, positions = read_npz(path, "locations")
    where = positions if where is None else where
    return as_reference(values, coordinates=where, locations=locations, genes=genes, **how)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it only if the block succeeds.

    Whatever goes wrong inside the block (an interrupt included), ``path`` is as it was before and the
    temporary file is gone. The temporary name ends like ``path``, for writers that look at the suffix.

    Raises:
        PerlerFileError: the folder does not exist, ``path`` is a folder, or the block wrote nothing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise PerlerFileError(f"expected the folder {path.parent} to exist; found none; create it first")
    if path.is_dir():
        raise PerlerFileError(f"expected a file name to write to; found the folder {path}; add a file name")
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        if not temporary.is_file():
            raise PerlerFileError(
                f"expected a file for {path} to be written; found none; nothing was changed"
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _existing(path: PathLike) -> Path:
    path = Path(path)
    if not path.exists():
        raise PerlerFileError(f"expected a file at {path}; found none; check the path")
    return path


def _kind(path: Path) -> str:
    name = path.name.lower()
    if path.is_dir():
        return "folder"
    if name.endswith(TABLE_SUFFIXES):
        return "table"
    for suffix in ("h5ad", "npz"):
        if name.endswith(f".{suffix}"):
            return suffix
    raise PerlerFileError(
        f"expected a file ending in .h5ad, .npz, {', '.join(TABLE_SUFFIXES)}, or a 10x folder; found "
        f"{path.name}; convert it, or give it the ending of what it is"
    )


def _read_h5ad(path: Path, backed: bool) -> anndata.AnnData:
    try:
        return anndata.read_h5ad(path, backed="r" if backed else None)
    # HDF5 and AnnData raise whatever they stumble over in a damaged file.
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PerlerFileError(
            f"expected a complete h5ad file at {path}; found otherwise ({type(error).__name__}: {reason}); "
            "fetch or write it again"
        ) from error
