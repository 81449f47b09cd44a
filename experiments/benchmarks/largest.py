"""The paper's largest case in shape: very many cells, a thousand landmarks, ten folds; simulated counts."""

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

_BLOCK = 5000


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes."""
    return [{**size, "dtype": "float32"} for size in config["sizes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds of all and of each stage, peak memory, and whether the fit has learned something."""
    sizes = {name: case[name] for name in ("locations", "genes", "landmarks")}
    made = embryo(cells=2, **sizes, seed=0)
    rng = np.random.default_rng(1)
    blocks = [
        draw_counts(made.truth, min(_BLOCK, case["cells"] - start), case["depth"], rng)
        for start in range(0, case["cells"], _BLOCK)
    ]
    names = pd.DataFrame(index=[f"cell{i + 1}" for i in range(case["cells"])])
    cells = ad.AnnData(sparse.vstack(blocks, format="csr"), obs=names, var=made.truth.var[[]].copy())
    del blocks
    rows: list[Row] = []
    settings = PerlerSettings(folds=case["folds"], n_metagenes=case["metagenes"])
    with peak_memory() as memory, timed("total", rows):
        fit = fit_perler(cells, made.reference, settings=settings, progress=False)
    rows += [Row(f"{stage} wall", seconds, "s") for stage, seconds in fit.seconds.items()]
    assert fit.tuning is not None
    return [
        *rows,
        Row("points tuned on all folds", len(fit.tuning.points)),
        Row("inputs and program", memory.before, "GB"),
        Row("peak above inputs", memory.above, "GB"),
        Row("peak resident", memory.peak, "GB"),
        Row("nested score", float(fit.scores["nested"].mean())),
    ]
