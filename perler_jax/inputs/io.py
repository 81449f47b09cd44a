"""Files in, files out: what is read goes to `as_cells`; what is written is whole or not there."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.choices import Missing
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.interface import argument
from perler_jax.inputs.readers.known import READERS, find_reader
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.scales import ReferenceNormalisation, Scale
from perler_jax.inputs.tables import TABLE_SUFFIXES, read_coordinates

__all__ = ["atomic_path", "read_cells", "read_reference"]

PathLike = str | os.PathLike[str]
Landmarks = Sequence[str] | np.ndarray


def read_cells(
    path: PathLike,
    *,
    landmarks: Landmarks | None = None,
    layer: str | None = None,
    scale: Scale = "auto",
    backed: bool = False,
    gene_key: str | None = None,
    use_raw: bool = False,
    table: str | None = None,
) -> CellExpression:
    """Read dissociated cells from a file or a folder of any kind in :mod:`perler_jax.inputs.readers.known`.

    Args:
        path: .h5ad, .zarr (AnnData or SpatialData), .csv or .tsv or .txt (also .gz; either way round), .npz,
            10x .h5, or a 10x folder.
        landmarks: names of the reference's genes; they decide which way round a table lies and which names of
            10x files are meant. Without them a table is read as cells x genes, and that is logged.
        layer: layer to use in place of X.
        scale: as of :func:`perler_jax.inputs.intake.as_cells`.
        backed: leave the values in the file and read them when needed.
        gene_key: column of ``var`` to take the names of genes from, in place of its index.
        use_raw: take ``.raw`` in place of X and ``var``.
        table: which table of a SpatialData; not needed where there is one.

    Returns:
        Labelled cells, as of :func:`perler_jax.inputs.intake.as_cells`.

    Raises:
        PerlerFileError: missing, empty, truncated, or of an unknown kind.
        PerlerInputError: as :func:`perler_jax.inputs.intake.as_cells`; an option that means nothing for the
            kind of file.
    """
    part: dict[str, Any] = {"layer": layer, "gene_key": gene_key, "use_raw": use_raw}
    _, content = _read(path, Request("cells", landmarks, backed, table), part)
    return as_cells(content.source, cells=content.rows, genes=content.genes, scale=scale, **part)


def read_reference(
    path: PathLike,
    *,
    coordinates: PathLike | Sequence[str] | None = None,
    landmarks: Landmarks | None = None,
    layer: str | None = None,
    scale: Scale = "auto",
    normalisation: ReferenceNormalisation = "auto",
    gene_key: str | None = None,
    use_raw: bool = False,
    table: str | None = None,
    missing: Missing = "refuse",
    section_key: str | None = None,
) -> SpatialReference:
    """Read a reference map, and its coordinates, from files.

    Args:
        path: as of :func:`read_cells`; positions are those of ``obsm["spatial"]``.
        coordinates: csv or tsv with a header and 2 or 3 columns of numbers; wins over what ``path`` holds.
            Rows are matched by name if the first column holds the locations' names, else they go in order
            and there must be exactly one per location. Or where they lie in ``path``: a key of ``obsm``, or
            columns of ``obs`` or of the table (["x", "y"] or "x,y").
        landmarks: names of genes to expect (such as those of the cells); they decide which way round a table
            lies. Without them a table is read as locations x landmarks, and that is logged.
        layer: as of :func:`read_cells`.
        scale: as of :func:`perler_jax.inputs.intake.as_reference`.
        normalisation: likewise.
        gene_key: as of :func:`read_cells`.
        use_raw: likewise.
        table: likewise.
        missing: "refuse", "drop" or "fill": what becomes of values not measured (empty fields, NaN).
        section_key: as of :func:`perler_jax.inputs.intake.as_reference`.

    Returns:
        A labelled map, as of :func:`perler_jax.inputs.intake.as_reference`.

    Raises:
        PerlerFileError: missing, empty, truncated, or of an unknown kind.
        PerlerInputError: as :func:`perler_jax.inputs.intake.as_reference`; an option that means nothing for
            the kind of file.
    """
    part: dict[str, Any] = {"layer": layer, "gene_key": gene_key, "use_raw": use_raw}
    reader, content = _read(path, Request("locations", landmarks, False, table), part)
    where = content.coordinates if coordinates is None else _positions(coordinates, reader, content)
    return as_reference(
        content.source,
        coordinates=where,
        locations=content.rows,
        genes=content.genes,
        scale=scale,
        normalisation=normalisation,
        missing=missing,
        section_key=section_key,
        **part,
    )


def _read(path: PathLike, request: Request, part: dict[str, Any]) -> tuple[Reader, Content]:
    """What is at a path, and its kind; options that the kind does not have are refused."""
    path = Path(path)
    reader = find_reader(path)
    given = {**part, "backed": request.backed, "table": request.table}
    for option, value in given.items():
        if value and option not in reader.options:
            able = " or ".join(each.name for each in READERS if option in each.options)
            asked = argument(option, value, request.side)
            raise PerlerInputError(f"expected {able} with {asked}; found {path}; leave it out")
    return reader, reader.read(path, request)


def _positions(coordinates: PathLike | Sequence[str], reader: Reader, content: Content) -> Any:
    """A table of positions, or where they lie in what was read."""
    if not isinstance(coordinates, str | os.PathLike):
        return coordinates
    path, inside = Path(coordinates), isinstance(content.source, AnnData | pd.DataFrame)
    if not path.is_file():
        return (
            coordinates
            if inside and not path.name.lower().endswith(TABLE_SUFFIXES)
            else read_coordinates(path)
        )
    if isinstance(content.source, AnnData) and coordinates in content.source.obsm:
        raise PerlerInputError(
            f"expected {argument('coordinates', coordinates)} to be a file or a key of obsm; found both; "
            f"write ./{path} for the file"
        )
    return read_coordinates(path)


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
