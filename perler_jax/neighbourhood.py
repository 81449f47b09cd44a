"""Cells that express alike are from places that lie together: a mean-field pull of neighbours.

Each cell is drawn toward the expected position of its neighbours in expression, by soft evidence

    e_nk = -|z_k - m_n|^2 / (2 sd^2),   m_n = mean over neighbours j of E[z | x_j],

and since that moves the expected positions, again, a few times. Neighbours are found among all genes, of
which the landmarks are few: this is where the others enter the mapping. Linear in cells x locations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inputs.data import CellExpression
from perler_jax.mixture import MappingParams, posterior_moments
from perler_jax.streaming import Tiles

__all__ = ["expression_neighbours", "neighbour_evidence", "neighbours_without", "pull_evidence"]

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


def pull_evidence(
    centre: Float[Array, "cells dimensions"],
    coordinates: Float[Array, "locations dimensions"],
    sd: float | Array,
) -> CellEvidence:
    """Evidence that draws each cell toward a point: as `evidence.coordinate_evidence`, inside jit.

    What is the same for all locations of a cell is left out.
    """
    precision = jnp.broadcast_to(jnp.asarray(sd, centre.dtype) ** -2.0, (len(centre), 1))
    squares = jnp.sum(coordinates**2, axis=1, keepdims=True)
    return CellEvidence(
        jnp.concatenate([precision * centre, -0.5 * precision], axis=1),
        jnp.concatenate([coordinates, squares], axis=1),
    )


@functools.partial(jax.jit, static_argnames=("n_rounds", "tiles"))
def neighbour_evidence(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    coordinates: Float[Array, "locations dimensions"],
    neighbours: Int[Array, "cells neighbours"],
    sd: float | Array,
    evidence: CellEvidence | None = None,
    *,
    n_rounds: int = 3,
    tiles: Tiles | None = None,
) -> CellEvidence:
    """The pull after some rounds, with the evidence that there was.

    Args:
        params: fitted mapping.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        coordinates: of the locations.
        neighbours: indices of the cells that each cell resembles (`expression_neighbours`).
        sd: how far a cell may be from where its neighbours are, in the unit of the coordinates.
        evidence: what else is known of each cell.
        n_rounds: how often expected positions are found anew.
        tiles: tile sizes; None chooses them.
    """
    centred = coordinates - coordinates.mean(axis=0)  # squares of large coordinates would cost digits

    def with_pull(centre: Array) -> CellEvidence:
        pull = pull_evidence(centre, centred, sd)
        return pull if evidence is None else evidence + pull

    def centre_of_neighbours(known: CellEvidence | None) -> Array:
        moments = posterior_moments(params, cells, reference, known, location_values=centred, tiles=tiles)
        assert moments.of_cells is not None
        return moments.of_cells[neighbours].mean(axis=1)

    centre = centre_of_neighbours(evidence)
    centre = jax.lax.fori_loop(1, n_rounds, lambda _, at: centre_of_neighbours(with_pull(at)), centre)
    return with_pull(centre)
