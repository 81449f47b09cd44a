"""The kernel's own exponential, sums and maxima against XLA's, in one process, in turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from experiments.benchmarks.kernel import cases
from experiments.benchmarks.measure import Row, interleaved, ratio_rows, seconds_rows
from experiments.benchmarks.problem import sides
from perler_jax import tile_arithmetic
from perler_jax.mixture import expected_statistics, standardise
from perler_jax.weights import WeightParams, weighted_means

__all__ = ["cases", "measure"]

_POINTS = 12  # a patch of tuning


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds of an EM pass, of twelve points of alpha and beta, of derivatives, both ways; their ratio."""
    params, x, r = sides(case["cells"], case["locations"], case["metagenes"], case["dtype"])
    near, mapped = standardise(params, x, r)
    alpha, beta = (jnp.linspace(low, high, _POINTS, dtype=x.dtype) for low, high in ((0.01, 0.1), (0.2, 3.0)))

    def means(points: WeightParams) -> jax.Array:
        return weighted_means.__wrapped__(points, near, mapped, None, x[:, :1])

    def derivatives(points: WeightParams) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(means, (points,), (points,))

    tasks: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "EM pass": (expected_statistics.__wrapped__, (params, x, r)),
        f"{_POINTS} points": (means, (WeightParams(alpha, beta),)),
        "derivatives": (derivatives, (WeightParams(alpha[:2], beta[:2]),)),
    }
    rows = []
    for name, (function, inputs) in tasks.items():
        own = jax.jit(function).lower(*inputs).compile()
        jax.clear_caches()  # what was traced is not traced again
        with mock.patch.object(tile_arithmetic, "_on_cpu", return_value=False):
            of_xla = jax.jit(function).lower(*inputs).compile()
        works = {"own": partial(own, *inputs), "XLA": partial(of_xla, *inputs)}
        found = interleaved(works, case["repeats"])
        rows += [row for each, timing in found.items() for row in seconds_rows(name, timing, each)]
        rows += ratio_rows(f"{name}, own / XLA", found["own"], found["XLA"])
    return rows
