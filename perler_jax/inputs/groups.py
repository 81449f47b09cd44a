"""Groups that a column of ``obs`` names: sections of the locations, batches of the cells."""

from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.beside import Beside
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few, near_misses

__all__ = ["groups_of"]

_ROWS = {"section": ("location", "reference", "sections"), "batch": ("cell", "cells", "batches")}


def groups_of(
    beside: Beside | None, key: str, what: Literal["section", "batch"], *, least: int
) -> Shaped[np.ndarray, " rows"]:
    """The group of each row, as texts.

    Args:
        beside: annotation of the rows; None where they came without ``obs``.
        key: column of ``obs``.
        what: the groups are called.
        least: rows of a group.

    Raises:
        PerlerInputError: no such column, a row without a group, one group only, or a group that is too small.
    """
    row, side, plural = _ROWS[what]
    asked = argument(f"{what}_key", key)
    if beside is None:
        raise PerlerInputError(
            f"expected columns of obs in the {side} ({asked}), as an AnnData, h5ad or zarr has; found "
            "none; give it as one of these"
        )
    columns = np.array([str(name) for name in beside.obs.columns], dtype=object)
    if key not in columns:
        raise PerlerInputError(
            f"expected a column of obs of the {side} that names {plural} ({asked}); found "
            f"{few(columns, 8) or 'no columns'}{near_misses(np.array([key], dtype=object), columns)}; give "
            "one of these"
        )
    column = beside.obs[key]
    missing = np.asarray(pd.isna(column))
    names = np.asarray(column.astype(str), dtype=object).astype(str)
    if missing.any():
        raise PerlerInputError(
            f"expected a {what} for every {row} ({asked}); found {missing.sum()} without "
            f"({few(beside.obs.index[missing])}); name their {what}, or leave them out"
        )
    found, counts = np.unique(names, return_counts=True)
    if len(found) < 2:
        raise PerlerInputError(
            f"expected two {plural} or more ({asked}); found {found[0]!r} alone; leave the argument out"
        )
    small = counts < least
    if small.any():
        told = [f"{name} ({count})" for name, count in zip(found[small], counts[small], strict=True)]
        raise PerlerInputError(
            f"expected {least} {row}s or more in every {what} ({asked}); found fewer in {small.sum()} of "
            f"{len(found)} {plural}: {few(told)}; name another column, or leave these {row}s out"
        )
    return names
