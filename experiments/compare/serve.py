"""Runs one method on prepared tasks, in whatever Python has it: ``python -m experiments.compare.serve JOB``.

The job names the method's file, its options, the cells and the tasks; each task names an input, an output and
a knob. NumPy only, so that it runs in every peer's environment. Tasks are timed one by one; reading, writing,
the mapping of cells and intervals are not in the time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import resource
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from experiments.compare.contract import Prediction, Task, load_cells, load_task
from experiments.freshness import imported_code

__all__ = ["main", "origins"]


def origins(mapping: np.ndarray, coordinates: np.ndarray) -> dict[str, np.ndarray]:
    """Position of each cell by its most probable location, and by the mean over locations."""
    return {"mode": coordinates[mapping.argmax(axis=1)], "mean": mapping @ coordinates}


def main(job_file: str) -> int:
    """Run a job; 1 and a line in ``error.txt`` if the method fails."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    folder = Path(job_file).parent
    try:
        spec = importlib.util.spec_from_file_location("method", job["module"])
        assert spec is not None
        assert spec.loader is not None
        method = sys.modules["method"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(method)
        version = method.version() if hasattr(method, "version") else platform.python_version()
        (folder / "version.txt").write_text(version, encoding="utf-8")
        cells = load_cells(job["cells"])
        task, loaded = None, None
        for each in job["tasks"]:
            if each["input"] != loaded:
                task, loaded = load_task(each["input"], cells), each["input"]
            assert task is not None
            _run(method.predict, task, each, job)
            (folder / "code.json").write_text(json.dumps(imported_code()), encoding="utf-8")
    except Exception as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        traceback.print_exc()
        return 1
    return 0


def _run(predict, task: Task, each: dict, job: dict) -> None:
    clock, cpu = time.perf_counter(), _cpu_seconds()
    found: Prediction = predict(task.cells, task.reference, task.genes, each["knob"], **job["options"])
    seconds, cpu_seconds = time.perf_counter() - clock, _cpu_seconds() - cpu
    values = np.asarray(found.values, np.float32)
    expected = (len(task.reference.linear), len(task.genes))
    if values.shape != expected or not np.isfinite(values).all():
        raise ValueError(
            f"expected finite predictions of shape {expected} (locations, genes), found shape {values.shape} "
            f"with {np.count_nonzero(~np.isfinite(values))} not finite"
        )
    cells = {}
    if job["positions"] and found.mapping is not None:
        cells = origins(np.asarray(found.mapping(), np.float64), task.reference.coordinates)
    if found.intervals is not None:
        ends = np.stack(found.intervals()).astype(np.float32)
        if ends.shape != (2, *expected):
            raise ValueError(f"expected intervals of shape {(2, *expected)}, found {ends.shape}")
        cells["intervals"] = ends
    numbers = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": _peak_gb()}
    unfinished = f"{each['output']}.unfinished.npz"
    np.savez(unfinished, values=values, **numbers, **cells)
    os.replace(unfinished, each["output"])  # whole or not at all: it may be gone on from


def _peak_gb() -> float:
    """Highest resident memory so far, of this process or of one that it started and waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return max(resource.getrusage(each).ru_maxrss for each in whose) * unit / 1e9


def _cpu_seconds() -> float:
    """Of this process and of those that it started and waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
