"""The kernel against its floors."""

from __future__ import annotations

import itertools
from typing import Any

from experiments.benchmarks.floor import kernel_and_floors
from experiments.benchmarks.measure import Row, ratio_rows, seconds_rows
from experiments.benchmarks.problem import sides

__all__ = ["cases", "measure"]


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every size in every precision."""
    return [
        {**size, "dtype": dtype, "repeats": config["repeats"]}
        for size, dtype in itertools.product(config["sizes"], config["dtypes"])
    ]


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds of all three, and the pass over each floor."""
    params, x, r = sides(case["cells"], case["locations"], case["metagenes"], case["dtype"])
    found = kernel_and_floors(params, x, r, case["repeats"])
    rows = [row for name, timing in found.items() for row in seconds_rows("seconds", timing, name)]
    for floor in ("floor", "tiled_floor"):
        rows += ratio_rows(f"em_pass / {floor}", found["em_pass"], found[floor])
    return rows
