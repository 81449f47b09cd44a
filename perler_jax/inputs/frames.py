"""Columns of tables and of ``obs`` and ``var``: which are numbers, which may be names."""

from typing import Any

import numpy as np
import pandas as pd

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.labels import few

__all__ = ["in_memory", "is_number", "is_text", "name_columns", "numbers_of"]


def numbers_of(table: pd.DataFrame, where: str) -> np.ndarray:
    """The numbers of a table; what nullable columns lack is NaN."""
    text = [str(name) for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        raise PerlerInputError(
            f"expected numbers in {where}; found {len(text)} columns of another kind ({few(text)}); drop "
            "them, or make the column of names the index"
        )
    values = table.to_numpy()
    return values if values.dtype != object else table.to_numpy(dtype=np.float64, na_value=np.nan)


def in_memory(table: Any) -> Any:
    """``obs`` or ``var`` as a DataFrame, also of an AnnData that is read lazily."""
    return table.to_memory() if hasattr(table, "to_memory") else table


def name_columns(var: Any) -> list[str]:
    """Columns of ``var`` that may name genes: texts, more than half of them different."""
    return [
        name
        for name in map(str, var.columns)
        if is_text(var[name]) and pd.Series(np.asarray(var[name])).nunique() * 2 > len(var)
    ]


def is_text(column: Any) -> bool:
    """Whether a column holds neither numbers nor dates."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    return not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_datetime64_any_dtype(dtype)


def is_number(column: Any) -> bool:
    """Whether a column holds numbers; yes and no are none."""
    return bool(pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype))
