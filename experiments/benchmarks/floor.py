"""One EM pass against the least it could cost: two bare matrix products and one exp of the same sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import Timing, interleaved
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.tiles import choose_tiles

__all__ = ["bare_floor", "kernel_and_floors", "kernel_over_floor", "tiled_floor"]

# Entries that the bare floor holds at once: far beyond any cache, as whole arrays are, and yet bounded.
_SLAB = 2**27


@jax.jit
def _product(x: jax.Array, r: jax.Array) -> jax.Array:
    return x @ r.T


@jax.jit
def _gather(gamma: jax.Array, r: jax.Array) -> jax.Array:
    return gamma @ r


_exp = jax.jit(jnp.exp)


def bare_floor(x: jax.Array, r: jax.Array) -> Callable[[], Any]:
    """Product, exp, product: each on its own, its result written out, as plain array code has them."""
    slabs = -(-len(x) * len(r) // _SLAB)
    cut = -(-len(x) // slabs)
    parts = [x[start : start + cut] for start in range(0, len(x), cut)]
    small = _product(parts[0], r) * 1e-6  # exp of moderate numbers

    def work() -> list[jax.Array]:
        gathered = []
        for part in parts:
            _product(part, r).block_until_ready()
            _exp(small[: len(part)]).block_until_ready()
            gathered.append(_gather(small[: len(part)], r).block_until_ready())
        return gathered

    return work


def tiled_floor(x: jax.Array, r: jax.Array) -> Callable[[], Any]:
    """The same three in the kernel's own tiles, one after the other in one program: the stricter floor."""
    tile = choose_tiles(len(x), len(r)).cells
    whole = len(x) // tile

    @jax.jit
    def work(x: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(part: jax.Array) -> jax.Array:
            return jnp.exp((part @ r.T) * 1e-6) @ r

        rest = x[whole * tile :]
        return jax.lax.map(one, x[: whole * tile].reshape(whole, tile, -1)), one(rest)

    return lambda: work(x, r)


def kernel_and_floors(
    params: MappingParams, x: jax.Array, r: jax.Array, repeats: int, *, strict: bool = True
) -> dict[str, Timing]:
    """Timings of "em_pass" and "floor", and of "tiled_floor" where asked, in turn in one process."""
    works: dict[str, Callable[[], Any]] = {
        "em_pass": lambda: expected_statistics(params, x, r),
        "floor": bare_floor(x, r),
    }
    if strict:
        works["tiled_floor"] = tiled_floor(x, r)
    return interleaved(works, repeats)


def kernel_over_floor(params: MappingParams, x: jax.Array, r: jax.Array, repeats: int) -> dict[str, float]:
    """Median wall seconds of both, and the median of the ratios of neighbouring repeats."""
    found = kernel_and_floors(params, x, r, repeats, strict=False)
    em_pass, floor = found["em_pass"].wall, found["floor"].wall
    return {
        "em_pass_seconds": float(np.median(em_pass)),
        "floor_seconds": float(np.median(floor)),
        "ratio": float(np.median(em_pass / floor)),
    }
