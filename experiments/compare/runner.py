"""Runs a method in a process of its own, in the environment that has it; measures its time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.compare.contract import save_cells, save_task
from experiments.compare.problems import Problem
from experiments.freshness import is_fresh

__all__ = ["Method", "Run", "configured_methods", "missing", "prepared", "run_method", "user_method"]

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: short, for files.
        label: for people.
        module: file with ``predict``.
        options: of ``predict``, fixed.
        knob: name of what is tuned.
        candidates: its values, the package's default first; empty: not tuned here.
        tuned: why there are no candidates: "none" (no knob), "inside" (by the method itself on inner folds of
            the training genes), "no" (left at its default).
        environment: folder in .peers; None is this Python.
        program: that must be on the PATH.
        needs: environment variables that say where the user has a program that no registry holds.
        problems: names of the only data sets that it can take; empty: all.
    """

    name: str
    label: str
    module: Path
    options: dict[str, Any] = field(default_factory=dict)
    knob: str = ""
    candidates: tuple[Any, ...] = ()
    tuned: str = "none"
    environment: str | None = None
    program: str | None = None
    needs: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_builtin(self) -> bool:
        """Whether it needs nothing but this package's own environment."""
        return not (self.environment or self.program or self.needs)

    @property
    def knobs(self) -> tuple[Any, ...]:
        """The values to run."""
        return self.candidates or (None,)


@dataclass(frozen=True, eq=False)
class Run:
    """What one method did on one problem.

    Attributes:
        method: which.
        version: as it says itself.
        values: (candidates, locations, genes) predictions; NaN for genes that no fold holds out.
        positions: "mode" and "mean" -> (folds, candidates, cells, axes); empty without true positions.
        seconds: (folds, candidates) wall time of fit and prediction.
        cpu_seconds: (folds, candidates) likewise, CPU time.
        peak_gb: highest resident memory of the process over all of it, with what it imports.
        code: record of the code that ran (`imported_code`).
        intervals: (candidates, 2, locations, genes) ends of 90 % intervals of the standardised map; None
            without any.
    """

    method: Method
    version: str
    values: np.ndarray
    positions: dict[str, np.ndarray]
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    peak_gb: float
    code: dict[str, str]
    intervals: np.ndarray | None = None


def configured_methods(config: dict[str, Any]) -> list[Method]:
    """The methods of config.toml, in its order."""
    return [
        Method(
            name,
            **{key: tuple(each) if isinstance(each, list) else each for key, each in row.items()}
            | {"module": _HERE / row["module"]},
        )
        for name, row in config["methods"].items()
    ]


def missing(method: Method, problem: str) -> str | None:
    """Why a method cannot run here; None if it can."""
    if method.problems and problem not in method.problems:
        return "cannot take this data set (see the README)"
    unset = [name for name in method.needs if not os.environ.get(name)]
    if unset:
        return f"no registry has it: set {', '.join(unset)} to where you have it"
    if method.program and not shutil.which(method.program):
        return f"{method.program} is not on the PATH: experiments/compare/peers/install.sh {method.name}"
    if method.environment and not _python(method).exists():
        return f"not installed: experiments/compare/peers/install.sh {method.environment}"
    return None


@contextmanager
def prepared(problem: Problem) -> Iterator[list[Path]]:
    """The problem's tasks as files, one per fold, with ``cells.npz`` beside them, gone afterwards."""
    with TemporaryDirectory(prefix="compare-") as folder:
        save_cells(problem.cells, Path(folder) / "cells.npz")
        paths = [Path(folder) / f"fold{number}.npz" for number in range(len(problem.folds))]
        for number, path in enumerate(paths):
            save_task(problem.task(number), path)
        yield paths


def run_method(method: Method, problem: Problem, tasks: Sequence[Path], kept: Path | None = None) -> Run:
    """Run every fold with every candidate.

    Args:
        method: what to run.
        problem: on what.
        tasks: of `prepared`.
        kept: folder where finished fits stay, and are not run again; None keeps nothing.

    Raises:
        RuntimeError: the method failed (the message is its own), or other fits are in the folder.
    """
    with _work_folder(method, problem, kept) as folder:
        outputs = [
            [folder / f"{fold}-{knob}.npz" for knob in range(len(method.knobs))] for fold in range(len(tasks))
        ]
        job = {
            "module": str(method.module.resolve()),
            "options": method.options,
            "cells": str(tasks[0].with_name("cells.npz")),
            "positions": problem.true_positions is not None,
            "tasks": [
                {"input": str(tasks[fold]), "output": str(outputs[fold][at]), "knob": knob}
                for fold in range(len(tasks))
                for at, knob in enumerate(method.knobs)
                if not outputs[fold][at].exists()
            ],
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        if job["tasks"]:
            _spawn(method, folder)
        return _collect(method, problem, outputs, folder)


@contextmanager
def _work_folder(method: Method, problem: Problem, kept: Path | None) -> Iterator[Path]:
    """Where a method's fits are written: gone afterwards, or kept with a mark of what they are of."""
    if kept is None:
        with TemporaryDirectory(prefix=f"compare-{method.name}-") as name:
            yield Path(name)
        return
    folder = (kept / problem.name / method.name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    choices = [method.options, method.knobs, [fold.tolist() for fold in problem.folds]]
    digest = hashlib.sha256(json.dumps(choices).encode() + method.module.read_bytes())
    digest.update(np.ascontiguousarray(problem.cells.log).tobytes())
    mark = folder / "mark.txt"
    if mark.exists() and mark.read_text() != digest.hexdigest():
        raise RuntimeError(
            f"expected fits of this method, these folds and data, found others: delete {folder}"
        )
    code = folder / "code.json"
    if code.exists() and not is_fresh(json.loads(code.read_text(encoding="utf-8")), _ROOT):
        raise RuntimeError(f"expected fits by the code as it is, found older ones: delete {folder}")
    mark.write_text(digest.hexdigest())
    yield folder


def _spawn(method: Method, folder: Path) -> None:
    command = [str(_python(method)), "-m", "experiments.compare.serve", str(folder / "job.json")]
    said = folder / "error.txt"
    said.unlink(missing_ok=True)
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = (folder / "log.txt").read_text(errors="replace")[-600:]
        raise RuntimeError(said.read_text() if said.exists() else f"exit code {done.returncode}: {tail}")


def _collect(method: Method, problem: Problem, outputs: list[list[Path]], folder: Path) -> Run:
    version = (folder / "version.txt").read_text(encoding="utf-8").strip()
    code = json.loads((folder / "code.json").read_text(encoding="utf-8"))
    shape = len(outputs), len(method.knobs)
    values = np.full((shape[1], len(problem.coordinates), len(problem.genes)), np.nan, np.float32)
    seconds, cpu_seconds = np.zeros(shape), np.zeros(shape)
    peak_gb, intervals = 0.0, None
    places: dict[str, list[np.ndarray]] = {"mode": [], "mean": []}
    for fold, row in enumerate(outputs):
        for at, path in enumerate(row):
            with np.load(path, allow_pickle=False) as found:
                values[at][:, problem.folds[fold]] = found["values"]
                seconds[fold, at], cpu_seconds[fold, at] = found["seconds"], found["cpu_seconds"]
                peak_gb = max(peak_gb, float(found["peak_gb"]))
                if "intervals" in found.files:
                    if intervals is None:
                        intervals = np.full((len(values), 2, *values.shape[1:]), np.nan, np.float32)
                    intervals[at][..., problem.folds[fold]] = found["intervals"]
                for name in places.keys() & set(found.files):
                    places[name].append(found[name])
    positions = {
        name: np.stack(each).reshape(*shape, *each[0].shape) for name, each in places.items() if each
    }
    return Run(method, version, values, positions, seconds, cpu_seconds, peak_gb, code, intervals)


def _python(method: Method) -> Path:
    if method.environment is None:
        return Path(sys.executable)
    return _ROOT / ".peers" / method.environment / "bin" / "python"


def user_method(argument: str) -> Method:
    """A method of the user's own from ``NAME=FILE.py``.

    Raises:
        ValueError: the text is not of that form, or there is no such file.
    """
    name, _, file = argument.partition("=")
    if not name or not Path(file).is_file():
        raise ValueError(f"expected NAME=FILE.py with an existing file, found {argument!r}")
    return Method(name, name, Path(file))
