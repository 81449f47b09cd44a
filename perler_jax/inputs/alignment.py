"""Batches of cells (donors, runs, chips) brought to one level, gene by gene, as far as the data ask for it.

In log2 expression a gene g has a background d_jg and a spread s_jg of its own in every batch j:

    y_ng = m_g + c_jg + d_jg + s_jg e_ng,

with c_jg what comes of the places that the cells of batch j are from. Means of batches differ for two
reasons. Their cells may be from other places: such a difference lies in directions in which the cells of one
batch differ among themselves, c_j ~ N(0, kappa_j S), S the correlations of landmarks within batches. Or they
were made otherwise: that falls on every gene by itself, d_j ~ N(0, tau_j^2), in units of a gene's spread
within batches. kappa_j (with a weak prior) and tau_j are those under which the differences of the landmarks
are likeliest (empirical Bayes), and what is taken off is what is then expected of d_j: nothing where batches
do not differ, nearly all of the difference where only the making does. ln s_jg is drawn to zero in the same
way, unless batches differ in it as technologies do. No map is looked at, so that a landmark that is held out
is held out.

Note: the paper has no batches. `perler_jax.inference.batches` pools sensitivity, background and noise of each
metagene over mappings of every batch; here it is done to genes and before any fit, so that nothing that
follows needs to know of it. A spread counts for sensitivity and noise at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import minimize

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.interface import argument
from perler_jax.inputs.storage import dense_float

__all__ = ["FEWEST_CELLS", "BatchAlignment", "align_batches"]

logger = logging.getLogger("perler_jax")

FEWEST_CELLS = 10  # of a batch, of which means and spreads can be told
# Mean of an exponential prior on kappa, as landmarks are few: a donor of other places than the rest has about
# so much. Chosen on simulated embryos (seeds 0 to 7); between 0.02 and 0.1 it hardly matters.
_PLACES = 0.05
# Factor between spreads of genes, one standard deviation, from which they are left alone: brought to the
# spread of the others, cells of a poor technology would count as much as those of a good one.
_AS_TECHNOLOGIES = 1.6
_STARTS = ((-6.0, -8.0), (-6.0, -2.0), (-2.0, -8.0), (-2.0, -2.0))  # ln kappa, ln tau^2


@dataclass(frozen=True, eq=False, repr=False)
class BatchAlignment:
    """What takes batches off, applied to any genes of the same cells.

    Attributes:
        key: column of ``obs`` that names the batches.
        names: (batches,) their names.
        codes: (cells,) the batch of each cell, as its place among the names.
        contrasts: (cells, batches) how far a cell lies in the direction in which a batch has cells from other
            places; the covariance of a gene with it is the part of its difference that is kept.
        origin: (batches,) kappa, how much batches differ in where their cells are from.
        background: (batches,) tau^2, variance of what is taken off, in units of a gene's variance.
        spread: (batches,) variance of ln s between genes; zero where spreads are left as they are.
    """

    key: str
    names: Shaped[np.ndarray, " batches"]
    codes: Int[np.ndarray, " cells"]
    contrasts: Float[np.ndarray, "cells batches"]
    origin: Float[np.ndarray, " batches"]
    background: Float[np.ndarray, " batches"]
    spread: Float[np.ndarray, " batches"]

    def __repr__(self) -> str:
        told = ", ".join(
            f"{name} ({np.sqrt(each):.2g})" for name, each in zip(self.names, self.background, strict=True)
        )
        return f"BatchAlignment({self.key}: {told})"

    def apply(self, values: Any) -> Float[np.ndarray, "cells genes"]:
        """Log2 expression of any genes of all cells with what batches changed taken off, dense.

        Args:
            values: (cells, genes) log2 expression, dense or sparse.

        Returns:
            (cells, genes) in the dtype of the values; the mean of a gene over all cells is as it was, as
            nearly as batches allow.
        """
        y = dense_float(values)
        mean, difference, rest, counts = _within(y, self.codes, len(self.names))
        kept = self.contrasts.T @ rest / (len(y) - len(counts))
        shrink = self.background / (self.background + 1.0 / counts)
        off = shrink[:, None] * (difference - kept)
        factor = np.exp(_log_spread(rest, self.codes, counts, self.spread))
        aligned = mean + (y - mean - off[self.codes]) / factor[self.codes]
        return np.asarray(aligned, y.dtype)

    def describe(self) -> dict[str, Any]:
        """Cells of each batch, and how much was taken off, as plain values.

        Returns:
            ``batch_key``, ``cells``, ``background`` and ``spread``: standard deviations over genes, the first
            in units of a gene's own, the second of the natural logarithm.
        """
        names, counts = list(map(str, self.names)), np.bincount(self.codes, minlength=len(self.names))
        return {
            "batch_key": self.key,
            "cells": dict(zip(names, map(int, counts), strict=True)),
            "background": dict(zip(names, map(float, np.sqrt(self.background)), strict=True)),
            "spread": dict(zip(names, map(float, np.sqrt(self.spread)), strict=True)),
        }


def align_batches(
    landmarks: Float[np.ndarray, "cells landmarks"], batches: Shaped[np.ndarray, " cells"], key: str
) -> BatchAlignment:
    """Learn from landmarks how batches differ.

    Args:
        landmarks: log2 expression of the landmarks in all cells.
        batches: (cells,) name of the batch of each.
        key: column that names them.

    Raises:
        PerlerInputError: fewer than two batches, or one with fewer than `FEWEST_CELLS` cells.
    """
    names, codes = np.unique(np.asarray(batches).astype(str), return_inverse=True)
    counts = np.bincount(codes)
    if len(names) < 2 or counts.min() < FEWEST_CELLS:
        raise PerlerInputError(
            f"expected two batches or more of {FEWEST_CELLS} cells at least; found "
            f"{', '.join(f'{name} ({n})' for name, n in zip(names, counts, strict=True))}; join or leave out"
        )
    y = np.asarray(landmarks, np.float64)
    _, difference, rest, _ = _within(y, codes, len(names))
    free = len(y) - len(names)
    spread = np.sqrt((rest**2).sum(axis=0) / free)
    spread = np.where(spread > 0, spread, 1.0)
    rest, difference = rest / spread, difference / spread
    roots, axes = np.linalg.eigh(rest.T @ rest / free)
    roots = np.maximum(roots, 0.0)
    contrasts = np.zeros((len(y), len(names)))
    origin, background = np.zeros(len(names)), np.zeros(len(names))
    for at, count in enumerate(counts):
        along = axes.T @ difference[at]
        origin[at], background[at] = _likeliest(along, roots, 1.0 / count)
        contrasts[:, at] = rest @ (axes @ (origin[at] * along / (origin[at] * roots + background[at])))
    between = _spread_between(rest, codes, counts)
    wide = between > np.log(_AS_TECHNOLOGIES) ** 2
    if wide.any():
        logger.warning(
            "genes spread %.1f-fold apart in the batches of %r, as by different technologies rather than "
            "donors: spreads are left as they are; compare the nested score with that of a fit without %s, "
            "and of each batch alone",
            *(float(np.exp(np.sqrt(between.max()))), key, argument("batch_key", key)),
        )
    spreads = np.where(wide, 0.0, between)
    return BatchAlignment(key, names, codes, contrasts, origin, background, spreads)


def _within(
    y: np.ndarray, codes: np.ndarray, n_batches: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of every gene, how far that of each batch is from it, what is left of each cell, sizes."""
    counts = np.bincount(codes, minlength=n_batches)
    means = np.stack([y[codes == each].mean(axis=0, dtype=np.float64) for each in range(n_batches)])
    mean = counts @ means / counts.sum()
    return mean, means - mean, y - means[codes], counts


def _likeliest(
    along: Float[np.ndarray, " axes"], roots: Float[np.ndarray, " axes"], sampling: float
) -> tuple[float, float]:
    """Values of kappa and tau^2 of one batch; kappa is at least what drawing so few cells makes of it."""

    def surprise(at: np.ndarray) -> float:
        variance = (np.exp(at[0]) + sampling) * roots + np.exp(at[1])
        return float(0.5 * (np.log(variance) + along**2 / variance).sum() + np.exp(at[0]) / _PLACES)

    found = [minimize(surprise, start, method="Nelder-Mead") for start in _STARTS]
    best = min(found, key=lambda each: each.fun).x
    return float(np.exp(best[0])) + sampling, float(np.exp(best[1]))


def _moments(
    rest: np.ndarray, codes: np.ndarray, counts: np.ndarray
) -> tuple[Float[np.ndarray, "batches genes"], Float[np.ndarray, "batches genes"]]:
    """Logarithm of each batch's spread over that of all; variance of its error, infinite where not known."""
    squares = np.stack([(rest[codes == each] ** 2).mean(axis=0) for each in range(len(counts))])
    fourth = np.stack([(rest[codes == each] ** 4).mean(axis=0) for each in range(len(counts))])
    whole = counts @ squares / counts.sum()
    known = squares > 1e-12 * whole
    ratio = np.where(known, squares, 1.0) / np.where(known, whole, 1.0)
    peak = np.where(known, fourth, 1.0) / np.where(known, squares, 1.0) ** 2
    error = np.where(known, np.maximum(peak - 1.0, 0.0) / (4.0 * counts[:, None]), np.inf)
    return 0.5 * np.log(ratio), error


def _spread_between(rest: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Float[np.ndarray, " batches"]:
    """Variance of ln s over the landmarks, beyond its error."""
    logs, error = _moments(rest, codes, counts)
    known = np.isfinite(error)
    excess = np.where(known, logs**2 - np.where(known, error, 0.0), 0.0).sum(axis=1)
    return np.maximum(excess / np.maximum(known.sum(axis=1), 1), 0.0)


def _log_spread(
    rest: np.ndarray, codes: np.ndarray, counts: np.ndarray, between: Float[np.ndarray, " batches"]
) -> Float[np.ndarray, "batches genes"]:
    """Logarithm of s, of every batch and gene, drawn to zero."""
    logs, error = _moments(rest, codes, counts)
    wide = np.broadcast_to(between[:, None], error.shape)
    return logs * np.divide(wide, wide + error, out=np.zeros(error.shape), where=wide > 0)
