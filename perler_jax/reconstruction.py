"""Every gene at every location: streamed weighted means, gene block by gene block (Eq. 21)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.cell_weights import CellWeights
from perler_jax.refinement import Refiner
from perler_jax.streaming import Tiles

__all__ = ["fill", "gene_block_size", "reconstruct_blocks", "zscore"]

# Entries of one reconstructed block (locations x genes): 12 MB of float32.
_BLOCK_ENTRIES = 3_000_000


def gene_block_size(n_cells: int, n_locations: int, n_genes: int) -> int:
    """Genes per block: few enough for bounded memory, enough to share the distances, all blocks alike."""
    most = int(np.clip(_BLOCK_ENTRIES // max(n_cells, n_locations), 16, n_genes))
    return math.ceil(n_genes / math.ceil(n_genes / most))


def reconstruct_blocks(
    source: CellWeights,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    preprocess: Callable[[np.ndarray], np.ndarray],
    block_size: int,
    refiner: Refiner | None = None,
    tiles: Tiles | None = None,
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "locations block"]]]:
    """Reconstruct genes block by block.

    Args:
        source: how much each cell counts at each location.
        blocks: (names, raw expression (cells, block)) pairs, e.g. ``CellExpression.gene_blocks``.
        preprocess: raw block -> log2 block.
        refiner: refines the weighted means; None leaves them as they are.
        block_size: the widest block; narrower ones are padded so that one compiled program serves all.
        tiles: tile sizes; None chooses them.

    Yields:
        (names, log2 expression (locations, block)), not centred: the units of the preprocessed cells.
    """
    dtype = source.cells.dtype
    for names, raw in blocks:
        block = preprocess(raw)
        # Averaging deviations from the mean keeps float32's digits for the pattern.
        means = block.mean(axis=0, dtype=np.float64)
        deviation: np.ndarray = block - means
        carried: np.ndarray | float = 0.0
        if refiner is not None:
            deviation, carried = refiner.split(names, deviation)
        padded = np.zeros((block.shape[0], block_size), dtype)
        padded[:, : block.shape[1]] = deviation
        result = source.mean(jnp.asarray(padded), tiles=tiles)
        values = np.asarray(result)[:, : block.shape[1]] + carried  # cut on the host: nothing to compile
        if refiner is not None:
            values = refiner.smooth(values)
        yield names, (values + means).astype(dtype)


def fill(
    values: Float[np.ndarray, "locations genes"],
    blocks: Iterable[Float[np.ndarray, "locations _block"]],
    *,
    progress: bool,
) -> None:
    """Write blocks of genes into an array, one beside the other."""
    start = 0
    with tqdm(
        total=values.shape[1], desc="reconstruct", unit="gene", disable=not progress, leave=False
    ) as bar:
        for block in blocks:
            values[:, start : start + block.shape[1]] = block
            start += block.shape[1]
            bar.update(block.shape[1])


def zscore(values: Float[np.ndarray, "locations genes"]) -> Float[np.ndarray, "locations genes"]:
    """Each gene to mean 0 and standard deviation 1 over locations (population form); constant genes to 0."""
    deviation = values - values.mean(axis=0)
    spread = deviation.std(axis=0)
    return deviation / np.where(spread > 0, spread, 1.0)
