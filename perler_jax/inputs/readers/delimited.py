"""Tables of text: csv, tsv and txt, either way round."""

from pathlib import Path

from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.tables import TABLE_SUFFIXES, orient, read_table

__all__ = ["TABLE"]


def _read(path: Path, request: Request) -> Content:
    return Content(orient(read_table(path), request.landmarks, request.rows, path))


TABLE = Reader(
    name="a table",
    ending=", ".join(TABLE_SUFFIXES),
    recognises=lambda path: path.is_file() and path.name.lower().endswith(TABLE_SUFFIXES),
    read=_read,
)
