"""What had to be reached, beside what was: the table of the README, made from the figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

__all__ = ["TARGETS", "Target", "markdown"]


@dataclass(frozen=True)
class Target:
    """A figure with the interval it must lie in.

    Attributes:
        label: for people.
        quantity: in the table; ``{clock}`` stands for "wall" and "cpu", which make a column each.
        where: columns of the table and their values.
        low, high: the interval; infinite: only reported.
        unit: of the figure.
    """

    label: str
    quantity: str
    where: dict[str, Any] = field(default_factory=dict)
    low: float = 0.0
    high: float = float("inf")
    unit: str = ""

    @property
    def wanted(self) -> str:
        """The interval in words."""
        if self.high == float("inf"):
            return "reported"
        return (
            f"<= {self.high:g}{self.unit}" if self.low == 0 else f"{self.low:g} to {self.high:g}{self.unit}"
        )


_FLY = {"benchmark": "kernel", "cells": 1297}
_LARGE = {"benchmark": "kernel", "cells": 20000}
_BARE, _TILED = "em_pass / floor {clock}", "em_pass / tiled_floor {clock}"
_LARGEST = {"benchmark": "largest"}
_MAPPING = {"benchmark": "mapping"}

TARGETS = (
    Target("EM pass over its floor, fly size, float32", _BARE, _FLY | {"dtype": "float32"}, high=1.5),
    Target("the same, float64", _BARE, _FLY | {"dtype": "float64"}, high=1.5),
    Target("the same over a floor in tiles, float32", _TILED, _FLY | {"dtype": "float32"}),
    Target("EM pass over its floor, 20k x 20k x 60, float32", _BARE, _LARGE | {"dtype": "float32"}, high=2),
    Target("the same, float64", _BARE, _LARGE | {"dtype": "float64"}, high=2),
    Target("the same over a floor in tiles, float32", _TILED, _LARGE | {"dtype": "float32"}),
    Target(
        "growth of time with cells x locations, exponent",
        "exponent of cells x locations {clock}",
        low=0.95,
        high=1.05,
    ),
    Target("whole fly job", "total {clock}", {"benchmark": "job"}, high=30, unit=" s"),
    Target("the same from compiled programs", "total compiled {clock}", {"benchmark": "job"}, unit=" s"),
    Target(
        "one pass, 200k cells x 50k locations x 50 metagenes, peak above inputs",
        "em_pass peak above inputs",
        {"benchmark": "memory", "cells": 200000, "locations": 50000},
        high=1,
        unit=" GB",
    ),
    Target(
        "the same, time",
        "em_pass {clock}",
        {"benchmark": "memory", "locations": 50000, "cells": 200000},
        unit=" s",
    ),
    Target(
        "20,000 genes of 100k sparse cells to a store, resumed after a kill, peak resident",
        "reconstruct peak resident",
        {"benchmark": "store"},
        high=2,
        unit=" GB",
    ),
    Target("the same, time of what was left", "reconstruct {clock}", {"benchmark": "store"}, unit=" s"),
    Target(
        "194,027 cells x 1549 locations x 1020 landmarks, ten folds", "total {clock}", _LARGEST, unit=" s"
    ),
    Target("the same, peak resident", "peak resident", _LARGEST, unit=" GB"),
    Target("sparse mapping of 100k cells x 20k locations", "mapping {clock}", _MAPPING, high=180, unit=" s"),
    Target("the same, peak resident", "mapping peak resident", _MAPPING, high=2, unit=" GB"),
    Target("labels of 100k cells at 20k locations", "transfer {clock}", _MAPPING, high=180, unit=" s"),
    Target("the same, peak resident", "transfer peak resident", _MAPPING, high=2, unit=" GB"),
)


def markdown(table: pd.DataFrame, targets: tuple[Target, ...] = TARGETS) -> str:
    """One row per target that was measured; several measurements of one give their median."""
    lines = ["| figure | wall | CPU | wanted |", "|---|---|---|---|"]
    for target in targets:
        values = [_find(table, target, clock) for clock in ("wall", "cpu")]
        if any(value is not None for value in values):
            shown = ["" if value is None else f"{value:.3g}{target.unit}" for value in values]
            if "{clock}" not in target.quantity:
                shown[1] = ""  # a figure without a clock stands once
            lines.append(f"| {target.label} | {shown[0]} | {shown[1]} | {target.wanted} |")
    return "\n".join(lines)


def _find(table: pd.DataFrame, target: Target, clock: str) -> float | None:
    rows = table[table["quantity"] == target.quantity.format(clock=clock)]
    for name, value in target.where.items():
        rows = rows[rows[name] == value]
    return None if rows.empty else float(rows["value"].median())
