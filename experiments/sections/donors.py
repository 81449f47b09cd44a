"""Simulated donors, and two real laboratories: one fit that knows them, one that does not, a fit of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import anndata
import numpy as np
import pandas as pd

from perler_jax import PerlerFit, fit_perler, simulate_embryo
from perler_jax.scores.metrics import pearson_by_gene

__all__ = ["score_donors", "score_laboratories", "two_donors"]


def two_donors(
    seed: int, skew: float, background: float, embryo: Mapping[str, Any]
) -> tuple[anndata.AnnData, anndata.AnnData, np.ndarray]:
    """Cells of an embryo as if from two donors, the second with about a quarter of them.

    Args:
        seed: of all draws.
        skew: how far the second donor's cells are from the one end of the embryo.
        background: standard deviation of ln of the factor that a gene has in a donor.
        embryo: sizes, of `simulate_embryo`.

    Returns:
        Cells with ``obs["donor"]``, reference, and true log2 expression (locations, genes).
    """
    made = simulate_embryo(seed=seed, **embryo)
    rng = np.random.default_rng(seed)
    origin = made.cells.obs["true_location"].to_numpy()
    x = np.asarray(made.reference.obsm["spatial"])[origin, 0]
    is_second = rng.random(len(x)) < 1 / (1 + np.exp(1 - skew * (x - x.mean()) / x.std()))
    factor = np.exp(background * rng.standard_normal((2, made.cells.n_vars)))[is_second.astype(int)]
    counts = made.cells.to_df().to_numpy(np.float64)
    cells = anndata.AnnData(
        rng.poisson(counts * factor).astype(np.float32), obs=made.cells.obs.copy(), var=made.cells.var
    )
    cells.obs["donor"] = np.where(is_second, "second", "first")
    return cells, made.reference, np.log2(1 + made.truth.to_df().to_numpy(np.float64))


def score_donors(seed: int, skew: float, background: float, embryo: Mapping[str, Any]) -> pd.DataFrame:
    """Accuracy at genes without a map, by each way.

    Args:
        seed: of the simulation.
        skew: as of `two_donors`.
        background: likewise.
        embryo: likewise.

    Returns:
        One row per way and gene that varies over the tissue: ``way``, ``gene``, ``score`` (correlation with
        the true pattern), and ``nested``, the mean nested score of the fit.
    """
    cells, reference, truth = two_donors(seed, skew, background, embryo)

    def fitted(some: anndata.AnnData, **options: Any) -> PerlerFit:
        return fit_perler(some, reference, progress=sys.stderr.isatty(), **options)

    alone = [fitted(cells[(cells.obs["donor"] == name).to_numpy()].copy()) for name in ("first", "second")]
    sizes = np.array([len(each.cell_names) for each in alone], float)
    ways = {
        "one fit, batch_key": [fitted(cells, batch_key="donor")],
        "donors ignored": [fitted(cells)],
        "first donor alone": alone[:1],
        "second donor alone": alone[1:],
        "mean of both fits": alone,
    }
    unseen = ~np.isin(cells.var_names, reference.var_names) & (truth.std(axis=0) > 0.05)
    rows = []
    for way, fits in ways.items():
        patterns = [each.reconstruct().to_df()[cells.var_names].to_numpy(np.float64) for each in fits]
        mixed = np.average(patterns, axis=0, weights=sizes if len(fits) == 2 else None)
        scores = pearson_by_gene(mixed[:, unseen], truth[:, unseen])
        nested = float(np.mean([each.scores["nested"].mean() for each in fits])) if len(fits) == 1 else np.nan
        rows.append(
            pd.DataFrame({"way": way, "gene": cells.var_names[unseen], "score": scores, "nested": nested})
        )
    return pd.concat(rows).assign(seed=seed, skew=skew, background=background)


def score_laboratories(located: anndata.AnnData, other: anndata.AnnData, seed: int) -> pd.DataFrame:
    """Nested scores with cells of two laboratories and technologies.

    Half of the located cells, chosen at random, lose their places; the others are the map.

    Args:
        located: cells of known place.
        other: dissociated cells of the other laboratory.
        seed: of the halves.

    Returns:
        One row per way and gene: ``way``, ``gene``, ``score``.
    """
    genes = [name for name in located.var_names if name in other.var_names]
    order = np.random.default_rng(seed).permutation(located.n_obs)
    lost, kept = (located[np.sort(half)][:, genes].copy() for half in np.array_split(order, 2))
    tables = {"this": lost.to_df(), "other": other[:, genes].to_df()}
    parts = []
    for name, table in tables.items():
        part = anndata.AnnData(
            table.set_axis([f"{name}-{each}" for each in table.index], axis=0).astype(np.float32)
        )
        part.obs["laboratory"] = name
        parts.append(part)
    both = anndata.concat(parts)
    ways: dict[str, tuple[anndata.AnnData, dict[str, str]]] = {
        "both, batch_key": (both, {"batch_key": "laboratory"}),
        "both, ignored": (both, {}),
        "this laboratory alone": (parts[0], {}),
        "the other alone": (parts[1], {}),
    }
    rows = []
    for way, (cells, options) in ways.items():
        how: dict[str, Any] = {"cells_scale": "counts", "reference_scale": "counts", **options}
        scores = fit_perler(cells, kept, progress=sys.stderr.isatty(), **how).scores["nested"]
        rows.append(pd.DataFrame({"way": way, "gene": scores.index, "score": scores.to_numpy()}))
    return pd.concat(rows).assign(seed=seed)
