"""Choosing alpha and beta by held-out genes (Eq. 26 of Okochi et al. 2021), and scoring honestly.

The surface has more than one basin, so every search starts from a coarse grid. The reported score of a
gene is nested: alpha and beta are chosen again without the term of that gene (of its fold, where several
genes are held out together).
"""

from __future__ import annotations

import dataclasses
import functools
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

_AT_ONCE = 12  # points per pass over the distances, as many as a patch has: more gain nothing and cost memory
_FLAT = 5e-3  # relative gain of J for which a patch is not moved: alpha and beta trade along a ridge
_ENOUGH = 1e-3  # relative gain of J that is not searched for: hundredths of a nat change no prediction


@runtime_checkable
class Scorer(Protocol):
    """Held-out scores as a function of (alpha, beta): `HeldOutScorer`, or a user's own."""

    def __call__(
        self, points: Float[np.ndarray, "*folds points 2"], *, quick: bool = False
    ) -> Float[np.ndarray, "points landmarks"]:
        """Scores at shared points (points, 2) or one set per fold; NaN where not held out.

        A quick look may take some folds, cells and locations only: it must show where to search.
        """

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


def objective_terms(
    scores: jax.Array | np.ndarray, objective: Objective = "mutual_information"
) -> jax.Array | np.ndarray:
    """Each gene's term of J; NaN scores (genes never held out) count nothing.

    Args:
        scores: (..., landmarks) correlation, or ROC AUC for "roc".
        objective: "mutual_information" is the paper's -1/2 ln(1 - rho^2); "signed" gives it the sign of rho,
            so that an anticorrelated prediction is punished; "roc" puts the AUC in the place of rho.

    Note: the paper's form rewards a prediction that is anticorrelated with the reference.
    """
    xp = np if isinstance(scores, np.ndarray) else jnp  # on the host there is nothing to compile
    # A perfect score would be worth infinitely much, and hide every other gene.
    squared = xp.minimum(xp.where(xp.isnan(scores), 0.0, scores) ** 2, 1 - 1e-6)
    terms = -0.5 * xp.log1p(-squared)
    return xp.where(scores < 0, -terms, terms) if objective == "signed" else terms


@functools.partial(jax.jit, static_argnames="objective")
def _slopes_of_terms(scores: jax.Array, objective: Objective) -> jax.Array:
    return jax.grad(lambda each: objective_terms(each, objective).sum())(scores)


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
        search: "gradient": quick looks at a coarse grid and at patches, a patch on everything around the
            best point, then L-BFGS with exact derivatives; "grid": a fine grid polished by Nelder-Mead,
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
    evaluator = _Evaluator(scorer, objective, report)
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
    return len(alphas) * len(betas) + (4 * _AT_ONCE + 5 if search == "gradient" else 60)


@dataclasses.dataclass(frozen=True)
class _Evaluator:
    """The objective of a scorer, a few points per pass."""

    scorer: Scorer
    objective: Objective
    report: Callable[[int], object]

    def terms(self, table: np.ndarray) -> np.ndarray:
        return np.asarray(objective_terms(table, self.objective), np.float64)

    def table(self, points: np.ndarray, *, quick: bool = False) -> np.ndarray:
        """(points, landmarks); the last pass is filled up so that one compiled program serves all."""
        rows, size = [], min(_AT_ONCE, len(points))
        for start in range(0, len(points), size):
            batch = points[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            rows.append(self.scorer(filled, quick=quick)[: len(batch)])
            self.report(len(batch))
        return np.concatenate(rows)

    def derivatives(self, point: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Scores, J and its slope in the coordinates of the search."""
        scores, slopes = self.scorer.derivatives(point)
        of_scores = np.asarray(_slopes_of_terms(jnp.asarray(scores), self.objective), np.float64)
        held = ~np.isnan(scores)
        slope = of_scores[held] @ slopes[held] * slope_of_unstretch(point)
        self.report(1)
        return scores, float(self.terms(scores).sum()), slope


_Found = tuple[np.ndarray, np.ndarray, np.ndarray, list[Surrogate]]


def _by_gradient(evaluate: _Evaluator, start: np.ndarray, folds: list) -> _Found:
    """Points and scores on all folds, path, and the surrogates of the last patch in each basin."""
    coarse = evaluate.terms(evaluate.table(start, quick=True))
    found = int(coarse.sum(axis=1).argmax())
    best, (_, _, sketch) = _patches(evaluate, start[found], quick=True)
    best, (points, table, surrogate) = _patches(evaluate, best)
    # A fold without which another basin is the best is tuned there: it has no say in where it is scored.
    surrogates, rivals = [surrogate], {}
    for fold in folds:
        keep = _all_but(fold, coarse.shape[1])
        at = int(coarse[:, keep].sum(axis=1).argmax())
        if at == found or any(each.covers(start[at]) for each in surrogates):
            continue
        if at not in rivals:
            rivals[at] = _patches(evaluate, start[at], quick=True)
        other, (_, _, rival) = rivals[at]
        most = sketch.maximise(keep)[2]
        if rival.maximise(keep)[2] > most + _FLAT * abs(most):
            _, (more, rows, of_other) = _patches(evaluate, other)
            surrogates.append(of_other)
            points, table = np.concatenate([points, more]), np.concatenate([table, rows])
    # Axes in which the patch is round: along the ridge where alpha and beta trade against each other J hardly
    # changes. A direction in which the patch is flat or not concave gets the length over which a bend of a
    # hundredth of J would be seen.
    eigenvalues, vectors = np.linalg.eigh(surrogate.curvature(best))
    height = abs(surrogate.total(best))
    axes = vectors / np.sqrt(np.maximum(np.abs(eigenvalues), 0.02 * height))
    path: list[list[float]] = []
    visited: list[np.ndarray] = []

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        at = stretch(best) + axes @ steps
        scores, value, slope = evaluate.derivatives(unstretch(at))
        path.append([*unstretch(at), value])
        visited.append(scores)
        return -value, -(axes.T @ np.where(at > 0, slope, 0.0))

    # In these axes a slope of s promises a gain of s^2 / 2.
    options = {"ftol": _ENOUGH, "gtol": np.sqrt(2 * _ENOUGH * height), "maxiter": 10}
    scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options=options)
    steps = np.array(path)
    points, table = np.concatenate([points, steps[:, :2]]), np.concatenate([table, np.array(visited)])
    return points, table, steps, surrogates


def _patches(
    evaluate: _Evaluator, best: np.ndarray, *, quick: bool = False
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, Surrogate]]:
    """Patch after patch, each around the best of the last, until one has its maximum inside or is flat."""
    points, table = [], []
    for _ in range(4):
        points.append(patch(best))
        table.append(evaluate.table(points[-1], quick=quick))
        surrogate = Surrogate(points[-1], evaluate.terms(table[-1]))
        before, (best, inside, most) = best, surrogate.maximise(np.ones(table[-1].shape[1], bool))
        if inside or most - surrogate.total(before) < _FLAT * abs(most):
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
    keep = _all_but(fold, terms.shape[1])
    if surrogates:
        return max((each.maximise(keep) for each in surrogates), key=lambda found: found[2])[0]
    return points[terms[:, keep].sum(axis=1).argmax()]


def _all_but(fold: np.ndarray, n_genes: int) -> np.ndarray:
    """(genes,) which are not in a fold."""
    keep = np.ones(n_genes, bool)
    keep[fold] = False
    return keep
