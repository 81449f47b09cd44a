"""What a method gets and gives. NumPy only: peers run this file in environments of their own.

A method is a function ``predict(cells, reference, genes, knob, **options) -> Prediction``. ``genes`` are in
the cells and not in the reference: a held-out gene's map is nowhere within a method's reach.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Cells", "Prediction", "Reference", "Task", "load_cells", "load_task", "save_cells", "save_task"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Dissociated cells with all genes that their data set has.

    Attributes:
        log: (cells, genes) log2(1 + normalised expression).
        counts: (cells, genes) molecules, or None where the data set has none.
        genes: (genes,) names; every landmark of the reference and every gene to predict is among them, and
            as a rule many more.
    """

    def only(self, genes: np.ndarray) -> Cells:
        """The same cells with chosen genes, in that order."""
        at = positions(self.genes, genes)
        return Cells(self.log[:, at], None if self.counts is None else self.counts[:, at], self.genes[at])

    log: np.ndarray
    counts: np.ndarray | None
    genes: np.ndarray

    def of(self, genes: np.ndarray) -> np.ndarray:
        """(cells, chosen genes) log expression."""
        return self.log[:, positions(self.genes, genes)]

    def counts_of(self, genes: np.ndarray) -> np.ndarray:
        """(cells, chosen genes) molecules.

        Raises:
            ValueError: the data set has no counts.
        """
        if self.counts is None:
            raise ValueError("this method needs counts, and this data set has none for its cells")
        return self.counts[:, positions(self.genes, genes)]


@dataclass(frozen=True, eq=False)
class Reference:
    """The map of the tissue, without the held-out genes.

    Attributes:
        linear: (locations, landmarks) expression, not negative.
        log: log2(1 + linear).
        counts: (locations, landmarks) molecules, or None where the map is no count.
        genes: (landmarks,) names.
        coordinates: (locations, 2 or 3).
        binary: (locations, landmarks) the published on and off, or None.
    """

    linear: np.ndarray
    log: np.ndarray
    counts: np.ndarray | None
    genes: np.ndarray
    coordinates: np.ndarray
    binary: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method gives.

    Attributes:
        values: (locations, genes) predicted log2(1 + expression), up to shift and scale per gene.
        mapping: called only where the cells' true positions are known, and not timed: (cells, locations),
            rows summing to one, where each cell may be from. None: the method says nothing about it.
        intervals: called once and not timed: lower and upper ends, each (locations, genes), that should hold
            nine of ten values of a gene's map, standardised over locations (mean 0, variance 1); NaN where
            the method gives none. None: it never does.
    """

    values: np.ndarray
    mapping: Callable[[], np.ndarray] | None = None
    intervals: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """One fit: predict ``genes``."""

    cells: Cells
    reference: Reference
    genes: np.ndarray


def positions(names: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of each wanted name.

    Raises:
        KeyError: a name is not there.
    """
    where = {name: at for at, name in enumerate(names.tolist())}
    return np.array([where[name] for name in wanted.tolist()], dtype=int)


def save_cells(cells: Cells, path: str | os.PathLike[str]) -> None:
    """Write cells as npz (no pickle): once, they are the same in all tasks of a data set."""
    counts = {} if cells.counts is None else {"counts": cells.counts}
    np.savez(path, log=cells.log, genes=cells.genes.astype(str), **counts)


def load_cells(path: str | os.PathLike[str]) -> Cells:
    """Read what `save_cells` wrote."""
    with np.load(path, allow_pickle=False) as table:
        counts = table["counts"] if "counts" in table.files else None
        return Cells(table["log"], counts, table["genes"])


def save_task(task: Task, path: str | os.PathLike[str]) -> None:
    """Write a task without its cells as npz (no pickle)."""
    parts: dict[str, Any] = {
        "reference_linear": task.reference.linear,
        "reference_counts": task.reference.counts,
        "reference_genes": task.reference.genes.astype(str),
        "coordinates": task.reference.coordinates,
        "reference_binary": task.reference.binary,
        "genes": task.genes.astype(str),
    }
    np.savez(path, **{name: part for name, part in parts.items() if part is not None})


def load_task(path: str | os.PathLike[str], cells: Cells) -> Task:
    """Read what `save_task` wrote, and put it together with its cells."""
    with np.load(path, allow_pickle=False) as table:
        found = {name: table[name] for name in table.files}
    linear = found["reference_linear"]
    return Task(
        cells,
        Reference(
            linear,
            np.log2(1.0 + linear),
            found.get("reference_counts"),
            found["reference_genes"],
            found["coordinates"],
            found.get("reference_binary"),
        ),
        found["genes"],
    )
