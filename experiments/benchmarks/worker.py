"""One case in a process of its own: the case as JSON in, its figures as JSON on the last line out."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from typing import Any

import jax

__all__ = ["measure"]


def measure(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of a case, by the module that its benchmark names."""
    if case.get("dtype") == "float64":
        jax.config.update("jax_enable_x64", True)
    module = importlib.import_module(f"experiments.benchmarks.{case['benchmark']}")
    return [dataclasses.asdict(row) for row in module.measure(case)]


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
