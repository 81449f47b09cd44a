"""Scores of a predicted pattern: pure array functions, one value per gene, over locations.

Arrays are (locations, genes). A score that is not defined for a gene (constant prediction, reference with one
class) is NaN for that gene, so that the caller decides; ``average_correlation`` takes the mean over the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import rel_entr
from scipy.stats import rankdata

from perler_jax._typing import Bool, Float, Int, Shaped
from perler_jax.errors import PerlerInputError

__all__ = [
    "average_correlation",
    "correlations",
    "js_divergence_by_gene",
    "morans_i",
    "pearson_by_gene",
    "position_error",
    "rmse_of_z_by_gene",
    "roc_auc_by_gene",
    "ssim_by_gene",
]

Patterns = Float[np.ndarray, "locations genes"]
ByGene = Float[np.ndarray, " genes"]


def pearson_by_gene(prediction: Patterns, reference: Patterns) -> ByGene:
    """Pearson correlation of each gene over locations; NaN where either side is constant (to rounding).

    Args:
        prediction: (locations, genes).
        reference: (locations, genes), the same genes.

    Returns:
        (genes,) between -1 and 1.
    """
    centred_prediction, centred_reference = _centred(prediction), _centred(reference)
    norms = np.linalg.norm(centred_prediction, axis=0) * np.linalg.norm(centred_reference, axis=0)
    products = (centred_prediction * centred_reference).sum(0)
    return np.divide(products, norms, out=np.full(norms.shape, np.nan), where=norms > 0)


def correlations(
    one: Float[np.ndarray, "locations genes"],
    other: Float[np.ndarray, "locations other_genes"],
    measured: Bool[np.ndarray, "locations genes"] | None = None,
    other_measured: Bool[np.ndarray, "locations other_genes"] | None = None,
) -> Float[np.ndarray, "genes other_genes"]:
    """Pearson correlation of every gene of one table with every gene of another, over locations.

    Args:
        one: (locations, genes).
        other: (locations, other genes).
        measured: whether each value of the one was measured; None: all were. A pair is compared where both
            were.
        other_measured: of the other.

    Returns:
        (genes, other genes); NaN where a gene does not vary at the locations of the pair.
    """
    w, v = (
        np.ones((len(each), 1)) if mask is None else mask.astype(np.float64)
        for each, mask in ((one, measured), (other, other_measured))
    )
    # Pairwise sums of whichever values count; taken off the mean first, so that few digits are lost.
    x, y = ((each - each.mean(axis=0)) * count for each, count in ((one, w), (other, v)))
    number = w.T @ v
    sums_x, sums_y = x.T @ v, w.T @ y
    squares_x, squares_y = (x**2).T @ v, w.T @ y**2
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = x.T @ y - sums_x * sums_y / number
        spread = (squares_x - sums_x**2 / number) * (squares_y - sums_y**2 / number)
        return np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 0.0)), np.nan)


def average_correlation(prediction: Patterns, reference: Patterns) -> float:
    """The paper's aCC: mean over genes of the Pearson correlation; NaN if it is defined for no gene.

    Genes whose correlation is undefined are left out, which flatters a method that predicts constants: report
    their number beside it.

    Args:
        prediction: (locations, genes).
        reference: (locations, genes), the same genes.

    Returns:
        Between -1 and 1.
    """
    correlations = pearson_by_gene(prediction, reference)
    defined = np.isfinite(correlations)
    return float(correlations[defined].mean()) if defined.any() else float("nan")


def roc_auc_by_gene(
    prediction: Patterns, binary: Float[np.ndarray, "locations genes"] | Bool[np.ndarray, "locations genes"]
) -> ByGene:
    """Area under the ROC curve of each gene against a 0/1 reference; ties count one half.

    The Mann-Whitney statistic: the probability that a random location with the gene on is predicted above a
    random one with it off. NaN where the reference is on everywhere or nowhere.

    Args:
        prediction: (locations, genes).
        binary: (locations, genes) zeros and ones.

    Returns:
        (genes,) between 0 and 1; 0.5 is chance.

    Raises:
        PerlerInputError: the reference has values other than 0 and 1.
    """
    on = binary.astype(np.float64)
    if not np.all((on == 0) | (on == 1)):
        raise PerlerInputError("Expected a reference of 0 and 1, found other values. Threshold it first.")
    n_on = on.sum(0)
    pairs = n_on * (len(on) - n_on)
    wins = (rankdata(prediction, axis=0) * on).sum(0) - n_on * (n_on + 1) / 2
    return np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)


def ssim_by_gene(prediction: Patterns, reference: Patterns) -> ByGene:
    """Structural similarity with one global window on max-scaled values (Li et al. 2022, Nature Methods).

    Each side is divided by its maximum, so L = 1, C1 = 0.01^2, C2 = 0.03^2, C3 = C2 / 2. NaN where a side is
    zero everywhere.

    Args:
        prediction: (locations, genes).
        reference: (locations, genes), the same genes.

    Returns:
        (genes,) at most 1.

    Raises:
        PerlerInputError: negative or non-finite values: z-scores and centred data have no such scale.
    """
    x, y = _scaled_by(np.max, prediction, "prediction"), _scaled_by(np.max, reference, "reference")
    c1, c2 = 0.01**2, 0.03**2
    c3 = c2 / 2
    mean_x, mean_y, sd_x, sd_y = x.mean(0), y.mean(0), x.std(0), y.std(0)
    covariance = ((x - mean_x) * (y - mean_y)).mean(0)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * sd_x * sd_y + c2) / (sd_x**2 + sd_y**2 + c2)
    return luminance * contrast * (covariance + c3) / (sd_x * sd_y + c3)


def js_divergence_by_gene(prediction: Patterns, reference: Patterns) -> ByGene:
    """Jensen-Shannon divergence, in nats (0 to ln 2), between the sum-normalised patterns of each gene.

    NaN where a side is zero everywhere.

    Args:
        prediction: (locations, genes).
        reference: (locations, genes), the same genes.

    Returns:
        (genes,) nats.

    Raises:
        PerlerInputError: negative or non-finite values.
    """
    p, q = _scaled_by(np.sum, prediction, "prediction"), _scaled_by(np.sum, reference, "reference")
    middle = (p + q) / 2
    return (rel_entr(p, middle).sum(0) + rel_entr(q, middle).sum(0)) / 2


def rmse_of_z_by_gene(prediction: Patterns, reference: Patterns) -> ByGene:
    """Root mean squared difference of the z-scored patterns (Li et al. 2022).

    Equal to sqrt(2 (1 - r)) with r the Pearson correlation, and computed as such: it adds no information.

    Args:
        prediction: (locations, genes).
        reference: (locations, genes), the same genes.

    Returns:
        (genes,) in standard deviations, 0 to 2.
    """
    # Rounding can leave r a hair above 1.
    return np.sqrt(np.maximum(2 * (1 - pearson_by_gene(prediction, reference)), 0))


def morans_i(
    values: Patterns,
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    n_neighbors: int = 6,
    sections: Shaped[np.ndarray, " locations"] | None = None,
) -> ByGene:
    """Moran's I of each gene over the graph of nearest neighbours: 1 smooth, 0 random, below 0 alternating.

    Every location gives equal weights, summing to one, to its ``n_neighbors`` nearest others. NaN where the
    gene is constant.

    Args:
        values: (locations, genes).
        coordinates: of the locations, in any unit.
        n_neighbors: of each location.
        sections: name of the section that each location lies in: neighbours are of the same one, fewer where
            it is smaller; None: they are one.

    Returns:
        (genes,).

    Raises:
        PerlerInputError: not between 1 and locations - 1 neighbours.
    """
    if not 1 <= n_neighbors < len(coordinates):
        raise PerlerInputError(
            f"Expected between 1 and {len(coordinates) - 1} neighbours (locations - 1), found {n_neighbors}."
        )
    centred = _centred(values)
    lagged = np.zeros_like(centred)
    codes = (
        np.zeros(len(coordinates), int) if sections is None else np.unique(sections, return_inverse=True)[1]
    )
    for rows in (np.flatnonzero(codes == each) for each in range(codes.max() + 1)):
        n = min(n_neighbors, len(rows) - 1)
        neighbours = rows[_nearest_others(coordinates[rows], n)]
        for column in neighbours.T:  # over neighbours (6), so nothing of size locations x genes x neighbours
            lagged[rows] += centred[column] / n
    squares = (centred**2).sum(0)
    products = (centred * lagged).sum(0)
    return np.divide(products, squares, out=np.full(squares.shape, np.nan), where=squares > 0)


def _nearest_others(coordinates: np.ndarray, n: int) -> np.ndarray:
    """(locations, n) nearest other locations of each."""
    neighbours = cKDTree(coordinates).query(coordinates, k=n + 1)[1].reshape(len(coordinates), n + 1)
    # The location itself need not come first where several share a position: drop it by name, else the last.
    own = neighbours == np.arange(len(coordinates))[:, None]
    own[~own.any(1), -1] = True
    return neighbours[~own].reshape(len(coordinates), n)


def position_error(
    coordinates: Float[np.ndarray, "locations dimensions"],
    predicted: Float[np.ndarray, "cells dimensions"] | Int[np.ndarray, " cells"],
    truth: Float[np.ndarray, "cells dimensions"] | Int[np.ndarray, " cells"],
) -> Float[np.ndarray, " cells"]:
    """Distance between the predicted and the true position of each cell, in the unit of the coordinates.

    Args:
        coordinates: positions of the locations.
        predicted: a location index or a position per cell.
        truth: the same.

    Returns:
        (cells,) in the unit of the coordinates.
    """
    return np.linalg.norm(_positions(coordinates, predicted) - _positions(coordinates, truth), axis=1)


def _positions(coordinates: np.ndarray, where: np.ndarray) -> np.ndarray:
    if where.ndim == 2:
        return where
    if where.size and (where.min() < 0 or where.max() >= len(coordinates)):
        raise PerlerInputError(
            f"Expected location indices from 0 to {len(coordinates) - 1}, "
            f"found {where.min()} to {where.max()}."
        )
    return coordinates[where]


def _centred(values: np.ndarray) -> np.ndarray:
    """Float64 deviations from the mean, exactly 0 for a constant gene.

    A weighted mean of equal numbers varies in its last digits: without the tolerance that noise would be
    correlated as if it were a pattern.
    """
    tolerance = 16 * np.finfo(values.dtype).eps * np.abs(values).max(0)
    values = values.astype(np.float64)
    centred = values - values.mean(0)
    centred[:, np.ptp(values, axis=0) <= tolerance] = 0.0
    return centred


def _scaled_by(total: Callable[..., np.ndarray], values: np.ndarray, what: str) -> np.ndarray:
    values = values.astype(np.float64)
    if not np.all((values >= 0) & (values < np.inf)):
        raise PerlerInputError(
            f"Expected a {what} on a finite, non-negative scale, found negative or non-finite values. "
            "Score it before centring or z-scoring."
        )
    scale = total(values, axis=0)
    return np.divide(values, scale, out=np.full(values.shape, np.nan), where=scale > 0)
