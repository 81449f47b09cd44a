"""Results with what to believe of them: reliability of every gene with its reason, errors if asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import jax
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression
from perler_jax.trust.reliability import gene_reliability
from perler_jax.trust.summary import summarise

__all__ = ["believable_result", "flag_counts"]

logger = logging.getLogger("perler_jax")

# Pairs of halves of the cells. Of 1488 genes of the fly 9 have another flag than by four pairs, which take
# 1.8 times the work; by four pairs of another seed it is 16.
_SPLITS = 2
_THERE = ("is_landmark", "nested")  # in every result, the second as score_nested


def believable_result(
    fit: PerlerFit,
    genes: Sequence[str] | None = None,
    *,
    standardise: bool = False,
    trust: bool = False,
    reliability: bool = True,
    cells: CellExpression | None = None,
    progress: bool = False,
) -> AnnData:
    """A result with columns of `gene_reliability` in ``var``.

    Args:
        fit: a fit.
        genes: names; None is every gene of the cells.
        standardise: z-score each gene over locations.
        trust: add the layers of `summarise`: standard errors and 90 % intervals.
        reliability: add what to believe of every gene.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        progress: show progress bars.

    Raises:
        PerlerInputError: errors of z-scores are asked for; whatever `summarise` refuses.
    """
    if trust and standardise:
        raise PerlerInputError(
            "expected --trust or --z-score; found both: errors and intervals are those of log2 "
            "expression; leave one out"
        )
    expression = fit.expression(cells)
    if trust:
        result = summarise(fit, genes, cells=expression, progress=progress)
    else:
        result = fit.reconstruct(genes, standardise=standardise, cells=expression, progress=progress)
    if not reliability:
        return result
    if jax.process_count() > 1:
        logger.warning(
            "no reliability of genes is written by several processes: `perler-jax reconstruct` adds it"
        )
        return result
    try:
        names = list(result.var_names)
        told = gene_reliability(fit, names, seed=0, splits=_SPLITS, cells=expression, progress=progress)
    except PerlerInputError as error:
        logger.warning("the result says nothing of the reliability of genes: %s", error)
        return result
    for column in told.columns.drop(list(_THERE)):
        values = told[column]
        result.var[column] = (
            values.astype(float) if isinstance(values.dtype, pd.Int64Dtype) else values.to_numpy()
        )
    return result


def flag_counts(result: AnnData) -> str:
    """How many genes are good, doubtful and poor, in words; empty where nothing is known."""
    if "flag" not in result.var:
        return ""
    counts = result.var["flag"].astype(str).value_counts()
    return ", ".join(f"{counts.get(each, 0)} {each}" for each in ("good", "doubtful", "poor"))
