"""Choosing alpha and beta by held-out genes (Eq. 26 of Okochi et al. 2021), and scoring honestly.

The surface has more than one basin, so every search starts from a coarse grid. The reported score of a
gene is nested: alpha and beta are chosen again without the term of that gene (of its fold, where several
genes are held out together).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from perler_jax.held_out.surrogate import Surrogate, patch, slope_of_unstretch, stretch, unstretch

Objective = Literal["mutual_information", "signed", "roc"]
Search = Literal["gradient", "grid"]

__all__ = [
    "COARSE_GRID",
    "RELEASED_GRID",
    "Objective",
    "Scorer",
    "Search",
    "Tuning",
    "objective_terms",
    "tune_weights",
    "usual_points",
]

# alpha, beta of the coarse grid: it must show every basin, not find an optimum. Zero stands for "absent".
COARSE_GRID = (
    np.array([0.0, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0]),
    np.array([0.0, 0.2, 0.8, 3.0]),
)
# The released program searches 20 x 20 points, even in the square roots, then polishes by Nelder-Mead.
RELEASED_GRID = (np.linspace(0.0, 1.0, 20) ** 2, np.linspace(0.01, 1.0, 20) ** 2)

_COARSE_FOLDS = 12  # a basin shows in as many folds; the optimum is found on all of them
_AT_ONCE = 16  # points per pass over the distances: more gain nothing and cost memory


@runtime_checkable
class Scorer(Protocol):
    """Held-out scores as a function of (alpha, beta): `HeldOutScorer`, or a user's own."""

    def __call__(
        self, points: Float[np.ndarray, "*folds points 2"], *, every: int = 1
    ) -> Float[np.ndarray, "points landmarks"]:
        """Scores at shared points (points, 2) or one set per fold; NaN where not held out."""

    def derivatives(
        self, point: Float[np.ndarray, " 2"]
    ) -> tuple[Float[np.ndarray, " landmarks"], Float[np.ndarray, "landmarks 2"]]:
        """Scores at one point and their derivatives in alpha and beta; only search "gradient" asks for it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """Tuned weights, with everything that was evaluated on the way.

    Attributes:
        alpha, beta: the optimum on all held-out genes.
        objective: J there, in nats for "mutual_information".
        scores: (landmarks,) held-out score at the optimum.
        nested_alpha, nested_beta: (landmarks,) optimum without the gene's own fold.
        nested_scores: (landmarks,) held-out score at the nested optimum: the one to report.
        points: (evaluated, 2) alpha and beta at which every fold was scored.
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


def objective_terms(scores: jax.Array | np.ndarray, objective: Objective = "mutual_information") -> jax.Array:
    """Each gene's term of J; NaN scores (genes never held out) count nothing.

    Args:
        scores: (..., landmarks) correlation, or ROC AUC for "roc".
        objective: "mutual_information" is the paper's -1/2 ln(1 - rho^2); "signed" gives it the sign of rho,
            so that an anticorrelated prediction is punished; "roc" puts the AUC in the place of rho.

    Note: the paper's form rewards a prediction that is anticorrelated with the reference.
    """
    # A perfect score would be worth infinitely much, and hide every other gene.
    squared = jnp.minimum(jnp.where(jnp.isnan(scores), 0.0, scores) ** 2, 1 - 1e-6)
    terms = -0.5 * jnp.log1p(-squared)
    return jnp.where(scores < 0, -terms, terms) if objective == "signed" else terms


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
        search: "gradient": a coarse grid and a patch on some folds, a patch on all of them around the best
            point, then L-BFGS with exact derivatives; "grid": a fine grid polished by Nelder-Mead,
            as the released program does.
        grid: alpha and beta values; None takes `COARSE_GRID` or `RELEASED_GRID`.
        report: told how many points were just evaluated.

    Raises:
        ValueError: on a gradient search of the ROC objective, which has no gradient.
    """
    if objective == "roc" and search == "gradient":
        raise ValueError("expected search='grid' for objective='roc': ranks have no gradient")
    find = _by_gradient if search == "gradient" else _by_grid
    alphas, betas = grid or (COARSE_GRID if search == "gradient" else RELEASED_GRID)
    start = np.stack([each.ravel() for each in np.meshgrid(alphas, betas, indexing="ij")], axis=1)
    evaluator = _Evaluator(scorer, objective, len(folds), report)
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


def usual_points(search: Search) -> int:
    """How many points a search usually evaluates: what a progress bar expects."""
    alphas, betas = COARSE_GRID if search == "gradient" else RELEASED_GRID
    return len(alphas) * len(betas) + (2 * _AT_ONCE + 2 if search == "gradient" else 60)


@dataclasses.dataclass(frozen=True)
class _Evaluator:
    """The objective of a scorer, a few points per pass."""

    scorer: Scorer
    objective: Objective
    n_folds: int
    report: Callable[[int], object]

    def terms(self, table: np.ndarray) -> np.ndarray:
        return np.asarray(objective_terms(table, self.objective), np.float64)

    def table(self, points: np.ndarray, *, every: int = 1) -> np.ndarray:
        """(points, landmarks); the last pass is filled up so that one compiled program serves all."""
        rows, size = [], min(_AT_ONCE, len(points))
        for start in range(0, len(points), size):
            batch = points[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            rows.append(self.scorer(filled, every=every)[: len(batch)])
            self.report(len(batch))
        return np.concatenate(rows)

    def derivatives(self, point: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Scores, J and its slope in the coordinates of the search."""
        scores, slopes = self.scorer.derivatives(point)
        of_scores = jax.grad(lambda each: objective_terms(each, self.objective).sum())(jnp.asarray(scores))
        held = ~np.isnan(scores)
        slope = np.asarray(of_scores, np.float64)[held] @ slopes[held] * slope_of_unstretch(point)
        self.report(1)
        return scores, float(self.terms(scores).sum()), slope


_Found = tuple[np.ndarray, np.ndarray, np.ndarray, list[Surrogate]]


def _by_gradient(evaluate: _Evaluator, start: np.ndarray, folds: list) -> _Found:
    """Points and scores on all folds, path, and the surrogates of the last patch in each basin."""
    few = max(1, evaluate.n_folds // _COARSE_FOLDS)
    coarse = evaluate.terms(evaluate.table(start, every=few))
    seen = {int(coarse.sum(axis=1).argmax())}
    best, _ = _patches(evaluate, start[min(seen)], every=few)
    best, (points, table, surrogate) = _patches(evaluate, best, every=1)
    # A fold without which another basin is the best is tuned there: it has no say in where it is scored.
    surrogates = [surrogate]
    for fold in folds:
        at = int((coarse.sum(axis=1) - coarse[:, fold].sum(axis=1)).argmax())
        if at not in seen and not any(each.covers(start[at]) for each in surrogates):
            other, _ = _patches(evaluate, start[at], every=few)
            _, (more, rows, found) = _patches(evaluate, other, every=1)
            surrogates.append(found)
            points, table = np.concatenate([points, more]), np.concatenate([table, rows])
        seen.add(at)
    # Axes in which the patch is round: along the ridge where alpha and beta trade against each other J hardly
    # changes. A direction in which the patch is not concave still gets a length.
    eigenvalues, vectors = np.linalg.eigh(surrogate.curvature(best))
    axes = vectors / np.sqrt(np.maximum(np.abs(eigenvalues), 1e-2))
    path: list[list[float]] = []
    visited: list[np.ndarray] = []

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        at = stretch(best) + axes @ steps
        scores, value, slope = evaluate.derivatives(unstretch(at))
        path.append([*unstretch(at), value])
        visited.append(scores)
        return -value, -(axes.T @ np.where(at > 0, slope, 0.0))

    # A relative gain of 1e-4 (a few thousandths of a nat) changes no prediction that anybody could see.
    options = {"ftol": 1e-4, "gtol": 5e-2, "maxiter": 10}
    scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options=options)
    steps = np.array(path)
    points, table = np.concatenate([points, steps[:, :2]]), np.concatenate([table, np.array(visited)])
    return points, table, steps, surrogates


def _patches(
    evaluate: _Evaluator, best: np.ndarray, *, every: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, Surrogate]]:
    """Patch after patch, each around the best of the last, until one has its maximum inside."""
    points, table = [], []
    for _ in range(4):
        points.append(patch(best))
        table.append(evaluate.table(points[-1], every=every))
        surrogate = Surrogate(points[-1], evaluate.terms(table[-1]))
        best, inside, _ = surrogate.maximise(np.ones(table[-1].shape[1], bool))
        if inside:
            break
    return best, (np.concatenate(points), np.concatenate(table), surrogate)


def _by_grid(evaluate: _Evaluator, start: np.ndarray, folds: list) -> _Found:
    """The released program's search, polished in the square roots."""
    table = evaluate.table(start)
    path: list[list[float]] = []
    visited: list[np.ndarray] = []

    def loss(roots: np.ndarray) -> float:
        point = roots**2
        visited.append(evaluate.table(point[None])[0])
        path.append([*point, float(evaluate.terms(visited[-1]).sum())])
        return -path[-1][2]

    best = start[evaluate.terms(table).sum(axis=1).argmax()]
    scipy.optimize.fmin(loss, np.sqrt(best), xtol=1e-3, ftol=1e-3, disp=False)
    steps = np.array(path)
    return np.concatenate([start, steps[:, :2]]), np.concatenate([table, np.array(visited)]), steps, []


def _without(
    fold: np.ndarray, points: np.ndarray, terms: np.ndarray, surrogates: list[Surrogate]
) -> np.ndarray:
    """(2,) the optimum without one fold: the best evaluated point, or the best of the surrogates."""
    keep = np.ones(terms.shape[1], bool)
    keep[fold] = False
    if surrogates:
        return max((each.maximise(keep) for each in surrogates), key=lambda found: found[2])[0]
    return points[terms[:, keep].sum(axis=1).argmax()]
