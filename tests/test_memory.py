"""Peak memory, from the compiler's own account: a few tiles, however many cells and locations there are."""

import jax
import jax.numpy as jnp
import pytest

from perler_jax.density import log_density
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.tiles import choose_tiles
from perler_jax.weights import WeightParams, weight_moments

METAGENES = 8


def scratch_bytes(function, *shapes):
    """Memory beyond inputs and outputs that the compiled program asks for."""
    arguments = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=_is_shape
    )
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def _is_shape(value):
    return isinstance(value, tuple) and all(isinstance(each, int) for each in value)


def e_step(a, b, sigma, cells, reference):
    return expected_statistics(MappingParams(a, b, sigma), cells, reference)


def gradient(a, b, sigma, cells, reference):
    def total(params):
        return log_density(params, cells, reference).sum()

    return jax.grad(total)(MappingParams(a, b, sigma))


def tuning(alpha, cells, locations, values):
    def total(at):
        found = weight_moments(WeightParams(at, at), cells, locations, None, cell_values=values)
        return jnp.sum(found.of_locations**2)

    return jax.value_and_grad(total)(alpha)


def shapes(function, n_cells, n_locations):
    sides = (n_cells, METAGENES), (n_locations, METAGENES)
    if function is tuning:
        return (4,), *sides, (n_cells, 3)
    return (METAGENES,), (METAGENES,), (METAGENES,), *sides


@pytest.mark.parametrize("function", [e_step, gradient, tuning])
@pytest.mark.parametrize("n_locations", [3000, 40_000], ids="{} locations".format)
def test_memory_does_not_grow_with_cells_times_locations(function, n_locations):
    small, large = (scratch_bytes(function, *shapes(function, n, n_locations)) for n in (4000, 16_000))
    tiles = choose_tiles(16_000, n_locations)
    tile = 4 * tiles.cells * tiles.locations
    padded = 4 * 16_000 * 64  # what is kept per cell
    assert large < 12 * tile + padded + 4 * n_locations * 256
    assert large < 0.25 * 4 * 16_000 * n_locations
    assert large - small < 0.1 * 4 * (16_000 - 4000) * n_locations
