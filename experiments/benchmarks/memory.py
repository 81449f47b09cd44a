"""Peak resident memory of one pass above its inputs, at sizes whose cells x locations fit nowhere."""

from __future__ import annotations

from typing import Any

import jax

from experiments.benchmarks.measure import Row, peak_memory, timed
from experiments.benchmarks.problem import sides
from perler_jax.mixture import expected_statistics

__all__ = ["cases", "measure"]


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes, smallest first."""
    return [{**size, "dtype": "float32"} for size in config["sizes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """GB above the inputs, with compilation, of one whole EM pass; GB of the array that is not held."""
    params, x, r = jax.block_until_ready(
        sides(case["cells"], case["locations"], case["metagenes"], case["dtype"])
    )
    rows: list[Row] = []
    with peak_memory() as memory, timed("em_pass", rows):
        jax.block_until_ready(expected_statistics(params, x, r))
    gamma = case["cells"] * case["locations"] * x.dtype.itemsize / 1e9
    return [
        *rows,
        Row("em_pass peak above inputs", memory.above, "GB"),
        Row("inputs and program", memory.before, "GB"),
        Row("cells x locations, never held", gamma, "GB"),
    ]
