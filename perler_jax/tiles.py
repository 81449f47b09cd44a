"""How many cells and locations the kernel holds at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

__all__ = ["Tiles", "choose_tiles"]


class Tiles(NamedTuple):
    """How many cells and locations are held at once."""

    cells: int
    locations: int


# Entries of a tile. On a CPU logits and weights (2.4 MB each in float32) stay near a core: larger tiles were
# slower, whatever the number of locations, and smaller ones keep two cores waiting for each other. An
# accelerator wants few large steps.
_CPU_ELEMENTS, _ACCELERATOR_ELEMENTS = 600_000, 2**24
_LEAST_CELLS = 128
# What locations gather is added up tile by tile: many values ask for fewer, larger tiles.
_MOST_LEAST_CELLS = 256
_VECTOR = 16  # float32 numbers in the widest register: with one cell more the processor works in vain
_MOST_LOCATIONS = 65_536


def choose_tiles(n_cells: int, n_locations: int, n_gathered: int = 1) -> Tiles:
    """Tile sizes that split both axes evenly, cells into whole registers.

    Args:
        n_cells: how many there are.
        n_locations: how many there are; they are split past 65,536, which costs a second pass.
        n_gathered: values that each location gathers from the cells.
    """
    elements = _CPU_ELEMENTS if jax.default_backend() == "cpu" else _ACCELERATOR_ELEMENTS
    least = min(max(_LEAST_CELLS, n_gathered // 2), _MOST_LEAST_CELLS)
    locations = math.ceil(n_locations / math.ceil(n_locations / _MOST_LOCATIONS))
    most = max(least, elements // locations) // _VECTOR * _VECTOR
    cells = math.ceil(n_cells / math.ceil(n_cells / most))
    return Tiles(cells=min(n_cells, math.ceil(cells / _VECTOR) * _VECTOR), locations=locations)
