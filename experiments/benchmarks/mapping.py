"""New cells put on a fitted map, and their sparse mapping: seconds, and memory above the inputs."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from experiments.benchmarks.measure import Row, peak_memory, timed
from experiments.benchmarks.problem import draw_counts, embryo
from perler_jax import PerlerSettings, fit_perler

__all__ = ["cases", "measure"]

_FITTED, _BLOCK, _DEPTH = 500, 5000, 500.0


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes, and what is kept of each cell."""
    return [{**size, "dtype": "float32"} for size in config["sizes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """A fit of few cells; all others are placed on it, and their mapping is made."""
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
    kind, amount = case["keep"].split()
    keep: dict[str, Any] = {"mass": float(amount)} if kind == "mass" else {"top": int(amount)}
    rows: list[Row] = []
    with peak_memory() as memory:
        with timed("place", rows):
            placed = fit.place(new)
        with timed("mapping", rows):
            found = placed.mapping(**keep)
    dense = case["cells"] * case["locations"] * placed.cell_metagenes.itemsize / 1e9
    return [
        *rows,
        Row("mapping peak above inputs", memory.above, "GB"),
        Row("mapping peak resident", memory.peak, "GB"),
        Row("cells x locations, never held", dense, "GB"),
        Row("locations kept per cell, median", float(found.obs["n_locations"].median())),
        Row("mass kept per cell, median", float(found.obs["kept_mass"].median())),
    ]
