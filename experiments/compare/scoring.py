"""From predictions to a tidy table: a knob chosen for each fold, scores per gene, intervals over genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.compare.problems import Problem
from experiments.compare.runner import Run
from perler_jax.errors import PerlerInputError
from perler_jax.reconstruction import zscore
from perler_jax.scores.metrics import (
    js_divergence_by_gene,
    morans_i,
    pearson_by_gene,
    rmse_of_z_by_gene,
    ssim_by_gene,
)

__all__ = ["Scored", "bootstrap", "choose", "score", "tidy"]


@dataclass(frozen=True, eq=False)
class Scored:
    """One method on one problem, with its knob chosen.

    Attributes:
        run: what was run.
        chosen: (folds,) index of the candidate of each fold.
        by_gene: metric -> (genes,); NaN where a gene was not held out or the metric is not defined.
        position_errors: "mode" and "mean" -> (cells,) distance to the truth, mean over folds.
    """

    run: Run
    chosen: np.ndarray
    by_gene: dict[str, np.ndarray]
    position_errors: dict[str, np.ndarray]


def choose(correlations: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """Index of each fold's candidate: the best mean over the genes of all OTHER folds.

    Args:
        correlations: (candidates, genes); NaN for genes that no fold holds out.
        folds: gene indices of each fold.
    """
    chosen = np.zeros(len(folds), int)
    for number, fold in enumerate(folds):
        others = np.ones(correlations.shape[1], bool)
        others[fold] = False
        others &= ~np.isnan(correlations).all(axis=0)
        if others.any():
            chosen[number] = np.nanmean(correlations[:, others], axis=1).argmax()
    return chosen


def score(run: Run, problem: Problem) -> Scored:
    """Choose the knob and score every held-out gene on the log scale.

    A constant prediction has no correlation: it counts as zero. SSIM and JS are defined for non-negative
    predictions only: a method that predicts below zero gets none for that gene.
    """
    held = np.sort(np.concatenate(problem.folds))
    truth = problem.truth
    correlations = np.full((len(run.values), truth.shape[1]), np.nan)
    for at, values in enumerate(run.values):
        correlations[at, held] = np.nan_to_num(pearson_by_gene(values[:, held], truth[:, held]))
    chosen = choose(correlations, problem.folds)
    values = np.full(truth.shape, np.nan)
    for fold, at in zip(problem.folds, chosen, strict=True):
        values[:, fold] = run.values[at][:, fold]
    metrics = _by_gene(values[:, held], truth[:, held], problem.coordinates)
    if run.intervals is not None:
        ends = np.full((2, *truth.shape), np.nan)
        for fold, at in zip(problem.folds, chosen, strict=True):
            ends[..., fold] = run.intervals[at][..., fold]
        metrics |= _of_intervals(ends[..., held], zscore(truth[:, held]))
    by_gene = {name: np.full(truth.shape[1], np.nan) for name in metrics}
    for name, each in metrics.items():
        by_gene[name][held] = each
    errors = {}
    if problem.true_positions is not None:
        for name, places in run.positions.items():
            picked = places[np.arange(len(chosen)), chosen]
            errors[name] = np.linalg.norm(picked - problem.true_positions, axis=-1).mean(axis=0)
    return Scored(run, chosen, by_gene, errors)


def _by_gene(values: np.ndarray, truth: np.ndarray, coordinates: np.ndarray) -> dict[str, np.ndarray]:
    neighbours = min(6, len(coordinates) - 1)
    morans = [morans_i(each, coordinates, n_neighbors=neighbours) for each in (values, truth)]
    correlation = np.nan_to_num(pearson_by_gene(values, truth))
    return {
        "PCC": correlation,
        "SSIM": _where_defined(ssim_by_gene, values, truth),
        "RMSE": np.nan_to_num(rmse_of_z_by_gene(values, truth), nan=np.sqrt(2.0)),
        "JS": _where_defined(js_divergence_by_gene, values, truth),
        "Moran's I difference": np.abs(np.nan_to_num(morans[0]) - morans[1]),
    }


def _of_intervals(ends: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Share of each gene's standardised map inside its 90 % interval, and the interval's mean width."""
    lower, upper = ends
    inside = ((truth >= lower) & (truth <= upper)).mean(axis=0)
    return {
        "coverage_90": np.where(np.isnan(lower).any(axis=0), np.nan, inside),
        "width_90": (upper - lower).mean(axis=0),
    }


def _where_defined(metric, values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """NaN for genes predicted below zero (by more than rounding)."""
    low = values.min(axis=0)
    allowed = low >= -1e-6 * np.abs(values).max(axis=0)
    found = np.full(values.shape[1], np.nan)
    try:
        found[allowed] = metric(np.maximum(values[:, allowed], 0.0), truth[:, allowed])
    except PerlerInputError as error:  # the truth itself is below zero
        raise ValueError(f"expected a non-negative truth: {error}") from error
    return found


def bootstrap(
    values: np.ndarray, draws: int, seed: int, statistic: Callable[..., np.ndarray] = np.mean
) -> tuple[float, float]:
    """95 % interval of the mean (or another statistic) over genes or cells, resampled with replacement."""
    rng = np.random.default_rng(seed)
    parts = [min(1000, draws - start) for start in range(0, draws, 1000)]  # a thousand at a time: memory
    found = [statistic(values[rng.integers(0, len(values), (part, len(values)))], axis=1) for part in parts]
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return float(low), float(high)


def tidy(scored: Scored, problem: Problem, seed: int) -> pd.DataFrame:
    """One row per data set, method, version, gene, fold, seed and metric."""
    fold_of = np.full(len(problem.genes), -1)
    for number, fold in enumerate(problem.folds):
        fold_of[fold] = number
    parts = [
        pd.DataFrame(
            {
                "dataset": problem.name,
                "method": scored.run.method.name,
                "version": scored.run.version,
                "gene": problem.genes[genes],
                "fold": fold_of[genes],
                "seed": seed,
                "metric": metric,
                "value": values[genes],
            }
        )
        for metric, values in scored.by_gene.items()
        for genes in (np.flatnonzero(~np.isnan(values)),)
    ]
    return pd.concat(parts, ignore_index=True)
