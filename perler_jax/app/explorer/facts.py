"""What tables say of genes and of locations: their columns on the page, with what they mean."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.app.explorer.page import Blobs
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.annotated import layer_names
from perler_jax.pl.colours import colouring_of, palette_of

__all__ = ["colour_categories", "help_text", "pack_columns", "with_labels"]

#: Columns that this package writes, in the order in which they are shown: label and meaning.
_KNOWN = {
    "is_landmark": ("landmark", "the gene has a measured map, which took part in the fit"),
    "score_nested": (
        "agrees with its map",
        "correlation of the landmark's map with its prediction without that map, from -1 to 1: the one to "
        "believe (nested score)",
    ),
    "score_held_out": (
        "the same, shares seen",
        "as before, but the map took part in the choice of how to predict (held-out score)",
    ),
    "score_reconstruction": (
        "the same, map seen",
        "as before, but the map took part in the fit: too good to be believed (reconstruction score)",
    ),
    "predicted": (
        "expected agreement",
        "how well the prediction of a gene with such signals agrees with its true map, with a range",
    ),
    "predicted_with_reference": (
        "expected, by its map too",
        "the same from one more signal, which needs the measured map of the gene",
    ),
    "agreement": (
        "cells agree with map",
        "does the gene go along with the landmarks in the cells as it does on the map?",
    ),
    "split_half": ("repeatable", "do two halves of the cells give the same pattern? 1 is yes"),
    "spatial_share": (
        "told by place",
        "share of the gene's variation between cells that its pattern explains",
    ),
    "spatial_rank": ("spatial rank", "1 for the gene whose pattern explains most"),
    "agreement_predicted": (
        "prediction agrees with cells",
        "does the predicted pattern go along with the landmarks' maps as the gene does in the cells?",
    ),
    "regression_agreement": (
        "two ways agree",
        "does a weighted mean of cells give the same pattern as a regression on landmarks?",
    ),
    "morans_i": ("smoothness", "how alike neighbouring locations are; 1 at most, 0 for noise (Moran's I)"),
    "detection_rate": ("detected in", "share of the cells in which the gene was detected"),
    "effective_cells": ("cells behind it", "how many cells, counted alike, speak for the location"),
}
_SAME = {"nested": "score_nested"}  # columns that repeat another
_LATER = {*_KNOWN} - {
    "is_landmark",
    "score_nested",
    "predicted",
    "split_half",
    "detection_rate",
    "effective_cells",
}
_BADGE, _REASON = "flag", "reason"
_MOST_COLOURS = 60


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


def colour_categories(records: list[dict[str, Any]], result: AnnData) -> None:
    """Give the columns of ``obs`` that hold categories a colour for each, by its text.

    Args:
        records: of `pack_columns`, changed in place; one with too many categories gets none.
        result: with scanpy's colours in ``uns``, maybe.
    """
    for record in records:
        if record["kind"] == "flag":
            record["colours"] = {"no": "#d5d9da", "yes": "#0072B2"}
        elif record["kind"] == "text":
            found = colouring_of(result, record["name"], None)
            if found.categories is not None and len(found.categories) <= _MOST_COLOURS:
                shades = palette_of(result, found, None)
                texts = (" ".join(str(each).split()) for each in found.categories)
                record["colours"] = dict(zip(texts, shades, strict=True))


def with_labels(result: AnnData, labels: AnnData) -> AnnData:
    """The result with the columns of ``obs`` of another one of the same locations, and its colours.

    Args:
        result: locations x genes.
        labels: of `PerlerFit.transfer`.

    Raises:
        PerlerInputError: other locations.
    """
    if list(map(str, result.obs_names)) != list(map(str, labels.obs_names)):
        raise PerlerInputError(
            f"expected labels of the {result.n_obs} locations of the result, in their order; found "
            f"{labels.n_obs} of others; transfer them with the fit that made the result"
        )
    new = labels.obs[[name for name in labels.obs.columns if name not in result.obs.columns]]
    found = AnnData(result.X, obs=pd.concat([result.obs, new.set_axis(result.obs_names, axis=0)], axis=1))
    found.var, found.obsm["spatial"] = result.var, result.obsm["spatial"]
    found.uns.update(
        {name: labels.uns[name] for name in labels.uns if name.endswith("_colors")} | dict(result.uns)
    )
    for name in layer_names(result):
        found.layers[name] = result.layers[name]
    return found


def help_text(meanings: dict[str, str]) -> str:
    """HTML of a list of meanings."""
    rows = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in meanings.items())
    return f"<dl>{''.join(rows)}</dl>"


def _pack(column: pd.Series, name: str, blobs: Blobs) -> dict[str, Any] | None:
    title = str(column.name)
    label, meaning = _KNOWN.get(title, (title.removeprefix("is_").replace("_", " "), None))
    record: dict[str, Any] = {"label": label, "name": title, "first": title not in _LATER} | (
        {} if meaning is None else {"meaning": meaning}
    )
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
