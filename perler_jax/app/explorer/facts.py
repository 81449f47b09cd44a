"""What tables say of genes and of locations: their columns on the page, with what they mean."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd

from perler_jax.app.explorer.page import Blobs

__all__ = ["help_text", "pack_columns"]

#: Columns that this package writes, in the order in which they are shown: label and meaning.
_KNOWN = {
    "is_landmark": ("landmark", "the gene is in the reference, and took part in the fit"),
    "score_nested": (
        "nested score",
        "agreement with the reference of a landmark that neither fit nor tuning had seen: the one to believe",
    ),
    "score_held_out": (
        "held-out score",
        "agreement with the reference of a landmark that the fit had not seen, but tuning had",
    ),
    "score_reconstruction": (
        "score in the fit",
        "agreement with the reference of a landmark that the fit had seen",
    ),
    "predicted": ("expected score", "held-out score that a gene with such signals has, with its interval"),
    "predicted_with_reference": (
        "expected, with reference",
        "the same from one more signal, which needs the reference's pattern of the gene",
    ),
    "agreement": ("agreement of sides", "are its correlations with the landmarks those of the reference?"),
    "split_half": ("split-half reliability", "do two halves of the cells give the same pattern? 1 is yes"),
    "spatial_share": ("spatial share", "share of the gene's variance over cells that its pattern explains"),
    "spatial_rank": ("spatial rank", "1 for the gene whose pattern explains most"),
    "morans_i": ("Moran's I", "how alike neighbouring locations are; 1 at most, 0 for noise"),
    "detection_rate": ("detected in", "share of the cells in which the gene was detected"),
    "effective_cells": ("effective cells", "how many cells, counted alike, speak for the location"),
}
_SAME = {"nested": "score_nested"}  # columns that repeat another
_BADGE, _REASON = "flag", "reason"


def pack_columns(table: pd.DataFrame, name: str, blobs: Blobs) -> list[dict[str, Any]]:
    """Columns of a table for the page; those that say nothing, or repeat another, are left out.

    A number with columns ``_lower`` and ``_upper`` beside it is shown with them as its range.

    Args:
        table: one row per gene or location; numbers, booleans or texts.
        name: under which they are packed.
        blobs: where to.
    """
    columns = list(map(str, table.columns))
    ends = {
        f"{each}_{end}": each for each in columns for end in ("lower", "upper") if f"{each}_{end}" in columns
    }
    records: dict[str, dict[str, Any]] = {}
    for i, column in enumerate(columns):
        packed = None if _SAME.get(column) in columns else _pack(table.iloc[:, i], f"{name}-{i}", blobs)
        if packed is not None:
            records[column] = packed
    for column, base in ends.items():
        if column in records and base in records:
            records[base][column.rsplit("_", 1)[1]] = records.pop(column)["array"]
    known = {column: place for place, column in enumerate(_KNOWN)}
    return [records[column] for column in sorted(records, key=lambda column: known.get(column, len(known)))]


def help_text(meanings: dict[str, str]) -> str:
    """HTML of a list of meanings."""
    rows = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in meanings.items())
    return f"<dl>{''.join(rows)}</dl>"


def _pack(column: pd.Series, name: str, blobs: Blobs) -> dict[str, Any] | None:
    title = str(column.name)
    label, meaning = _KNOWN.get(title, (title.removeprefix("is_").replace("_", " "), None))
    record: dict[str, Any] = {"label": label} | ({} if meaning is None else {"meaning": meaning})
    if pd.api.types.is_bool_dtype(column):
        return record | {"kind": "flag", "array": blobs.add(name, column.to_numpy(np.uint8))}
    if pd.api.types.is_numeric_dtype(column):
        values = column.astype("Float64").to_numpy(np.float32, na_value=np.nan)
        if not np.isfinite(values).any():
            return None
        number = {"kind": "number", "ascending": title.endswith("rank")}
        return record | number | {"array": blobs.add(name, values)}
    codes, distinct = pd.factorize(
        column.astype("string").fillna("").str.replace(r"\s+", " ", regex=True).to_numpy(object)
    )
    if not any(distinct):
        return None
    return record | {
        "kind": {_BADGE: "badge", _REASON: "reason"}.get(title, "text"),
        "array": blobs.add(name, codes.astype(np.uint32 if len(distinct) > 65535 else np.uint16)),
        "texts": blobs.add(f"{name}-texts", list(map(str, distinct))),
    }
