"""Values of a map that were not measured, filled in by ridge regression on what else was measured there.

For a gene k with gaps, over the n locations o where it was measured, with all genes standardised,

    B = (Z_o' Z_o / n + penalty)^-1 Z_o' z_k / n,        z_k in the gaps = mean + (Z - mean) B,

Z the other genes, centred over o. Where several genes have gaps, Z holds what is filled in so far, and genes
are taken in turn until nothing changes. One penalty serves all genes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

__all__ = ["PENALTIES", "choose_penalty", "fill_gaps"]

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # in units of a gene's variance
_PENALTY = 0.1  # where nothing can be set aside
_SWEEPS = 30
_SETTLED = 0.01  # largest change of a sweep, in standard deviations of a gene
_ASKED, _STAND_INS = 24, 8  # genes whose gaps the penalty is chosen by, at most; genes that each is tried on


def fill_gaps(
    values: Float[np.ndarray, "locations genes"],
    measured: Bool[np.ndarray, "locations genes"],
    penalty: float,
    *,
    keep: Bool[np.ndarray, " genes"] | None = None,
) -> Float[np.ndarray, "locations genes"]:
    """The same values with the gaps filled; what was measured stays as it is.

    Args:
        values: log2 expression; what stands in a gap is not looked at.
        measured: whether each value was measured; two locations of every gene at least.
        penalty: of the regression, in units of a gene's variance.
        keep: genes to learn from and to fill; the others take no part, and their gaps are left at the mean.

    Returns:
        (locations, genes) of the same dtype. What is filled in lies within the range of the gene's measured
        values.
    """
    kept = np.flatnonzero(np.ones(values.shape[1], bool) if keep is None else keep)
    standard, mean, spread = _standardise(values, measured)
    z, known = standard[:, kept], measured[:, kept]
    low, high = (
        edge(np.where(known, z, default), axis=0) for edge, default in ((np.min, np.inf), (np.max, -np.inf))
    )
    open_genes = np.flatnonzero(~known.all(axis=0))
    products, sums = z.T @ z, z.sum(axis=0)
    for _ in range(_SWEEPS if len(open_genes) > 1 else 1):
        change = 0.0
        for gene in open_genes:
            gaps = np.flatnonzero(~known[:, gene])
            predicted = _predict(z, products, sums, gene, gaps, penalty)
            predicted = np.clip(predicted, low[gene], high[gene])
            change = max(change, float(np.abs(predicted - z[gaps, gene]).max()))
            z[gaps, gene] = predicted
            products[gene] = products[:, gene] = z.T @ z[:, gene]
            sums[gene] = z[:, gene].sum()
        if change < _SETTLED:
            break
    standard[:, kept] = z
    filled = (mean + standard * spread).astype(values.dtype)
    return np.where(measured, values, filled)


def choose_penalty(
    values: Float[np.ndarray, "locations genes"], measured: Bool[np.ndarray, "locations genes"]
) -> float:
    """The penalty that is best where values were measured but are set aside for the purpose.

    What is set aside has the shape of the gaps: where one gene was not measured, the values of another are
    predicted from those elsewhere. Values set aside at random would have measured neighbours in expression,
    which a whole region without values has not.

    Args:
        values: log2 expression; what stands in a gap is not looked at.
        measured: whether each value was measured.
    """
    z, _, _ = _standardise(values, measured)
    rng = np.random.default_rng(0)
    errors = np.zeros(len(PENALTIES))
    for gene in rng.permutation(np.flatnonzero(~measured.all(axis=0)))[:_ASKED]:
        gap = ~measured[:, gene]
        there = measured[gap].mean(axis=0) > 0.5  # genes that most of the gap has
        there[gene] = False
        for other in rng.permutation(np.flatnonzero(there))[:_STAND_INS]:
            learn, test = ~gap & measured[:, other], gap & measured[:, other]
            used = there & (np.arange(z.shape[1]) != other)
            if learn.sum() < 2 or not used.any():  # nowhere were both measured: nothing to learn from
                continue
            errors += _errors(z[learn][:, used], z[learn, other], z[test][:, used], z[test, other])
    return PENALTIES[int(errors.argmin())] if errors.any() else _PENALTY


def _errors(learn: np.ndarray, known: np.ndarray, test: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(penalties,) mean squared error of a ridge regression at what it was not shown."""
    centre, middle = learn.mean(axis=0), known.mean()
    some = learn - centre
    roots, axes = scipy.linalg.eigh(some.T @ some / len(some))
    cross = axes.T @ (some.T @ (known - middle)) / len(some)
    shrunk = cross[:, None] / (np.maximum(roots, 0.0)[:, None] + np.array(PENALTIES))
    predicted = middle + (test - centre) @ axes @ shrunk
    return ((truth[:, None] - predicted) ** 2).mean(axis=0)


def _standardise(values: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measured values with mean zero and variance one, gaps at zero; mean and spread of each gene."""
    number = measured.sum(axis=0)
    mean = np.where(measured, values, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(number, 1)
    deviation = np.where(measured, values - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=0) / np.maximum(number, 1))
    return deviation / np.where(spread > 0, spread, 1.0), mean, spread


def _predict(
    z: np.ndarray, products: np.ndarray, sums: np.ndarray, gene: Any, gaps: np.ndarray, penalty: float
) -> np.ndarray:
    """One gene in its gaps, by the others: sums over where it was measured are all less the gaps."""
    inside = z[gaps]
    number = len(z) - len(gaps)
    mean = (sums - inside.sum(axis=0)) / number
    covariance = (products - inside.T @ inside) / number - np.outer(mean, mean)
    others = np.delete(np.arange(z.shape[1]), gene)
    system = covariance[np.ix_(others, others)] + penalty * np.eye(len(others))
    coefficients = scipy.linalg.solve(system, covariance[others, gene], assume_a="pos")
    return mean[gene] + (inside[:, others] - mean[others]) @ coefficients
