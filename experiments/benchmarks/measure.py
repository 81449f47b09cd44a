"""Time and memory of pieces of work, taken so that a busy machine does them as little harm as possible."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["PeakMemory", "Row", "Timing", "interleaved", "peak_memory", "ratio_rows", "seconds_rows", "timed"]


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        quantity: what was measured.
        value: the figure.
        unit: "s", "GB" or "" for a plain number.
        variant: of the work, where there are several.
        low, high: quartiles over repeats, or the value less and plus one standard error (exponents).
        repeats: how often it was taken.
    """

    quantity: str
    value: float
    unit: str = ""
    variant: str = ""
    low: float = float("nan")
    high: float = float("nan")
    repeats: int = 1


@dataclass(frozen=True, eq=False)
class Timing:
    """Seconds of every repeat: on the wall, and of all threads of this process on their cores."""

    wall: np.ndarray
    cpu: np.ndarray


def interleaved(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Time several pieces of work in turn, so that all of them see the same machine.

    Args:
        works: name -> function whose result JAX can wait for; the first call, which compiles, is not counted.
        repeats: rounds.
    """
    found = {name: np.zeros((repeats, 2)) for name in works}
    for work in works.values():
        jax.block_until_ready(work())
    for repeat in range(repeats):
        for name, work in works.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(work())
            found[name][repeat] = time.perf_counter() - start[0], time.process_time() - start[1]
    return {name: Timing(each[:, 0], each[:, 1]) for name, each in found.items()}


def seconds_rows(quantity: str, timing: Timing, variant: str = "") -> list[Row]:
    """Median with quartiles, wall and CPU; and the fastest repeat, which a busy machine delays least."""
    rows = []
    for name, values in (("wall", timing.wall), ("cpu", timing.cpu)):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        rows.append(Row(f"{quantity} {name}", middle, "s", variant, low, high, len(values)))
        rows.append(Row(f"{quantity} {name} fastest", float(values.min()), "s", variant, repeats=len(values)))
    return rows


def ratio_rows(quantity: str, timing: Timing, floor: Timing, variant: str = "") -> list[Row]:
    """Median with quartiles of the ratios of neighbouring repeats, wall and CPU."""
    rows = []
    for name, values in (("wall", timing.wall / floor.wall), ("cpu", timing.cpu / floor.cpu)):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        rows.append(Row(f"{quantity} {name}", middle, "", variant, low, high, len(values)))
    return rows


@contextmanager
def timed(name: str, rows: list[Row], variant: str = "") -> Iterator[None]:
    """Add wall and CPU seconds of a block that runs once."""
    start = time.perf_counter(), time.process_time()
    yield
    rows.append(Row(f"{name} wall", time.perf_counter() - start[0], "s", variant))
    rows.append(Row(f"{name} cpu", time.process_time() - start[1], "s", variant))


@dataclass
class PeakMemory:
    """Filled when the block ends.

    Attributes:
        before: GB resident when the block began: the program, its libraries and the inputs.
        peak: highest GB resident inside the block, all of it.
    """

    before: float = field(default=float("nan"))
    peak: float = field(default=float("nan"))

    @property
    def above(self) -> float:
        """GB above what was there, compilation included."""
        return self.peak - self.before


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Highest resident memory of a block; in a process of its own, for memory freed before is not given back.

    On Linux the kernel's high-water mark is reset first. Elsewhere it is that of the whole process.
    """
    found = PeakMemory()
    with suppress(OSError):  # not Linux, or not allowed: the mark stays
        Path("/proc/self/clear_refs").write_text("5")
    found.before = _resident_gb("VmRSS")
    yield found
    found.peak = _resident_gb("VmHWM")


def _resident_gb(name: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1.0 if sys.platform == "darwin" else 1024.0
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e9
