"""SpatialData on disk: a .zarr folder with tables beside images and shapes; only the table is read here."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

from perler_jax.inputs.readers.anndata_files import ZARR, read_zarr_table, zarr_attributes
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.spatial_tables import EXTRA, choose_table, positions_of
from perler_jax.inputs.tables import reading

__all__ = ["SPATIALDATA", "table_names"]

logger = logging.getLogger("perler_jax")


def table_names(path: Path) -> list[str]:
    """Names of the tables in the folder, sorted."""
    folder = path / "tables"
    tables = folder.iterdir() if folder.is_dir() else ()
    return sorted(each.name for each in tables if zarr_attributes(each).get("encoding-type") == "anndata")


def _read(path: Path, request: Request) -> Content:
    name = choose_table(table_names(path), request.table, request.side)
    table = read_zarr_table(path / "tables" / name, request.backed)
    if request.rows == "cells" or "spatial" in table.obsm or "spatialdata_attrs" not in table.uns:
        return Content(table)
    if importlib.util.find_spec("spatialdata") is None:
        logger.warning(
            "%s: no positions in the table's obsm, and those of the shapes need spatialdata: %s", path, EXTRA
        )
        return Content(table)
    import spatialdata

    known: tuple[Any, ...] = (TypeError, AttributeError, RuntimeError, ImportError)
    with reading(path, "complete SpatialData", also=known):
        whole = spatialdata.read_zarr(path)
        return Content(table, coordinates=positions_of(whole, whole.tables[name]))


def _recognises(path: Path) -> bool:
    return path.is_dir() and ("spatialdata_attrs" in zarr_attributes(path) or bool(table_names(path)))


SPATIALDATA = Reader(
    name="a SpatialData .zarr",
    ending=ZARR.ending,
    recognises=_recognises,
    read=_read,
    options=ZARR.options | {"table"},
)
