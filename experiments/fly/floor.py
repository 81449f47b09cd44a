"""One EM pass against the least it could cost: two bare matrix products and one exp of the same sizes."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from perler_jax import PerlerFit
from perler_jax.mixture import expected_statistics

__all__ = ["kernel_over_floor"]


@jax.jit
def _product(x: jax.Array, r: jax.Array) -> jax.Array:
    return x @ r.T


@jax.jit
def _gather(gamma: jax.Array, r: jax.Array) -> jax.Array:
    return gamma @ r


_exp = jax.jit(jnp.exp)


def kernel_over_floor(fit: PerlerFit, repeats: int) -> dict[str, float]:
    """Median seconds of both, taken in turn in one process, and the median of their ratios."""
    x, r = jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes)
    small = _product(x, r) * 1e-6  # exp of moderate numbers

    def floor() -> None:
        jax.block_until_ready((_product(x, r), _exp(small), _gather(small, r)))

    def em_pass() -> None:
        jax.block_until_ready(expected_statistics(fit.em.params, x, r))

    times: dict[str, list[float]] = {"em_pass": [], "floor": []}
    for repeat in range(repeats + 2):  # the first two compile and warm up
        for name, work in (("em_pass", em_pass), ("floor", floor)):
            start = time.perf_counter()
            work()
            if repeat >= 2:
                times[name].append(time.perf_counter() - start)
    ratios = np.array(times["em_pass"]) / np.array(times["floor"])
    return {
        "em_pass_seconds": float(np.median(times["em_pass"])),
        "floor_seconds": float(np.median(times["floor"])),
        "ratio": float(np.median(ratios)),
    }
