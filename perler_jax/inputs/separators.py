"""How the fields and the decimals of a table are written: found by trying, never by the ending alone.

A separator fits if every row then has as many fields as the header (or one more, as R writes row names) and
at least two. Of several that fit, the one under which more fields are numbers is meant; where two do equally
well, the table is refused.
"""

import csv
import gzip
import logging
import re
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from perler_jax.errors import PerlerFileError

__all__ = ["Punctuation", "find_punctuation"]

logger = logging.getLogger("perler_jax")

_ROWS = 64  # looked at, below the header
_FIELDS = 100_000  # likewise: a few rows of all genes are enough
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces", "|": "bars"}
_COMMON, _RARE = (",", "\t", ";"), ("|", " ")  # the rare ones count where none of the common ones fits
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|nan|na|inf|", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+[.,]\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


class Punctuation(NamedTuple):
    """What stands between fields, and between a whole number and its decimals."""

    separator: str
    decimal: str


def find_punctuation(path: Path) -> Punctuation:
    """Find out how a table is written; what is not as its ending says is logged.

    Args:
        path: of a csv, tsv or txt file, plain or gzipped.

    Raises:
        PerlerFileError: no separator fits, two fit equally well, or commas in numbers may mean two things.
        OSError, EOFError, zlib.error, UnicodeDecodeError: the file cannot be read.
    """
    usual = "," if ".csv" in path.suffixes else "\t"
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = [line.rstrip("\r\n") for line in islice(file, 1 + _ROWS) if line.strip()]
    if len(lines) < 2:
        return Punctuation(usual, ".")  # there is nothing to tell by; the reader says what is lacking
    parsed: dict[str, list[list[str]]] = {}
    for candidates in (_COMMON, _RARE):
        tried = {sep: _parsed(lines, sep) for sep in candidates}
        parsed = {sep: rows for sep, rows in tried.items() if _fits(rows)}
        if parsed:
            break
    if not parsed:
        return Punctuation(usual, ".")
    shares = {separator: _share_of_numbers(rows[1:]) for separator, rows in parsed.items()}
    best = max(shares, key=lambda separator: shares[separator])
    equal = [_NAMES[separator] for separator, share in shares.items() if share == shares[best]]
    if len(equal) > 1:
        raise PerlerFileError(
            f"expected one separator of fields in {path}; found that {' and '.join(equal)} fit equally well; "
            "write the table again with tabs, and without commas or semicolons in names"
        )
    decimal = _decimal(parsed[best][1:], path)
    if (best, decimal) != (usual, "."):
        tail = ", decimals by commas" if decimal == "," else ""
        logger.warning("%s: fields are separated by %s%s", path, _NAMES[best], tail)
    return Punctuation(best, decimal)


def _parsed(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:  # a field longer than any: the whole row, of a table that is written otherwise
        return []


def _fits(rows: list[list[str]]) -> bool:
    if len(rows) < 2:
        return False
    header, widths = len(rows[0]), {len(row) for row in rows[1:]}
    if len(widths) != 1:
        return False
    width = widths.pop()
    return width > 1 and (width == header or (width == header + 1 and header > 1))


def _fields(rows: list[list[str]]) -> list[str]:
    """The first of the fields, without the first column, which may hold names."""
    return [field.strip() for field in islice(chain.from_iterable(row[1:] for row in rows), _FIELDS)]


def _share_of_numbers(rows: list[list[str]]) -> float:
    fields = _fields(rows)
    return sum(_NUMBER.fullmatch(field) is not None for field in fields) / len(fields)


def _decimal(rows: list[list[str]], path: Path) -> str:
    """The sign before decimals: a comma only if that is all that the commas in numbers can mean."""
    fields = _fields(rows)
    numbers = [field for field in fields if _NUMBER.fullmatch(field)]
    grouped = [field for field in fields if _GROUPED.fullmatch(field)]
    commas = [number for number in numbers if "," in number]
    if not commas and not grouped:
        return "."
    points = [number for number in numbers if "." in number]
    thousands = all(_THOUSANDS.fullmatch(number) for number in commas)
    if points or grouped or thousands:
        found = f"{(commas or grouped)[0]!r}" + (f" beside {points[0]!r}" if points else "")
        raise PerlerFileError(
            f"expected numbers with one sign before decimals in {path}; found {found}, in which a comma may "
            "stand before decimals or between thousands; write the table again with points before decimals "
            "and nothing between thousands"
        )
    return ","
