"""Every gene at every location: streamed predictions, gene block by gene block (Eq. 21)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.inputs.storage import dense_float
from perler_jax.prediction.predictor import Predictor
from perler_jax.streaming import Tiles

__all__ = ["fill", "gene_block_size", "reconstruct_blocks", "zscore"]

# A block of genes shares one pass over the distances: the wider the cheaper, up to a width where the products
# take all the time (at 100,000 cells a gene of 240 costs a fifth of one of 30). 80 MB of float32 at most.
_BLOCK_ENTRIES, _MOST_GENES = 20_000_000, 512
_FLOAT64_ENTRIES = 2_000_000  # of a block, preprocessed at a time


def gene_block_size(n_cells: int, n_locations: int, n_genes: int, copies: int = 1) -> int:
    """Genes per block: few enough for bounded memory, enough to share the distances, all blocks alike.

    Args:
        n_cells: how many there are.
        n_locations: how many there are.
        n_genes: of all blocks together.
        copies: of a block that are held side by side.
    """
    fitting = _BLOCK_ENTRIES // (copies * max(n_cells, n_locations))
    most = min(max(fitting, 16), _MOST_GENES, n_genes)
    return math.ceil(n_genes / math.ceil(n_genes / most))


def reconstruct_blocks(
    predictor: Predictor,
    blocks: Iterable[tuple[np.ndarray, Any]],
    *,
    preprocess: Callable[[Any], Any],
    block_size: int,
    tiles: Tiles | None = None,
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "locations block"]]]:
    """Reconstruct genes block by block.

    Args:
        predictor: predicts centred expression.
        blocks: (names, raw expression (cells, block)) pairs, e.g. ``CellExpression.gene_blocks``, dense or
            CSC.
        preprocess: raw block -> log2 block, of the same layout.
        block_size: the widest block; narrower ones are padded so that one compiled program serves all.
        tiles: tile sizes; None chooses them.

    Yields:
        (names, log2 expression (locations, block)), not centred: the units of the preprocessed cells.
    """
    dtype, (n_cells, n_locations) = predictor.dtype, predictor.shape
    at_once = max(1, _FLOAT64_ENTRIES // n_cells)
    for names, raw in blocks:
        means = np.empty(len(names))
        carried = np.zeros((n_locations, len(names)), dtype)
        padded = np.zeros((n_cells, block_size), dtype)
        for start in range(0, len(names), at_once):
            some = slice(start, min(start + at_once, len(names)))
            values = dense_float(preprocess(raw[:, some]))
            # Averaging deviations from the mean keeps float32's digits for the pattern.
            means[some] = values.mean(axis=0, dtype=np.float64)
            deviation: np.ndarray = values - means[some]
            carried[:, some] = predictor.carried(names[some], deviation)
            padded[:, some] = deviation
        del raw
        # Cut on the host: nothing to compile.
        result = predictor.total(padded, tiles=tiles)[:, : len(names)] + carried
        yield names, (predictor.polish(result) + means).astype(dtype)


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
