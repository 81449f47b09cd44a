"""What the cells, the mapping and the reference say of how far a gene's prediction can be believed.

None of it looks at the gene's own reference, so that it can be had for every gene of the cells.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped

from perler_jax.prediction.predictor import Predictor
from perler_jax.prediction.regression import regression_coefficients, standard_landmarks
from perler_jax.reconstruction import zscore
from perler_jax.scores.metrics import correlations, morans_i, pearson_by_gene
from perler_jax.trust.split_halves import SplitHalves

__all__ = ["SIGNALS", "gene_signals", "reference_agreement"]

SIGNALS = ("split_half", "spatial_share", "morans_i", "agreement_predicted", "regression_agreement")

# Penalty of the regression on landmarks, in units of their variance. Between 0.5 and 8 it hardly matters.
_RIDGE = 2.0

Patterns = Float[np.ndarray, "locations genes"]


def gene_signals(
    predictor: Predictor,
    plain: Predictor,
    names: Shaped[np.ndarray, " genes"],
    values: Float[np.ndarray, "cells genes"],
    halves: SplitHalves,
    coordinates: Float[np.ndarray, "locations dimensions"] | None,
    *,
    sections: Shaped[np.ndarray, " locations"] | None = None,
    measured: Bool[np.ndarray, "locations landmarks"] | None = None,
    width: int | None = None,
) -> dict[str, Float[np.ndarray, " genes"]]:
    """Signals of a block of genes; NaN where one is not defined (a gene that does not vary, no coordinates).

    Args:
        predictor: of the fit or a fold, that has not seen the genes as landmarks.
        plain: the paper's weighted mean of the same.
        names: of the genes.
        values: centred log2 expression.
        halves: of the predictor.
        coordinates: of the locations.
        sections: name of the section that each location lies in; None: they are one.
        measured: whether each value of the landmarks' maps was measured; None: all were.
        width: pad the block to so many genes, see `Predictor.total`; None: the genes are few.

    Returns:
        ``split_half``: correlation over locations of the patterns that two halves of the cells give, before
            they are smoothed, carried to all cells by Spearman and Brown's formula; 0 where they disagree.
        ``spatial_share``: covariance of these patterns over the variance between cells: the share of that
            variance which location tells. The halves share no cell, so noise adds nothing to it on average.
        ``morans_i``: of the prediction. The weights make any prediction smooth: never read it alone.
        ``agreement_predicted``: correlation, over landmarks, of the gene's correlations with them among cells
            and of its predicted pattern's correlations with theirs in the reference.
        ``regression_agreement``: correlation of the weighted mean with the pattern that a regression on
            landmarks among the cells carries over through the reference.
    """
    whole = (
        predictor.predict_few(names, values)
        if width is None
        else predictor.predict(names, values, width=width)
    )
    between = values.var(axis=0)
    products, agreed = np.zeros(len(between)), np.zeros(len(between))
    for one, other in halves.patterns(names, values, width=width):
        products += ((one - one.mean(axis=0)) * (other - other.mean(axis=0))).mean(axis=0) / len(halves.rows)
        agreed += pearson_by_gene(one, other) / len(halves.rows)
    halved = np.maximum(agreed, 0.0)
    averaged = plain.total(values, width=width)
    return {
        "split_half": 2 * halved / (1 + halved),
        "spatial_share": np.divide(products, between, out=np.full(len(between), np.nan), where=between > 0),
        "morans_i": np.full(len(between), np.nan)
        if coordinates is None
        else morans_i(whole, coordinates, sections=sections),
        "agreement_predicted": _agreement(predictor, values, whole, measured),
        "regression_agreement": pearson_by_gene(averaged, _regressed(predictor, values)),
    }


def reference_agreement(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    measured: Bool[np.ndarray, "locations landmarks"] | None = None,
) -> Float[np.ndarray, " landmarks"]:
    """Agreement of each landmark's correlations with the others: among cells against in the reference.

    Needs no fit: what it shows is where cells and reference tell of different patterns. Two landmarks are
    compared at the locations where both were measured.
    """
    among, placed = np.corrcoef(cells, rowvar=False), correlations(reference, reference, measured, measured)
    if measured is not None:  # landmarks that were never measured together do not speak of each other
        placed = np.nan_to_num(placed)
    others = ~np.eye(len(among), dtype=bool)
    pairs = [each[others].reshape(len(among), -1).T for each in (among, placed)]
    return pearson_by_gene(*pairs)


def _agreement(
    predictor: Predictor, values: np.ndarray, pattern: Patterns, measured: np.ndarray | None
) -> Float[np.ndarray, " genes"]:
    """Correlations with landmarks among cells against those of the pattern in the reference."""
    kept = predictor.kept
    among = standard_landmarks(predictor.cells[:, kept]).T @ zscore(values) / len(values)
    known = None if measured is None else measured[:, kept]
    placed = correlations(standard_landmarks(predictor.reference[:, kept]), pattern, known)
    return pearson_by_gene(among, placed)


def _regressed(predictor: Predictor, values: np.ndarray) -> Patterns:
    """What landmarks explain of the genes among the cells, carried over by the reference."""
    cells, reference = (
        standard_landmarks(side[:, predictor.kept]) for side in (predictor.cells, predictor.reference)
    )
    return reference @ regression_coefficients(cells, values, _RIDGE)
