"""Real tissue cut into sections: one fit of all, a fit of each, and one that overlays their coordinates."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import anndata
import numpy as np
import pandas as pd

from perler_jax import cross_validate
from perler_jax.scores.metrics import pearson_by_gene

__all__ = ["cut", "score_sections"]


def cut(located: anndata.AnnData, shares: Mapping[str, float]) -> anndata.AnnData:
    """The tissue in strips across its layers, each with coordinates that begin at zero.

    Args:
        located: cells of known place; ``obs`` has the region of each.
        shares: of the locations, by name of the section.
    """
    where = np.array(located.obsm["spatial"], np.float64)
    # Along the axis on which regions differ less, so that every section has most of them.
    regions = located.obs["region"].astype(str)
    between = [pd.Series(where[:, axis]).groupby(regions.to_numpy()).mean().std() for axis in (0, 1)]
    axis = int(np.argmin(np.array(between) / where.std(axis=0)))
    ends = np.concatenate([[0], np.cumsum(list(shares.values()))]) / sum(shares.values())
    order, names = np.argsort(where[:, axis]), np.empty(len(where), dtype=object)
    for name, low, high in zip(shares, ends[:-1], ends[1:], strict=True):
        part = order[round(low * len(order)) : round(high * len(order))]
        names[part] = name
        where[part] -= where[part].min(axis=0)
    found = located.copy()
    found.obsm["spatial"], found.obs["section"] = where, names
    return found


def score_sections(
    located: anndata.AnnData, shares: Mapping[str, float], outer: int, seed: int
) -> pd.DataFrame:
    """Correlation of left-out genes with their maps, in each section by itself.

    Half of the cells, chosen at random, lose their places; the others are the map.

    Args:
        located: cells of known place.
        shares: of the sections.
        outer: folds of genes, left out before anything else.
        seed: of the halves and the folds.

    Returns:
        One row per way, section and gene: ``way``, ``section``, ``gene``, ``score``, ``n_locations``.
    """
    order = np.random.default_rng(seed).permutation(located.n_obs)
    lost, kept = (located[np.sort(half)].copy() for half in np.array_split(order, 2))
    del lost.obsm["spatial"]
    reference = cut(kept, shares)
    of = reference.obs["section"].to_numpy()

    def predicted(part: anndata.AnnData, **options: Any) -> pd.DataFrame:
        found = cross_validate(lost, part, outer=outer, seed=seed, progress=sys.stderr.isatty(), **options)
        return found.predictions.to_df(), pd.DataFrame(
            found.predictions.layers["reference"], part.obs_names, found.predictions.var_names
        )

    pooled, maps = predicted(reference, section_key="section")
    ignored, _ = predicted(reference)
    alone = pd.concat([predicted(reference[of == name].copy())[0] for name in shares])
    rows = []
    for way, table in (
        ("one fit, section_key", pooled),
        ("a fit of each", alone),
        ("sections ignored", ignored),
    ):
        for name in shares:
            here = reference.obs_names[of == name]
            scores = pearson_by_gene(table.loc[here, maps.columns].to_numpy(), maps.loc[here].to_numpy())
            rows.append(
                pd.DataFrame(
                    {
                        "way": way,
                        "section": name,
                        "gene": maps.columns,
                        "score": scores,
                        "n_locations": len(here),
                    }
                )
            )
    return pd.concat(rows).assign(seed=seed)
