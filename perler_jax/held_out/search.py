"""The searches for alpha and beta that maximise the held-out objective (Eq. 26 of Okochi et al. 2021).

The surface has more than one basin, so every search starts from a coarse grid. By gradient it goes on with
patches, on samples of the data as long as only the direction matters, and ends with exact derivatives on
everything; by grid as the released program does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from perler_jax.choices import Objective, Search
from perler_jax.held_out.surrogate import Surrogate, patch, slope_of_unstretch, stretch, unstretch

Look = Literal["whole", "sample", "glance"]

__all__ = [
    "COARSE_GRID",
    "RELEASED_GRID",
    "Evaluator",
    "Found",
    "Look",
    "Objective",
    "Scorer",
    "Search",
    "all_but",
    "by_gradient",
    "by_grid",
    "objective_terms",
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
_ENOUGH = 3e-3  # relative gain of J that is not searched for: a tenth of a nat changes no prediction


@runtime_checkable
class Scorer(Protocol):
    """Held-out scores as a function of (alpha, beta): `HeldOutScorer`, or a user's own."""

    def __call__(
        self, points: Float[np.ndarray, "*folds points 2"], *, look: Look = "whole"
    ) -> Float[np.ndarray, "points landmarks"]:
        """Scores at shared points (points, 2) or one set per fold; NaN where not held out.

        A "sample" may take some cells and locations only, a "glance" some folds as well: they show where to
        search.
        """

    def derivatives(
        self, point: Float[np.ndarray, " 2"]
    ) -> tuple[Float[np.ndarray, " landmarks"], Float[np.ndarray, "landmarks 2"]]:
        """Scores at one point and their derivatives in alpha and beta; only search "gradient" asks for it."""


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


def usual_points(search: Search) -> int:
    """How many points a search usually evaluates: what a progress bar expects."""
    alphas, betas = COARSE_GRID if search == "gradient" else RELEASED_GRID
    return len(alphas) * len(betas) + (4 * _AT_ONCE + 5 if search == "gradient" else 60)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """The objective of a scorer, a few points per pass."""

    scorer: Scorer
    objective: Objective
    report: Callable[[int], object]

    def terms(self, table: np.ndarray) -> np.ndarray:
        """Each gene's part of J."""
        return np.asarray(objective_terms(table, self.objective), np.float64)

    def table(self, points: np.ndarray, *, look: Look = "whole") -> np.ndarray:
        """(points, landmarks); the last pass is filled up so that one compiled program serves all."""
        rows, size = [], min(_AT_ONCE, len(points))
        for start in range(0, len(points), size):
            batch = points[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            rows.append(self.scorer(filled, look=look)[: len(batch)])
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


class Found(NamedTuple):
    """What a search has seen.

    Attributes:
        points: (evaluated, 2) alpha and beta at which every fold was scored on all of the data.
        table: (evaluated, landmarks) held-out scores.
        path: (steps, 3) alpha, beta, J after the grid.
        surrogates: of the last patch in each basin, from a sample of the data; none from a grid.
    """

    points: Float[np.ndarray, "evaluated 2"]
    table: Float[np.ndarray, "evaluated landmarks"]
    path: Float[np.ndarray, "steps 3"]
    surrogates: list[Surrogate]


def by_gradient(evaluate: Evaluator, start: np.ndarray, folds: list) -> Found:
    """From a coarse grid to exact derivatives; a basin that a fold prefers without itself gets a patch."""
    coarse = evaluate.terms(evaluate.table(start, look="glance"))
    found = int(coarse.sum(axis=1).argmax())
    best, sketch = _patches(evaluate, start[found], "glance")
    best, surrogate = _patches(evaluate, best, "sample")
    # A fold without which another basin is the best is tuned there: it has no say in where it is scored.
    surrogates, rivals = [surrogate], {}
    for fold in folds:
        keep = all_but(fold, coarse.shape[1])
        at = int(coarse[:, keep].sum(axis=1).argmax())
        if at == found or any(each.covers(start[at]) for each in surrogates):
            continue
        if at not in rivals:
            rivals[at] = _patches(evaluate, start[at], "glance")
        other, rival = rivals[at]
        most = sketch.maximise(keep)[2]
        if rival.maximise(keep)[2] > most + _FLAT * abs(most):
            surrogates.append(_patches(evaluate, other, "sample")[1])
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
    return Found(steps[:, :2], np.array(visited), steps, surrogates)


def _patches(evaluate: Evaluator, best: np.ndarray, look: Look) -> tuple[np.ndarray, Surrogate]:
    """Patch after patch, each around the best of the last, until one has its maximum inside or is flat."""
    for _ in range(4):
        points = patch(best)
        terms = evaluate.terms(evaluate.table(points, look=look))
        surrogate = Surrogate(points, terms)
        before, (best, inside, most) = best, surrogate.maximise(np.ones(terms.shape[1], bool))
        if inside or most - surrogate.total(before) < _FLAT * abs(most):
            break
    return best, surrogate


def by_grid(evaluate: Evaluator, start: np.ndarray, folds: list) -> Found:
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
    points, table = np.concatenate([start, steps[:, :2]]), np.concatenate([table, np.array(visited)])
    return Found(points, table, steps, [])


def all_but(fold: np.ndarray, n_genes: int) -> np.ndarray:
    """(genes,) which are not in a fold."""
    keep = np.ones(n_genes, bool)
    keep[fold] = False
    return keep
