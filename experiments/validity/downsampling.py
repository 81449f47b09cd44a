"""Accuracy and resolution with fewer landmarks, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from experiments.validity.evaluation import DISTANCES, Landmarks, evaluate, predict
from perler_jax.held_out.folds import make_folds
from perler_jax.scores.metrics import pearson_by_gene

__all__ = ["accuracy_by_landmarks", "by_size"]


def accuracy_by_landmarks(
    marks: Landmarks, points: np.ndarray, config: dict[str, Any], seed: int, *, progress: Any = iter
) -> pd.DataFrame:
    """Random subsets of the landmarks; everything (metagenes, EM, weights) is made anew from each.

    Returns:
        One row per subset, distance and metric: `reconstruction_of_all` (mean correlation of all landmarks,
        in the subset or not), `of_the_subset`, and `of_the_others`, which the subset's fit has never seen.
    """
    n = len(marks.names)
    rows: list[dict[str, Any]] = []
    draws = [(size, draw) for size in config["sizes"] for draw in range(config["draws"])] + [(n, 0)]
    for size, draw in progress(draws):
        kept = np.sort(np.random.default_rng((seed, size, draw)).permutation(n)[:size])
        rows.extend(
            _scores(marks, kept, points, min(config["folds"], size), seed, {"size": size, "draw": draw})
        )
    return pd.DataFrame(rows)


def by_size(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean, least and largest over draws."""
    grouped = table.groupby(["distance", "metric", "size"])["value"]
    return grouped.agg(["mean", "min", "max"]).reset_index().to_dict("records")


def _scores(
    marks: Landmarks, kept: np.ndarray, points: np.ndarray, folds: int, seed: int, about: dict[str, int]
) -> Iterator[dict[str, Any]]:
    some = marks.take(kept)
    tuned = evaluate(some, make_folds(len(kept), folds, seed=seed), points)
    inside = np.isin(np.arange(len(marks.names)), kept)
    for name in DISTANCES:
        of = tuned[tuned["distance"] == name].iloc[0]
        pattern = predict(some, marks.cells, np.array([of["alpha"], of["beta"]]), name)
        found = pearson_by_gene(pattern, marks.reference)
        metrics = {"reconstruction_of_all": found.mean(), "of_the_subset": found[inside].mean()}
        if not inside.all():
            metrics["of_the_others"] = found[~inside].mean()
        for metric, value in metrics.items():
            yield about | {"distance": name, "metric": metric, "value": float(value)}
