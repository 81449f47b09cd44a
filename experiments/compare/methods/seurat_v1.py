"""Seurat, first version (Satija et al. 2015, Nature Biotechnology 33, 495), written from its description.

1. Landmarks of cells are imputed from variable genes by L1-penalised regression.
2. Two normal distributions, on and off, are fitted to each imputed landmark, started from the share of bins
   where it is on. They give each bin of a binary map a likelihood, and each cell a posterior over bins.
3. Refinement: genes that lead the first principal components have, in each bin, a multivariate normal
   distribution, of the cells whose mean position is nearest to the bin; posterior over bins anew.
4. A bin's expression of any gene is the mean over cells, weighted by the posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import logsumexp
from scipy.stats import norm

from experiments.compare.contract import Cells, Prediction, Reference
from experiments.compare.levels import standard
from experiments.compare.methods.lasso import lasso
from experiments.compare.methods.on_off import on_off

__all__ = ["bin_posterior", "impute", "leading_genes", "predict", "refine", "two_normals", "version"]

_VARIABLE = 500  # genes that may impute
_STEPS = 40  # of the lasso's path
_COMPONENTS, _PER_COMPONENT = 3, 6  # genes of the refinement
_RIDGE = 0.1  # of a bin's covariance, in units of each gene's variance: it is of few cells


def version() -> str:
    """Own implementation."""
    return "own"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: Sequence[Any]) -> Prediction:
    """Predict.

    The knob: the quantile over locations above which a landmark is on (0: the published binary map), and
    whether the posterior is refined.
    """
    quantile, refined = knob
    at = {name: number for number, name in enumerate(cells.genes.tolist())}
    landmarks = np.array([at[name] for name in reference.genes.tolist()])
    variable = np.argsort(-cells.log.var(axis=0), kind="stable")[:_VARIABLE]
    expression = impute(cells.log, landmarks, variable)
    weights = bin_posterior(expression, on_off(reference, quantile))
    if refined:
        leading = leading_genes(cells.log, variable)
        weights = refine(impute(cells.log, leading, variable), weights, reference.coordinates)
    values, mass = cells.of(genes), weights.sum(axis=0)[:, None] + 1e-12
    means = (weights.T @ values + 1e-12 * values.mean(axis=0)) / mass
    return Prediction(means, lambda: weights)


def impute(expression: np.ndarray, targets: np.ndarray, predictors: np.ndarray) -> np.ndarray:
    """Each target's expression as the other genes predict it.

    Args:
        expression: (cells, genes) log expression.
        targets: indices of the genes to impute.
        predictors: indices of the genes that may predict; a target never predicts itself.

    Returns:
        (cells, targets).
    """
    scaled = standard(expression[:, predictors])
    means = expression[:, targets].mean(axis=0)
    gram = scaled.T @ scaled
    cross = scaled.T @ (expression[:, targets] - means)
    coefficients = np.zeros_like(cross)
    for number, target in enumerate(targets):
        others = np.flatnonzero(predictors != target)
        coefficients[others, number] = lasso(gram[np.ix_(others, others)], cross[others, number], _STEPS)
    return means + scaled @ coefficients


def two_normals(values: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the normal distributions off and on.

    Started from the highest cells as on, as many as the share of bins; then one round of EM, as the authors'
    call has it: more rounds look for two clumps of cells wherever they are, not for on and off.

    Args:
        values: (cells,) imputed expression.
        share: of the bins where the landmark is on.
    """
    share = float(np.clip(share, 2.0 / len(values), 1.0 - 2.0 / len(values)))
    least = 0.05 * values.std() + 1e-6
    on = (values > np.quantile(values, 1.0 - share)).astype(float)
    for _ in range(2):
        both = np.stack([1.0 - on, on])
        totals = np.maximum(both.sum(axis=1), 1e-6)
        means = both @ values / totals
        deviations = np.sqrt((both * (values - means[:, None]) ** 2).sum(axis=1) / totals)
        deviations = np.maximum(deviations, least)
        joint = norm.logpdf(values, means[:, None], deviations[:, None]) + np.log(totals)[:, None]
        on = np.exp(joint[1] - logsumexp(joint, axis=0))
    return means, deviations


def bin_posterior(imputed: np.ndarray, atlas: np.ndarray) -> np.ndarray:
    """Posterior over bins from each landmark's two distributions.

    Args:
        imputed: (cells, landmarks).
        atlas: (bins, landmarks) on or off.

    Returns:
        (cells, bins), rows sum to one.
    """
    log_odds = np.zeros(imputed.shape)
    for gene, column in enumerate(imputed.T):
        means, deviations = two_normals(column, atlas[:, gene].mean())
        off, on = norm.logpdf(column, means[:, None], deviations[:, None])
        log_odds[:, gene] = on - off
    return _normalised(log_odds @ atlas.T.astype(float))  # what is the same in all bins falls out


def leading_genes(expression: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Genes of the highest and lowest loadings, as many of each, of the first principal components."""
    loadings = np.linalg.svd(standard(expression[:, among]), full_matrices=False)[2][:_COMPONENTS]
    half = _PER_COMPONENT // 2
    order = np.argsort(loadings, axis=1)
    ends = np.concatenate([order[:, :half], order[:, -half:]], axis=1)
    return among[np.unique(ends)]


def refine(imputed: np.ndarray, weights: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Posterior over bins from a multivariate normal distribution in each.

    Args:
        imputed: (cells, genes).
        weights: (cells, bins) first posterior.
        coordinates: (bins, axes).

    Returns:
        (cells, bins), rows sum to one.
    """
    n_genes = imputed.shape[1]
    near = cKDTree(weights @ coordinates).query(coordinates, min(2 * n_genes, len(imputed)))[1]
    ridge = np.diag(_RIDGE * imputed.var(axis=0) + 1e-9)
    found = np.empty((len(imputed), len(coordinates)))
    for place, members in enumerate(near):
        own = imputed[members]
        factor = np.linalg.cholesky(np.cov(own, rowvar=False).reshape(n_genes, n_genes) + ridge)
        scaled = np.linalg.solve(factor, (imputed - own.mean(axis=0)).T)
        found[:, place] = -0.5 * (scaled**2).sum(axis=0) - np.log(np.diag(factor)).sum()
    return _normalised(found)


def _normalised(joint: np.ndarray) -> np.ndarray:
    return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
