"""The whole job by stages: EM, held-out fits, tuning, all genes; on the fly embryo or a simulated one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.measure import Row, peak_memory, timed
from experiments.benchmarks.problem import embryo
from experiments.common import data_folder
from perler_jax import fit_perler, load_fly

__all__ = ["cases", "cpu_by_stage", "measure"]

_EVERY = 0.05  # seconds between two looks at the clocks


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources, each several times if asked: a job that runs once has no spread of its own."""
    return [{**source, "run": run} for source in config["sources"] for run in range(config["runs"])]


def measure(case: dict[str, Any]) -> list[Row]:
    """Wall and CPU seconds of every stage and of all, scores, peak memory; in a fresh process, compiling.

    Then all of it again from compiled programs, as the command line has them from its second run on.
    """
    cells, reference, totals = _inputs(case)
    rows: list[Row] = []
    with peak_memory() as memory, timed("total", rows):
        with _clock() as seen:
            fit = fit_perler(cells, reference, totals=totals, progress=False)
        with timed("reconstruction", rows):
            fit.reconstruct()
    with timed("total compiled", rows):
        fit_perler(cells, reference, totals=totals, progress=False).reconstruct()
    for stage, (wall, cpu) in cpu_by_stage(fit.seconds, np.asarray(seen)).items():
        rows += [Row(f"{stage} wall", wall, "s"), Row(f"{stage} cpu", cpu, "s")]
    return [
        *rows,
        Row("peak resident", memory.peak, "GB"),
        Row("nested LOO aCC", float(fit.scores["nested"].mean())),
    ]


def _inputs(case: dict[str, Any]) -> tuple[Any, Any, Any]:
    if case["source"] == "fly":
        fly = load_fly(data_folder(Path(case["data"]) if case.get("data") else None, "drosophila"))
        return fly.cells, fly.reference, fly.cells.obs["norm_total"].to_numpy()
    sizes = {name: case[name] for name in ("cells", "locations", "genes", "landmarks")}
    made = embryo(**sizes, seed=0)
    return made.cells, made.reference, None


@contextmanager
def _clock() -> Iterator[list[tuple[float, float]]]:
    """(wall, CPU) seconds since the start of the block, looked at all along: stages know wall time only."""
    start, seen, over = (time.perf_counter(), time.process_time()), [(0.0, 0.0)], threading.Event()

    def look() -> None:
        while not over.wait(_EVERY):
            seen.append((time.perf_counter() - start[0], time.process_time() - start[1]))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen.append((time.perf_counter() - start[0], time.process_time() - start[1]))


def cpu_by_stage(seconds: dict[str, float], seen: np.ndarray) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of stages that followed each other without a gap.

    Args:
        seconds: wall time of each stage, in their order.
        seen: (looks, 2) wall and CPU time since the first began.
    """
    ends = np.cumsum(list(seconds.values()))
    cpu = np.diff(np.interp(ends, seen[:, 0], seen[:, 1]), prepend=0.0)
    return {name: (wall, float(used)) for (name, wall), used in zip(seconds.items(), cpu, strict=True)}
