"""Readers of csv and tsv tables: from a file to a DataFrame, with nothing renamed or guessed.

Which way round a table lies is decided by :func:`orient`, and said.
"""

import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.inputs.labels import few
from perler_jax.inputs.separators import find_punctuation

__all__ = [
    "TABLE_SUFFIXES",
    "orient",
    "read_coordinates",
    "read_named",
    "read_raw",
    "read_table",
    "reading",
    "text_columns",
]

logger = logging.getLogger("perler_jax")

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")

# What stands for a missing number in a column of numbers: pandas' own list, which it has no name for.
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "<NA>", "N/A", "n/a"}
_MISSING |= {"NA", "NULL", "null", "NaN", "-NaN", "nan", "-nan", "None"}

# A first column of numbers under one of these headings holds names; under any other it holds values.
# ("bin" and "id" are not here: both are genes.)
_NAME_HEADINGS = (
    "",
    "gene",
    "genes",
    "cell",
    "cells",
    "cell_id",
    "cellid",
    "barcode",
    "sample_id",
    "gene_id",
    "location",
    "index",
)


def read_table(path: Path) -> pd.DataFrame:
    """Read a csv, tsv or txt, plain or gzipped, with a header row.

    Fields may be separated by commas, tabs or semicolons, decimals by points or commas, whatever the ending:
    what is used is found out, and said (:mod:`perler_jax.inputs.separators`).

    The first column becomes the index if it holds text, or has no heading, or a heading that says so; without
    one, rows are numbered by a RangeIndex. Column names are kept as written, repeats included.

    Raises:
        PerlerFileError: missing, empty, truncated, ragged, of a single column, or ambiguous.
    """
    with reading(path):
        separator, decimal = find_punctuation(path)
    header = read_raw(path, separator, nrows=1, dtype=str, keep_default_na=False)
    probe = read_raw(path, separator, skiprows=1, nrows=64, dtype=str, keep_default_na=False)
    if probe.empty:
        raise PerlerFileError(
            f"expected a header and rows of values in {path}; found "
            f"{'an empty file' if header.empty else 'a header only'}; write the table again"
        )
    names = [str(name) for name in header.iloc[0]]
    if probe.shape[1] == len(names) + 1:  # as R writes it: the column of row names has no heading
        names = ["", *names]
    if probe.shape[1] != len(names):
        raise PerlerFileError(
            f"expected {len(names)} columns in {path}, as in its header; found {probe.shape[1]}; "
            "check the separator and the header row"
        )
    named = names[0].strip().lower() in _NAME_HEADINGS or not _holds_numbers(
        probe[0].str.replace(decimal, ".")
    )
    if len(names) - named < 1:
        raise PerlerFileError(
            f"expected several columns separated by commas, tabs or semicolons in {path}; found one; write "
            "the table again, every row with as many fields as the header"
        )
    options = text_columns(range(len(names)), [0]) if named else {}
    body = read_raw(path, separator, skiprows=1, decimal=decimal, **options)
    body.columns = pd.Index(names)
    if not named:
        return body
    return body.iloc[:, 1:].set_index(pd.Index(body.iloc[:, 0].to_numpy(), dtype=object))


def read_named(path: Path, column: str | int = 0, separator: str = "\t") -> pd.DataFrame:
    """Read a table with a heading over each column, by one of its columns, whose names stay as written.

    Raises:
        KeyError: there is no such column.
        ValueError, OSError, EOFError: as ``pandas.read_csv``.
    """
    header = pd.read_csv(path, sep=separator, nrows=0).columns
    name = header[column] if isinstance(column, int) else column
    return pd.read_csv(path, sep=separator, **text_columns(header, [name])).set_index(name)


def text_columns(columns: Iterable[Any], text: Sequence[Any]) -> dict[str, Any]:
    """Options of ``pandas.read_csv`` that keep these columns as written: genes are called "nan", cells "007".

    ``dtype=str`` alone makes "nan", "NA" and their like missing; from pandas 3 on a converter does as well.

    Args:
        columns: all of the table, by name or, without a header, by position.
        text: those that hold names.
    """
    numbers = [column for column in columns if column not in text]
    return {
        "dtype": dict.fromkeys(text, str),
        "keep_default_na": False,
        "na_values": dict.fromkeys(numbers, _MISSING),
    }


def _holds_numbers(texts: pd.Series) -> bool:
    """Whether a column holds numbers, some of which may be missing; "nan" and "NA" alone are names."""
    numbers = pd.to_numeric(texts, errors="coerce").notna()
    return bool(numbers.any() and (numbers | texts.isin(_MISSING)).all())


def orient(
    table: pd.DataFrame, landmarks: Sequence[str] | np.ndarray | None, rows: str, path: Path
) -> pd.DataFrame:
    """Turn a table so that columns are genes, by where the landmark names are, and log what was decided.

    Args:
        table: as read.
        landmarks: names that some of the genes have; None if not known.
        rows: what the rows should be, "cells" or "locations".
        path: for the message.

    Raises:
        PerlerInputError: none of the landmarks is a row or a column name.
    """
    if landmarks is None:
        if isinstance(table.index, pd.RangeIndex):
            logger.info("%s: rows without names, so read as %s x genes", path, rows)
        else:
            logger.warning("%s: read as %s x genes; give landmark names to have that checked", path, rows)
        return table
    wanted = {str(name) for name in landmarks}
    in_columns = len(wanted.intersection(table.columns.astype(str)))
    in_rows = len(wanted.intersection(table.index.astype(str)))
    if not in_columns and not in_rows:
        raise PerlerInputError(
            f"expected some of the {len(wanted)} landmarks ({few(list(landmarks), 3)}) among the names in "
            f"{path}; found columns {few(table.columns, 3)} and rows {few(table.index, 3)}; make the names "
            "agree exactly"
        )
    turned = in_rows > in_columns
    way, names = (f"genes x {rows}", "row") if turned else (f"{rows} x genes", "column")
    most = max(in_rows, in_columns)
    logger.info("%s: read as %s, since %d of %d landmarks are %s names", path, way, most, len(wanted), names)
    return table.T if turned else table


def read_coordinates(path: Path) -> pd.DataFrame:
    """Read a table of positions: the columns x, y (and z) if there are such, else its 2 or 3 numeric columns.

    Raises:
        PerlerFileError: as :func:`read_table`; no header; not 2 or 3 numeric columns.
    """
    table = read_table(path)
    if pd.to_numeric(pd.Series(table.columns), errors="coerce").notna().all():
        raise PerlerFileError(f"expected a header row in {path}; found numbers; add names such as x, y, z")
    axes = [name for name in table.columns if str(name).lower() in ("x", "y", "z")]
    numeric = table[axes] if len(axes) > 1 else table.select_dtypes("number")
    if numeric.shape[1] not in (2, 3):
        raise PerlerFileError(
            f"expected 2 or 3 columns of coordinates in {path}; found {numeric.shape[1]} numeric ones among "
            f"{few(table.columns, 8)}; name them x, y, z or drop the others"
        )
    return numeric


def read_raw(path: Path, separator: str, **options: Any) -> pd.DataFrame:
    """Read a table without a header by ``pandas.read_csv`` (its options); empty if the file is."""
    with reading(path):
        try:
            return pd.read_csv(path, sep=separator, header=None, low_memory=False, **options)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()


@contextmanager
def reading(
    path: Path, what: str = "complete, well-formed file", also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Put what third-party readers raise at a missing or broken file into one clear sentence.

    Args:
        path: of the file.
        what: was expected there.
        also: kinds of error that a library raises beside the usual ones.

    Raises:
        PerlerFileError: in place of it.
    """
    kinds: tuple[type[Exception], ...] = (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        zlib.error,
        zipfile.BadZipFile,
        *also,
    )
    try:
        yield
    except PerlerInputError:
        raise
    except kinds as error:
        reason = " ".join(str(error).split())
        raise PerlerFileError(
            f"expected a {what} at {path}; found otherwise ({type(error).__name__}: {reason}); fetch or "
            "write it again"
        ) from error
