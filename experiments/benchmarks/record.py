"""The tidy table of all figures, written case by case: whatever stops the run, what was measured is there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.benchmarks.measure import Row
from perler_jax.inputs.io import atomic_path

__all__ = ["SIZES", "Record", "case_key"]

SIZES = ("cells", "locations", "metagenes", "genes", "dtype", "devices")
_COLUMNS = ["benchmark", *SIZES, *(field.name for field in dataclasses.fields(Row)), "load", "case"]


def case_key(case: dict[str, Any]) -> str:
    """A case as text: its settings, in one order."""
    return json.dumps(case, sort_keys=True)


class Record:
    """Figures in a CSV file, one row each; ``case`` holds all settings of the measurement as JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self) -> pd.DataFrame:
        """All rows so far."""
        if not self.path.exists():
            return pd.DataFrame(columns=_COLUMNS)
        return pd.read_csv(self.path, keep_default_na=True, dtype={"variant": str, "unit": str})

    def has(self, case: dict[str, Any]) -> bool:
        """Whether a case was measured."""
        return bool((self.table()["case"] == case_key(case)).any())

    def keep_only(self, benchmark: str, cases: Iterable[dict[str, Any]]) -> None:
        """Forget cases of a benchmark that its settings no longer have."""
        table = self.table()
        known = {case_key(case) for case in cases}
        self._write(_counted(table[(table["benchmark"] != benchmark) | table["case"].isin(known)]))

    def put(self, case: dict[str, Any], rows: Iterable[Row]) -> None:
        """Write the figures of a case in place of its old ones; the file is replaced whole."""
        sizes = {name: case.get(name) for name in SIZES}
        about = {"benchmark": case["benchmark"], **sizes}
        load = os.getloadavg()[0]
        new = [
            {**about, **dataclasses.asdict(row), "load": round(load, 1), "case": case_key(case)}
            for row in rows
        ]
        old = self.table()
        kept, table = (
            _counted(old[old["case"] != case_key(case)]),
            _counted(pd.DataFrame(new, columns=_COLUMNS)),
        )
        self._write(pd.concat([kept, table], ignore_index=True) if len(kept) else table)

    def _write(self, table: pd.DataFrame) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """Counts as whole numbers that may be missing: a column reads alike whether some rows lack it or none."""
    counts = ("cells", "locations", "metagenes", "genes", "devices", "repeats")
    return table.astype(dict.fromkeys(counts, "Int64"))
