"""Every gene at every location: streamed weighted means, gene block by gene block (Eq. 21)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perler_jax.evidence import CellEvidence
from perler_jax.refinement import Refiner
from perler_jax.streaming import Tiles
from perler_jax.weights import WeightParams, weighted_means

__all__ = ["gene_block_size", "reconstruct_blocks", "zscore"]

# Entries of one reconstructed block (locations x genes): 12 MB of float32.
_BLOCK_ENTRIES = 3_000_000


def gene_block_size(n_cells: int, n_locations: int, n_genes: int) -> int:
    """Genes per block: few enough for bounded memory, enough to share the distances."""
    return int(np.clip(_BLOCK_ENTRIES // max(n_cells, n_locations), 16, n_genes))


def reconstruct_blocks(
    weights: WeightParams,
    cells: Float[Array, "cells metagenes"],
    locations: Float[Array, "locations metagenes"],
    log_location_weights: Float[Array, " locations"] | None,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    preprocess: Callable[[np.ndarray], np.ndarray],
    block_size: int,
    evidence: CellEvidence | None = None,
    votes: Float[Array, " cells"] | None = None,
    refiner: Refiner | None = None,
    tiles: Tiles | None = None,
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "locations block"]]]:
    """Reconstruct genes block by block.

    Args:
        weights: one (alpha, beta) point.
        cells: cells in `distance_space`.
        locations: locations in `distance_space`.
        log_location_weights: ln pi; None is uniform.
        blocks: (names, raw expression (cells, block)) pairs, e.g. ``CellExpression.gene_blocks``.
        preprocess: raw block -> log2 block.
        evidence: what else is known of where each cell is from.
        votes: how much each cell counts; None counts all alike.
        refiner: refines the weighted means; None leaves them as they are.
        block_size: the widest block; narrower ones are padded so that one compiled program serves all.
        tiles: tile sizes; None chooses them.

    Yields:
        (names, log2 expression (locations, block)), not centred: the units of the preprocessed cells.
    """
    for names, raw in blocks:
        block = preprocess(raw)
        # Averaging deviations from the mean keeps float32's digits for the pattern.
        means = block.mean(axis=0, dtype=np.float64)
        deviation: np.ndarray = block - means
        carried: np.ndarray | float = 0.0
        if refiner is not None:
            deviation, carried = refiner.split(names, deviation)
        padded = np.zeros((block.shape[0], block_size), cells.dtype)
        padded[:, : block.shape[1]] = deviation
        result = weighted_means(
            *(weights, cells, locations, log_location_weights, jnp.asarray(padded)),
            evidence=evidence,
            votes=votes,
            tiles=tiles,
        )
        values = np.asarray(result[0, :, : block.shape[1]]) + carried
        if refiner is not None:
            values = refiner.smooth(values)
        yield names, (values + means).astype(cells.dtype)


def zscore(values: Float[np.ndarray, "locations genes"]) -> Float[np.ndarray, "locations genes"]:
    """Each gene to mean 0 and standard deviation 1 over locations (population form); constant genes to 0."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)
