"""Neighbours of cells in expression: cells that express alike are from places that lie together.

They are found among all genes, of which the landmarks are few: this is where the others enter a prediction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.data import CellExpression

__all__ = ["expression_neighbours", "neighbours_without"]

_LEAST_GENES = 100
_BLOCK_ENTRIES = 3_000_000


def expression_neighbours(
    expression: Float[np.ndarray, "cells genes"], *, n_neighbours: int = 10, n_components: int = 20
) -> Int[np.ndarray, "cells neighbours"]:
    """Nearest cells by the leading principal components of log expression.

    Args:
        expression: log expression; leave out a gene that is to be predicted.
        n_neighbours: of each cell.
        n_components: principal components.

    Raises:
        PerlerInputError: on fewer cells than neighbours.
    """
    n_cells = len(expression)
    if not 1 <= n_neighbours < n_cells:
        raise PerlerInputError(
            f"expected 1 to {n_cells - 1} neighbours of {n_cells} cells, found {n_neighbours}"
        )
    centred = expression - expression.mean(axis=0)
    # Through the smaller of the two Gram matrices: cells or genes may be many.
    if n_cells < expression.shape[1]:
        values, left = np.linalg.eigh(centred @ centred.T)
        scores = left[:, ::-1][:, :n_components] * np.sqrt(np.maximum(values[::-1][:n_components], 0.0))
    else:
        scores = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_components]
    return cKDTree(scores).query(scores, k=n_neighbours + 1)[1][:, 1:]


def neighbours_without(
    expression: CellExpression,
    landmarks: Shaped[np.ndarray, " landmarks"],
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    n_genes: int = 2000,
    n_neighbours: int = 10,
) -> Int[np.ndarray, "cells neighbours"] | None:
    """Neighbours by the most variable genes that are no landmark: no held-out landmark has a say in them.

    Args:
        expression: of the cells.
        landmarks: genes to leave out.
        preprocess: raw block -> log block.
        n_genes: how many of the most variable genes to use.
        n_neighbours: of each cell.

    Returns:
        None where there are too few cells or other genes to tell neighbours by.
    """
    others = expression.genes[~np.isin(expression.genes, landmarks)]
    if len(others) < _LEAST_GENES or expression.n_cells <= 2 * n_neighbours:
        return None
    size = max(1, _BLOCK_ENTRIES // expression.n_cells)
    spread = np.concatenate(
        [preprocess(raw).var(axis=0) for _, raw in expression.gene_blocks(list(others), size)]
    )
    chosen = others[np.sort(np.argsort(spread)[::-1][:n_genes])]
    values = np.empty((expression.n_cells, len(chosen)), np.float32)
    start = 0
    for names, raw in expression.gene_blocks(list(chosen), size):
        values[:, start : start + len(names)] = preprocess(raw)
        start += len(names)
    return expression_neighbours(values, n_neighbours=n_neighbours)
