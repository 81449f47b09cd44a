"""New cells put on a fitted map, their sparse mapping, and labels that they carry: seconds and memory."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from experiments.benchmarks.measure import PeakMemory, Row, peak_memory, timed
from experiments.benchmarks.problem import draw_counts, embryo
from perler_jax import PerlerSettings, fit_perler

__all__ = ["cases", "measure"]

_FITTED, _BLOCK, _DEPTH = 500, 5000, 500.0
_CATEGORIES = 20


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes, and what is kept of each cell."""
    return [{**size, "dtype": "float32"} for size in config["sizes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """A fit of few cells; all others are placed on it, and their mapping is made or their labels carried."""
    landmarks = case["metagenes"] + 24
    made = embryo(
        cells=min(_FITTED, case["cells"]),
        locations=case["locations"],
        genes=landmarks + 16,
        landmarks=landmarks,
        seed=0,
    )
    settings = PerlerSettings(n_metagenes=case["metagenes"])
    fit = fit_perler(made.cells, made.reference, settings=settings, weights=(0.1, 0.3), progress=False)
    rng = np.random.default_rng(1)
    blocks = [
        draw_counts(made.truth, min(_BLOCK, case["cells"] - start), _DEPTH, rng)
        for start in range(0, case["cells"], _BLOCK)
    ]
    names = pd.DataFrame(index=[f"cell{i + 1}" for i in range(case["cells"])])
    new = ad.AnnData(sparse.vstack(blocks, format="csr"), obs=names, var=made.truth.var[[]].copy())
    del blocks
    rows: list[Row] = []
    if case["keep"] == "labels":
        placed = fit.place(new)
        ranks = placed.cell_metagenes[:, 0].argsort().argsort()
        labels = pd.Series(ranks * _CATEGORIES // len(ranks), index=placed.cell_names, name="part").astype(
            str
        )
        with peak_memory() as memory, timed("transfer", rows):
            placed.transfer(labels)
        return [*rows, *_memory("transfer", memory)]
    kind, amount = case["keep"].split()
    keep: dict[str, Any] = {"mass": float(amount)} if kind == "mass" else {"top": int(amount)}
    with peak_memory() as memory:
        with timed("place", rows):
            placed = fit.place(new)
        with timed("mapping", rows):
            found = placed.mapping(**keep)
    dense = case["cells"] * case["locations"] * placed.cell_metagenes.itemsize / 1e9
    return [
        *rows,
        *_memory("mapping", memory),
        Row("cells x locations, never held", dense, "GB"),
        Row("locations kept per cell, median", float(found.obs["n_locations"].median())),
        Row("mass kept per cell, median", float(found.obs["kept_mass"].median())),
    ]


def _memory(work: str, memory: PeakMemory) -> list[Row]:
    return [
        Row(f"{work} peak above inputs", memory.above, "GB"),
        Row(f"{work} peak resident", memory.peak, "GB"),
    ]
