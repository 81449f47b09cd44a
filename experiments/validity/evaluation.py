"""One variant of the method scored on held-out landmarks by both distances: the protocol of every part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pandas as pd

from perler_jax import PerlerFit
from perler_jax.em import fit_em, initial_params
from perler_jax.em_loop import EMResult
from perler_jax.held_out.folds import fit_held_out
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import objective_terms
from perler_jax.metagenes import Reduction, clip_n_metagenes, fit_metagenes
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.trust.subsets import landmark_expression
from perler_jax.weights import WeightParams, distance_space, weighted_means

__all__ = [
    "DISTANCES",
    "Landmarks",
    "Tuned",
    "evaluate",
    "fit_mapping",
    "landmarks_of",
    "predict",
    "tune_on_grid",
]

Distance = Literal["fitted", "pooled"]
DISTANCES: dict[str, Distance] = {"fitted": "fitted", "released": "pooled"}


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
    """Centred log2 expression of the landmarks on both sides.

    Attributes:
        cells: (cells, landmarks).
        reference: (locations, landmarks).
        names: (landmarks,).
    """

    cells: np.ndarray
    reference: np.ndarray
    names: np.ndarray

    def take(self, columns: np.ndarray) -> Landmarks:
        """Some of them."""
        return Landmarks(self.cells[:, columns], self.reference[:, columns], self.names[columns])


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """Weights chosen on a grid.

    Attributes:
        point: (2,) alpha and beta.
        held_out: (landmarks,) scores there.
        nested: (landmarks,) scores at the point that is best without the gene's own fold.
    """

    point: np.ndarray
    held_out: np.ndarray
    nested: np.ndarray


def landmarks_of(fit: PerlerFit) -> Landmarks:
    """Those of a fit with its cells."""
    return Landmarks(*landmark_expression(fit), fit.landmarks.astype(str))


def tune_on_grid(scorer: HeldOutScorer, folds: Sequence[np.ndarray], points: np.ndarray) -> Tuned:
    """The paper's objective over a fixed grid."""
    table = scorer(points)
    terms = np.asarray(objective_terms(table), np.float64)
    total = terms.sum(axis=1)
    nested = np.full(table.shape[1], np.nan)
    for fold in folds:
        nested[fold] = table[(total - terms[:, fold].sum(axis=1)).argmax(), fold]
    best = int(total.argmax())
    return Tuned(points[best], table[best], nested)


def evaluate(
    marks: Landmarks,
    folds: Sequence[np.ndarray],
    points: np.ndarray,
    *,
    n_metagenes: int = 60,
    reduction: Reduction = "plsc",
    distances: Sequence[str] = tuple(DISTANCES),
) -> pd.DataFrame:
    """Scores of every landmark by either distance.

    Args:
        marks: the landmarks in use.
        folds: held out together.
        points: (points, 2) alpha and beta to choose from.
        n_metagenes: of the reduction; lowered where the landmarks are too few.
        reduction: of both sides.
        distances: which.

    Returns:
        One row per landmark and distance: `gene`, `distance`, `nested`, `held_out`, `reconstruction`, and the
        common `alpha` and `beta`.
    """
    n_metagenes = _metagenes(marks, n_metagenes, reduction, max(map(len, folds)))
    fits = fit_held_out(
        marks.cells, marks.reference, list(folds), n_metagenes=n_metagenes, reduction=reduction
    )
    cells, reference = (jnp.asarray(side, jnp.float32) for side in (marks.cells, marks.reference))
    em, x, r = fit_mapping(marks, n_metagenes, reduction)
    rows = []
    for name in distances:
        tuned = tune_on_grid(HeldOutScorer(fits, cells, reference, covariance=DISTANCES[name]), folds, points)
        pattern = _means(em, x, r, marks.cells, tuned.point, name)
        columns: dict[str, Any] = {
            "gene": marks.names,
            "distance": name,
            "nested": tuned.nested,
            "held_out": tuned.held_out,
            "reconstruction": pearson_by_gene(pattern, marks.reference),
            "alpha": tuned.point[0],
            "beta": tuned.point[1],
        }
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def predict(
    marks: Landmarks,
    values: np.ndarray,
    point: np.ndarray,
    distance: str,
    *,
    n_metagenes: int = 60,
    reduction: Reduction = "plsc",
) -> np.ndarray:
    """(locations, genes) weighted means of any centred values of the cells, all landmarks in use."""
    em, x, r = fit_mapping(marks, _metagenes(marks, n_metagenes, reduction, 1), reduction)
    return _means(em, x, r, values, point, distance)


def fit_mapping(
    marks: Landmarks, n_metagenes: int, reduction: Reduction = "plsc"
) -> tuple[EMResult, jnp.ndarray, jnp.ndarray]:
    """EM on all landmarks, with the metagenes of both sides."""
    maps = fit_metagenes(marks.cells, marks.reference, n_metagenes=n_metagenes, reduction=reduction)
    x = jnp.asarray(marks.cells @ maps.cell_loadings, jnp.float32)
    r = jnp.asarray(marks.reference @ maps.reference_loadings, jnp.float32)
    return fit_em(x, r, initial_params(x, r)), x, r


def _means(
    em: EMResult, x: jnp.ndarray, r: jnp.ndarray, values: np.ndarray, point: np.ndarray, distance: str
) -> np.ndarray:
    near, far = distance_space(em.params, x, r, DISTANCES[distance])
    weights = WeightParams.single(float(point[0]), float(point[1]))
    means = weighted_means(weights, near, far, None, jnp.asarray(values, jnp.float32))
    return np.asarray(means[0], np.float64)


def _metagenes(marks: Landmarks, wanted: int, reduction: Reduction, held_out: int) -> int:
    n = len(marks.names)
    return clip_n_metagenes(
        n if reduction == "none" else min(wanted, n - held_out),
        landmarks=n,
        locations=len(marks.reference),
        cells=len(marks.cells),
        held_out=held_out,
    )
