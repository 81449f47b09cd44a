"""Batches of the cells (donors, runs): where they are named, and the preprocessing that takes them off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.alignment import FEWEST_CELLS, align_batches
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.groups import groups_of
from perler_jax.inputs.interface import argument
from perler_jax.preprocessing import Preprocessing

__all__ = ["batches_of", "with_batches"]

_LANDMARKS_AT_ONCE = 128


def batches_of(cells: CellExpression, key: str) -> Shaped[np.ndarray, " cells"]:
    """The batch of each cell, as texts.

    Args:
        cells: with annotation.
        key: column of their ``obs``.

    Raises:
        PerlerInputError: no such column, a cell without a batch, one batch only, one of too few cells, or
            binary cells, which have no levels.
    """
    if cells.scale == "binary":
        asked = argument("batch_key", key)
        raise PerlerInputError(
            f"expected cells of counts or logarithms where batches are aligned ({asked}); found binary ones; "
            "leave it out"
        )
    return groups_of(cells.beside, key, "batch", least=FEWEST_CELLS)


def with_batches(
    preprocessing: Preprocessing,
    cells: CellExpression,
    landmarks: Shaped[np.ndarray, " landmarks"],
    batches: Shaped[np.ndarray, " cells"],
    key: str,
) -> Preprocessing:
    """The same, and batches are brought to one level, see `perler_jax.inputs.alignment`.

    Args:
        preprocessing: of the cells, without batches.
        cells: expression.
        landmarks: genes from which it is learned how batches differ.
        batches: (cells,) name of the batch of each.
        key: column that names them.
    """
    values = np.asarray(cells.dense(landmarks), np.float64)
    for start in range(0, len(landmarks), _LANDMARKS_AT_ONCE):
        some = slice(start, start + _LANDMARKS_AT_ONCE)
        values[:, some] = preprocessing.apply(values[:, some])
    return replace(preprocessing, alignment=align_batches(values, batches, key))
