"""Choosing alpha and beta by held-out genes (Eq. 26 of Okochi et al. 2021), and scoring honestly.

The reported score of a gene is nested: alpha and beta are chosen again without the term of that gene (of its
fold, where several genes are held out together).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from perler_jax.held_out.search import (
    COARSE_GRID,
    RELEASED_GRID,
    Evaluator,
    Objective,
    Scorer,
    Search,
    all_but,
    by_gradient,
    by_grid,
)
from perler_jax.held_out.surrogate import Surrogate

__all__ = ["Tuning", "tune_weights"]


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """Tuned weights, with everything that was evaluated on the way.

    Attributes:
        alpha, beta: the optimum on all held-out genes.
        objective: J there, in nats for "mutual_information".
        scores: (landmarks,) held-out score at the optimum.
        nested_alpha, nested_beta: (landmarks,) optimum without the gene's own fold.
        nested_scores: (landmarks,) held-out score at the nested optimum: the one to report.
        points: (evaluated, 2) alpha and beta at which every fold was scored on all of the data.
        table: (evaluated, landmarks) held-out scores.
        objectives: (evaluated,) J.
        path: (steps, 3) alpha, beta, J of the search after the grid.
    """

    alpha: float
    beta: float
    objective: float
    scores: Float[np.ndarray, " landmarks"]
    nested_alpha: Float[np.ndarray, " landmarks"]
    nested_beta: Float[np.ndarray, " landmarks"]
    nested_scores: Float[np.ndarray, " landmarks"]
    points: Float[np.ndarray, "evaluated 2"]
    table: Float[np.ndarray, "evaluated landmarks"]
    objectives: Float[np.ndarray, " evaluated"]
    path: Float[np.ndarray, "steps 3"]

    def __repr__(self) -> str:
        return (
            f"Tuning(alpha={self.alpha:.4g}, beta={self.beta:.4g}, J={self.objective:.2f}, "
            f"held-out {np.nanmean(self.scores):.3f}, nested {np.nanmean(self.nested_scores):.3f})"
        )


def tune_weights(
    scorer: Scorer,
    folds: list,
    *,
    objective: Objective = "mutual_information",
    search: Search = "gradient",
    grid: tuple[np.ndarray, np.ndarray] | None = None,
    report: Callable[[int], object] = lambda _: None,
) -> Tuning:
    """Maximise J over alpha and beta, then again without each fold.

    Args:
        scorer: held-out scores of any points.
        folds: landmark indices of each fold.
        objective: see `objective_terms`.
        search: "gradient": glances at a coarse grid, patches around its best point on a sample of the data,
            then L-BFGS with exact derivatives on everything; "grid": a fine grid polished by Nelder-Mead, as
            the released program does.
        grid: alpha and beta values; None takes `COARSE_GRID` or `RELEASED_GRID`.
        report: told how many points were just evaluated.

    Raises:
        ValueError: on a gradient search of the ROC objective, which has no gradient.
    """
    if objective == "roc" and search == "gradient":
        raise ValueError("expected search='grid' for objective='roc': ranks have no gradient")
    find = by_gradient if search == "gradient" else by_grid
    alphas, betas = grid or (COARSE_GRID if search == "gradient" else RELEASED_GRID)
    start = np.stack([each.ravel() for each in np.meshgrid(alphas, betas, indexing="ij")], axis=1)
    evaluator = Evaluator(scorer, objective, report)
    points, table, path, surrogates = find(evaluator, start, folds)

    terms = evaluator.terms(table)
    best = terms.sum(axis=1).argmax()
    nested = np.stack([_without(fold, points, terms, surrogates) for fold in folds])
    nested_scores = scorer(nested[:, None, :])[0]
    report(1)
    per_gene = np.full((table.shape[1], 2), np.nan)
    for fold, point in zip(folds, nested, strict=True):
        per_gene[fold] = point
    return Tuning(
        alpha=float(points[best, 0]),
        beta=float(points[best, 1]),
        objective=float(terms[best].sum()),
        scores=table[best],
        nested_alpha=per_gene[:, 0],
        nested_beta=per_gene[:, 1],
        nested_scores=nested_scores,
        points=points,
        table=table,
        objectives=terms.sum(axis=1),
        path=path,
    )


def _without(
    fold: np.ndarray, points: np.ndarray, terms: np.ndarray, surrogates: list[Surrogate]
) -> np.ndarray:
    """(2,) the optimum without one fold: the best evaluated point, or the best of the surrogates."""
    keep = all_but(fold, terms.shape[1])
    if surrogates:
        return max((each.maximise(keep) for each in surrogates), key=lambda found: found[2])[0]
    return points[terms[:, keep].sum(axis=1).argmax()]
