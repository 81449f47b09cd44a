"""Spatial reconstruction of Halpern et al. (2017, Nature 542, 352), written from its description.

A landmark's expression among the cells of a zone follows a gamma distribution. A dissociated cell's molecules
are a Poisson sample of it in proportion to the cell's total: a gamma-Poisson (negative binomial) distribution
for each zone. Landmarks are independent given the zone; the areas of the zones are the prior. A gene's
profile is the mean over cells, weighted by the posterior, with its standard error.

Where each location of the map is one located cell, its distribution is the gamma posterior of its rate: the
prior is the gamma distribution over all locations, its molecules are one Poisson sample.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, logsumexp

from experiments.compare.contract import Cells, Prediction, Reference

__all__ = [
    "gamma_of_cells",
    "log_likelihood",
    "posterior",
    "predict",
    "sensitivities",
    "version",
    "zone_profiles",
]

_SHAPES = np.logspace(-1.0, 3.0, 33)  # of gamma distributions; the last is as good as a Poisson's rate


def version() -> str:
    """Own implementation."""
    return "own"


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: None = None) -> Prediction:
    """Predict; every location of the map is a zone, all alike before the cell is seen.

    Raises:
        ValueError: cells or map have no counts.
    """
    if reference.counts is None:
        raise ValueError("this method needs counts, and this data set has none for its map")
    counts = cells.counts_of(reference.genes)
    totals = cells.counts_of(cells.genes).sum(axis=1)
    # The map's counts were brought to one total: by how much says how much of a location was seen.
    seen, brought = reference.counts.sum(axis=1), reference.linear.sum(axis=1)
    sizes = np.divide(seen, brought, out=np.ones(len(seen)), where=brought > 0)
    shape, rate = gamma_of_cells(reference.counts, sizes)
    shapes, rates = shape + reference.counts, rate + sizes[:, None]
    prior = np.full(len(sizes), 1.0 / len(sizes))
    weights = posterior(log_likelihood(counts, totals, shapes, rates, prior), prior)
    profiles, _ = zone_profiles(np.exp2(cells.of(genes)) - 1.0, weights)
    return Prediction(np.log2(1.0 + np.maximum(profiles, 0.0)), lambda: weights)


def gamma_of_cells(counts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gamma distribution of each landmark's rate over cells, by maximum likelihood of its Poisson samples.

    Args:
        counts: (cells, landmarks) molecules, Poisson with mean size times rate.
        sizes: (cells,) positive.

    Returns:
        (landmarks,) shapes, one of a grid, and rates: of mean shape / rate and variance shape / rate^2.
    """
    # Half a molecule more: a landmark that was never seen here may still be there.
    mean = (counts.sum(axis=0) + 0.5) / sizes.sum()
    expected = sizes[:, None] * mean
    likelihood = [
        (gammaln(counts + r) - gammaln(r) - r * np.log1p(expected / r) - counts * np.log(r + expected)).sum(0)
        for r in _SHAPES
    ]
    shape = _SHAPES[np.argmax(likelihood, axis=0)]
    return shape, shape / mean


def sensitivities(
    counts: np.ndarray, totals: np.ndarray, shapes: np.ndarray, rates: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """(landmarks,) molecules of a dissociated cell per molecule of its total and unit of the map."""
    return counts.sum(axis=0) / totals.sum() / (prior @ (shapes / rates))


def log_likelihood(
    counts: np.ndarray, totals: np.ndarray, shapes: np.ndarray, rates: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Log probability of each cell's molecules in each zone, (cells, zones).

    Args:
        counts: (cells, landmarks) molecules.
        totals: (cells,) molecules of all genes.
        shapes: (zones, landmarks) of the gamma distributions.
        rates: (zones, landmarks) likewise.
        prior: (zones,) share of the cells; it says which mean over zones the cells should have.
    """
    factors = sensitivities(counts, totals, shapes, rates, prior)
    found = np.zeros((len(counts), len(shapes)))
    for gene in np.flatnonzero(factors > 0):  # a landmark that no cell has says nothing
        shape, rate, seen = shapes[:, gene], rates[:, gene], counts[:, gene]
        exposure = totals * factors[gene]
        values, at = np.unique(seen, return_inverse=True)
        table = gammaln(values[:, None] + shape) - gammaln(shape) - gammaln(values + 1.0)[:, None]
        found += table[at] + seen[:, None] * (np.log(exposure)[:, None] - np.log(rate))
        found -= (shape + seen[:, None]) * np.log1p(exposure[:, None] / rate)
    return found


def posterior(log_likelihood: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(cells, zones) probability of each zone; rows sum to one."""
    joint = log_likelihood + np.log(prior)
    return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def zone_profiles(expression: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean expression in each zone, and its standard error.

    The publication draws cells with replacement; this is the limit of many draws (linearised bootstrap).

    Args:
        expression: (cells, genes), linear.
        weights: (cells, zones) posterior.

    Returns:
        Two arrays (zones, genes).
    """
    shares = weights / np.maximum(weights.sum(axis=0), 1e-300)
    means, squares = shares.T @ expression, shares.T**2
    spread = squares @ expression**2 - 2.0 * means * (squares @ expression)
    spread += means**2 * squares.sum(axis=1, keepdims=True)
    return means, np.sqrt(np.maximum(spread, 0.0))
