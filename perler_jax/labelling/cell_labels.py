"""Labels of cells, as users give them: a column of ``obs`` or a table by name becomes checked values."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.frames import is_number
from perler_jax.inputs.labels import few, near_misses

__all__ = ["CellLabels", "read_labels"]

logger = logging.getLogger("perler_jax")

MOST_CATEGORIES = 500
_LEAST_CELLS = 20  # with a label: fewer say nothing of how sure a transfer is


@dataclass(frozen=True, eq=False, repr=False)
class CellLabels:
    """One label of every cell.

    Attributes:
        name: of the column.
        categories: (categories,) names; None: the labels are numbers.
        codes: (cells,) index of each cell's category, -1 where it has none; None for numbers.
        numbers: (cells,) values; None for categories.
    """

    name: str
    categories: Shaped[np.ndarray, " categories"] | None = None
    codes: Int[np.ndarray, " cells"] | None = None
    numbers: Float[np.ndarray, " cells"] | None = None

    def __repr__(self) -> str:
        what = "numbers" if self.categories is None else f"{len(self.categories)} categories"
        return f"CellLabels({self.name!r}, {what})"


def read_labels(
    labels: Any, cells: Shaped[np.ndarray, " cells"], expression: CellExpression | None, kind: str
) -> list[CellLabels]:
    """The labels of the cells of a fit, in their order.

    Args:
        labels: name of a column of ``obs``, or names; a Series or DataFrame by cell name, in any order, which
            may hold more cells.
        cells: names of the cells of the fit.
        expression: of these cells, whose ``obs`` holds the columns; None where it is not at hand.
        kind: "categories", "numbers" or "auto": texts, yes and no and categories are the first.

    Raises:
        PerlerInputError: an unknown column, cells without a row, names that repeat, fewer than two categories
            or too many, numbers that are missing.
    """
    if kind not in ("auto", "categories", "numbers"):
        raise PerlerInputError(f"expected kind 'auto', 'categories' or 'numbers'; found {kind!r}")
    if isinstance(labels, pd.Series):
        labels = labels.to_frame("label" if labels.name is None else str(labels.name))
    table = _by_name(labels, cells) if isinstance(labels, pd.DataFrame) else _of_obs(labels, expression)
    if not table.shape[1]:
        raise PerlerInputError("expected at least one column of labels; found none; name one")
    return [_column(table[name], str(name), kind) for name in table.columns]


def _of_obs(labels: Any, expression: CellExpression | None) -> pd.DataFrame:
    """Columns of the cells' ``obs``, by name."""
    names = [labels] if isinstance(labels, str) else labels
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise PerlerInputError(
            f"expected the name of a column of obs, or a Series or DataFrame by cell name; found "
            f"{type(labels).__name__}; give pd.Series(labels, index=cells.obs_names)"
        )
    instead = "give the labels as a Series by cell name"
    if expression is None:
        raise PerlerInputError(
            f"expected the cells with the column {few(names)} in obs; found a fit that was loaded without "
            f"them; give transfer(..., cells=...) or load_fit(path, cells=...), or {instead}"
        )
    if expression.beside is None:
        raise PerlerInputError(
            f"expected cells with the column {few(names)} in obs; found cells that were not given as an "
            f"AnnData and have no obs; {instead}"
        )
    obs = expression.beside.obs
    unknown = np.array([name for name in names if name not in obs.columns], dtype=str)
    if len(unknown):
        known = np.array([str(name) for name in obs.columns], dtype=str)
        raise PerlerInputError(
            f"expected columns of obs of the cells; found no {few(unknown)} among {few(known) or 'none'}"
            f"{near_misses(unknown, known)}; name one of these, or {instead}"
        )
    return obs[list(names)]


def _by_name(table: pd.DataFrame, cells: np.ndarray) -> pd.DataFrame:
    """Rows of a table in the order of the cells."""
    index = pd.Index([str(name) for name in table.index])
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        raise PerlerInputError(
            f"expected each cell once in the labels; found {few(twice)} repeated; keep one row of each"
        )
    at = index.get_indexer(pd.Index(cells))
    missing = cells[at < 0]
    if len(missing):
        raise PerlerInputError(
            f"expected a label for each of the {len(cells)} cells of the fit, by name; found none for "
            f"{len(missing)} ({few(missing)}){near_misses(missing, index.to_numpy(str))}; index the labels "
            "by cell name; a cell of unknown label has a missing value (NaN) there"
        )
    return table.iloc[at]


def _column(column: pd.Series, name: str, kind: str) -> CellLabels:
    numeric = is_number(column)
    if kind == "numbers" and not numeric:
        raise PerlerInputError(
            f"expected numbers in the labels {name!r}; found {column.dtype}; leave out kind='numbers'"
        )
    if numeric and kind != "categories":
        values = column.to_numpy(np.float64, na_value=np.nan)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise PerlerInputError(
                f"expected a number for every cell in {name!r}; found {bad} missing or infinite; fit the "
                "cells that have one, or fill in the others; kind='categories' takes cells without a label"
            )
        return CellLabels(name, numbers=values)
    texts = column.astype(object).map(str, na_action="ignore")
    codes, categories = pd.factorize(texts, sort=True)
    _check_categories(name, np.asarray(codes), np.asarray(categories, dtype=str), numeric)
    without = int((codes < 0).sum())
    if without:
        logger.info("labels %r: %d of %d cells have none and take no part", name, without, len(codes))
    return CellLabels(name, np.asarray(categories, dtype=str), np.asarray(codes, np.int64))


def _check_categories(name: str, codes: np.ndarray, categories: np.ndarray, numeric: bool) -> None:
    labelled = int((codes >= 0).sum())
    if labelled < _LEAST_CELLS:
        raise PerlerInputError(
            f"expected at least {_LEAST_CELLS} cells with a label in {name!r}; found {labelled}; label more"
        )
    if len(categories) < 2:
        raise PerlerInputError(
            f"expected at least two categories in {name!r}; found only {few(categories)!r}: every location "
            "would have it; give another column"
        )
    if len(categories) > min(MOST_CATEGORIES, labelled // 2):
        instead = "they are numbers: leave out kind='categories'" if numeric else "give a coarser column"
        raise PerlerInputError(
            f"expected at most {min(MOST_CATEGORIES, labelled // 2)} categories for {labelled} cells in "
            f"{name!r}; found {len(categories)} ({few(categories)}); {instead}"
        )
