"""How much memory and time a job will take, and tile sizes that keep it within a budget."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perler_jax.errors import PerlerInputError
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.reconstruction import gene_block_size
from perler_jax.tiles import Tiles, choose_tiles

__all__ = ["WorkPlan", "parse_memory", "plan_work"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
# Arrays of a tile's size that live at once in the dearest stage: logits, weights and their derivatives, for
# the several points of a tuning pass.
_TILES_ALIVE = 12
_LEAST_TILE = 4096
_GENE_BYTES = 32  # per cell and gene of a block: raw, log, deviation in float64, twice the block in float32
# What the stages cost in passes over all data, of one fold where there are folds: between the fly's (one of
# 84 landmarks left out) and those of ten folds of 1020. And seconds of compilation.
_EM_PASSES, _FOLD_PASSES, _TUNING_PASSES, _COMPILATION = 16, 10, 10, 8.0
_PROBE_TILES = 4  # one alone does not keep all cores at work


@dataclasses.dataclass(frozen=True)
class WorkPlan:
    """What a job is expected to take.

    Attributes:
        tiles: cells and locations held at once; None leaves the choice to the kernel.
        gene_block: genes averaged at once.
        peak_bytes: of memory beyond the inputs.
        seconds: of wall time, all stages.
    """

    tiles: Tiles | None
    gene_block: int
    peak_bytes: float
    seconds: float

    def __str__(self) -> str:
        return f"about {_duration(self.seconds)} and {self.peak_bytes / 1e9:.2g} GB beyond the inputs"


def parse_memory(memory: Any) -> int:
    """Bytes of a budget such as "1GB", "500 MB" or a number of bytes.

    Raises:
        PerlerInputError: on anything else, or less than 32 MB.
    """
    text = str(memory).strip().upper()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", text)
    if match is None:
        raise PerlerInputError(f"expected a memory budget such as '1GB', found {memory!r}")
    size = int(float(match[1]) * _UNITS[match[2]])
    if size < 32 * 10**6:
        raise PerlerInputError(f"expected a memory budget of at least 32 MB, found {memory!r}")
    return size


def plan_work(
    *,
    n_cells: int,
    n_locations: int,
    n_metagenes: int,
    n_genes: int,
    n_folds: int,
    memory: Any = None,
    dtype: Any = np.float32,
) -> WorkPlan:
    """Tile sizes within a budget, and an estimate from one small pass that is timed here.

    Args:
        n_cells: dissociated cells.
        n_locations: locations of the reference.
        n_metagenes: dimensions of the shared space.
        n_genes: to reconstruct.
        n_folds: held-out fits; 0 if nothing is tuned.
        memory: budget for what is beyond the inputs, e.g. "1GB"; None takes the tiles that are fastest.
        dtype: of the computation.

    Raises:
        PerlerInputError: on a budget that even the smallest tiles would break.
    """
    item = np.dtype(dtype).itemsize
    both_sides = (n_cells + n_locations) * n_metagenes * item
    fixed = 4 * both_sides + n_folds * n_metagenes * 6 * item
    tiles = choose_tiles(n_cells, n_locations)
    gene_block = gene_block_size(n_cells, n_locations, max(n_genes, 1))
    per_gene = _GENE_BYTES * n_cells + 3 * item * n_locations
    if memory is not None:
        budget = parse_memory(memory)
        free = budget - fixed
        elements = int(free / 2 / (_TILES_ALIVE * item))
        if elements < _LEAST_TILE:
            raise PerlerInputError(
                f"expected a memory budget of at least {(fixed + 32e6) / 1e6:.0f} MB for {n_cells} cells and "
                f"{n_locations} locations in {n_metagenes} metagenes, found {memory!r}"
            )
        if elements < tiles.cells * tiles.locations:
            tiles = _smaller(n_cells, n_locations, elements)
        gene_block = int(np.clip(free / 2 // per_gene, 1, gene_block))
    tile_bytes = tiles.cells * tiles.locations * item * _TILES_ALIVE
    block_bytes = gene_block * per_gene
    per_pair = _seconds_per_pair(tiles, n_metagenes, dtype)
    passes = _EM_PASSES + n_folds * (_FOLD_PASSES + _TUNING_PASSES)
    # A pass is about two products of n_metagenes columns; every block of genes computes the distances again.
    genes_cost = n_genes / (2 * n_metagenes) + n_genes / (2 * gene_block)
    seconds = _COMPILATION + per_pair * n_cells * n_locations * (passes + genes_cost)
    return WorkPlan(tiles, gene_block, float(fixed + max(tile_bytes, block_bytes)), seconds)


def _smaller(n_cells: int, n_locations: int, elements: int) -> Tiles:
    """Tiles of at most so many entries: first fewer cells, then fewer locations."""
    locations = min(n_locations, 16_384, max(64, elements // 16))
    count = -(-n_locations // locations)
    locations = -(-n_locations // count)
    return Tiles(cells=max(1, min(n_cells, elements // locations)), locations=locations)


def _seconds_per_pair(tiles: Tiles, n_metagenes: int, dtype: Any) -> float:
    """Seconds of one EM pass per cell and location, by running it on a few tiles."""
    rng = np.random.default_rng(0)
    cells, locations = (
        jnp.asarray(rng.normal(size=(n, n_metagenes)), dtype)
        for n in (_PROBE_TILES * tiles.cells, min(tiles.locations, 4096))
    )
    ones = jnp.ones(n_metagenes, dtype)
    params = MappingParams(ones, 0 * ones, ones)
    elapsed = []
    for _ in range(4):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready(expected_statistics(params, cells, locations))
        elapsed.append(time.perf_counter() - start)
    return min(elapsed[1:]) / (len(cells) * len(locations))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
