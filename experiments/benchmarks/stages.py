"""What the stages are made of, at the fly's shape: a held-out fit, a pass of tuning, its slopes, genes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import Row, interleaved, seconds_rows
from experiments.benchmarks.problem import embryo
from perler_jax import PerlerSettings, fit_perler
from perler_jax.em import fit_em
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.preprocessing import centre, reference_landmarks

__all__ = ["cases", "measure"]

_POINTS = np.array([[a, b] for a in (0.02, 0.05, 0.1, 0.2) for b in (0.1, 0.2, 0.4, 0.8)])


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes."""
    return [
        {**size, "folds": config["folds"], "dtype": "float32", "repeats": config["repeats"]}
        for size in config["sizes"]
    ]


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds of each, once compiled."""
    sizes = {name: case[name] for name in ("cells", "locations", "genes", "landmarks")}
    made = embryo(**sizes, seed=0)
    settings = PerlerSettings(n_metagenes=case["metagenes"])
    fit = fit_perler(made.cells, made.reference, settings=settings, weights=(0.1, 0.3), progress=False)
    x, r = fit.cell_metagenes, fit.reference_metagenes
    y = centre(fit.preprocessing.apply(fit.expression().dense(fit.landmarks)).astype(np.float64))[0]
    h = reference_landmarks(fit.reference, fit.landmarks)
    folds = make_folds(len(fit.landmarks))[: case["folds"]]
    held_out = fit_held_out(y, h, folds, n_metagenes=x.shape[1])
    scorer = HeldOutScorer(held_out, jnp.asarray(y, x.dtype), jnp.asarray(h, x.dtype))
    works = {
        "EM": lambda: fit_em(x, r),
        f"{len(folds)} held-out fits": lambda: fit_held_out(y, h, folds, n_metagenes=x.shape[1]),
        f"tuning: {len(_POINTS)} points, {len(folds)} folds": lambda: scorer(_POINTS),
        f"tuning: slopes at a point, {len(folds)} folds": lambda: scorer.derivatives(_POINTS[0]),
        f"reconstruction of {made.cells.n_vars} genes": lambda: fit.reconstruct().X,
    }
    found = interleaved(works, case["repeats"])
    return [row for name, timing in found.items() for row in seconds_rows(name, timing)]
