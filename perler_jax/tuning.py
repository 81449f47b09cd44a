"""Choosing alpha and beta by held-out genes (Eq. 26 of Okochi et al. 2021), and scoring honestly.

The surface has more than one basin, so every search starts from a coarse grid. The reported score of a
gene is nested: alpha and beta are chosen again without the term of that gene (of its fold, where several
genes are held out together).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from perler_jax.weights import WeightParams

Objective = Literal["mutual_information", "signed", "roc"]
Search = Literal["gradient", "grid"]
Scores = Callable[[WeightParams], jax.Array]  # (points,) or (folds, points) -> (points, landmarks)

__all__ = [
    "COARSE_GRID",
    "RELEASED_GRID",
    "Objective",
    "Search",
    "Tuning",
    "objective_terms",
    "tune_weights",
]

# alpha, beta of the coarse grid: it must show every basin, not find an optimum. Zero stands for "absent".
COARSE_GRID = (
    np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]),
    np.array([0.0, 0.1, 0.3, 1.0, 3.0]),
)
# The released program searches 20 x 20 points, even in the square roots, then polishes by Nelder-Mead.
RELEASED_GRID = (np.linspace(0.0, 1.0, 20) ** 2, np.linspace(0.01, 1.0, 20) ** 2)

_PATCH = 5  # points per side of a local patch
_RATIO = 1.8  # between neighbouring points of a patch, which spans more than a step of the coarse grid
_SMALLEST = 1e-4  # what "absent" becomes in log alpha, log beta
_AT_ONCE = 16  # points per pass over the distances: more gain nothing and cost memory


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """Tuned weights, with everything that was evaluated on the way.

    Attributes:
        alpha, beta: the optimum on all held-out genes.
        objective: J there, in nats for "mutual_information".
        scores: (landmarks,) held-out score at the optimum.
        nested_alpha, nested_beta: (landmarks,) optimum without the gene's own fold.
        nested_scores: (landmarks,) held-out score at the nested optimum: the one to report.
        points: (evaluated, 2) alpha and beta.
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
    return jnp.sign(scores) * terms if objective == "signed" else terms


def _evaluate(
    scores: Scores, points: np.ndarray, dtype: np.dtype, report: Callable[[int], object]
) -> np.ndarray:
    """(points, landmarks), a few points per pass; the last batch is padded so that one trace serves all."""
    rows = []
    size = min(_AT_ONCE, len(points))
    for start in range(0, len(points), size):
        batch = points[start : start + size]
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)]).astype(dtype)
        result = scores(WeightParams(jnp.asarray(padded[:, 0]), jnp.asarray(padded[:, 1])))
        rows.append(np.asarray(result, np.float64)[: len(batch)])
        report(len(batch))
    return np.concatenate(rows)


def _grid(alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
    return np.stack([each.ravel() for each in np.meshgrid(alphas, betas, indexing="ij")], axis=1)


def _patch(center: np.ndarray) -> np.ndarray:
    """(25, 2) points around a centre, even in the logarithms."""
    steps = _RATIO ** (np.arange(_PATCH) - _PATCH // 2)
    return _grid(np.maximum(center[0], _SMALLEST) * steps, np.maximum(center[1], _SMALLEST) * steps)


class _Surrogate:
    """Cubic polynomials in (log alpha, log beta), one per gene's term, fitted on a patch."""

    def __init__(self, points: np.ndarray, terms: np.ndarray) -> None:
        logs = np.log(points)
        self.center, self.scale = logs.mean(axis=0), np.log(_RATIO) * (_PATCH // 2)
        self.powers = [(i, j) for i in range(4) for j in range(4 - i)]
        u, v = ((logs - self.center) / self.scale).T
        basis = np.stack([u**i * v**j for i, j in self.powers], axis=1)
        self.coefficients = np.linalg.lstsq(basis, terms, rcond=None)[0]  # (powers, genes)

    def maximise(self, keep: np.ndarray) -> tuple[np.ndarray, bool]:
        """Best (alpha, beta) of the kept genes' sum inside the patch, and whether it lies in its interior."""
        total = self.coefficients[:, keep].sum(axis=1)

        def loss(z: np.ndarray) -> float:
            return -float(
                sum(c * z[0] ** i * z[1] ** j for c, (i, j) in zip(total, self.powers, strict=True))
            )

        result = scipy.optimize.minimize(
            loss, np.zeros(2), method="L-BFGS-B", bounds=[(-1, 1)] * 2, tol=1e-12
        )
        return np.exp(self.center + self.scale * result.x), bool(np.all(np.abs(result.x) < 0.999))

    def curvature(self, point: np.ndarray) -> np.ndarray:
        """Minus the second derivatives of the whole sum in (log alpha, log beta) at a point of the patch."""
        total = self.coefficients.sum(axis=1)
        u, v = (np.log(point) - self.center) / self.scale
        second = np.zeros((2, 2))
        for c, (i, j) in zip(total, self.powers, strict=True):
            second[0, 0] += c * i * (i - 1) * u ** max(i - 2, 0) * v**j
            second[1, 1] += c * j * (j - 1) * u**i * v ** max(j - 2, 0)
            second[0, 1] += c * i * j * u ** max(i - 1, 0) * v ** max(j - 1, 0)
        second[1, 0] = second[0, 1]
        return -second / self.scale**2


def tune_weights(
    scores: Scores,
    folds: list[np.ndarray] | list,
    *,
    objective: Objective = "mutual_information",
    search: Search = "gradient",
    grid: tuple[np.ndarray, np.ndarray] | None = None,
    dtype: np.dtype | type = np.float32,
    report: Callable[[int], object] = lambda _: None,
) -> Tuning:
    """Maximise J over alpha and beta, then again without each fold.

    Args:
        scores: held-out scores as a function of weights (`held_out_scores` with all else given); points are
            (points,) for all folds or (folds, points). For "gradient" it must be differentiable.
        folds: landmark indices of each fold.
        objective: see `objective_terms`.
        search: "gradient": coarse grid, a local patch, then L-BFGS with exact gradients in log alpha, log beta;
            "grid": a fine grid polished by Nelder-Mead, as the released program does.
        grid: alpha and beta values; None takes `COARSE_GRID` or `RELEASED_GRID`.
        dtype: of the points.
        report: told how many points were just evaluated.

    Raises:
        ValueError: for a gradient search on the ROC objective, which has no gradient.
    """
    if objective == "roc" and search == "gradient":
        raise ValueError("expected search='grid' for objective='roc': ranks have no gradient")
    values = grid or (COARSE_GRID if search == "gradient" else RELEASED_GRID)
    points = _grid(*values)
    table = _evaluate(scores, points, np.dtype(dtype), report)

    def total(rows: np.ndarray) -> np.ndarray:
        return np.asarray(objective_terms(rows, objective), np.float64)

    best = points[total(table).sum(axis=1).argmax()]
    surrogate = None
    if search == "gradient":
        for _ in range(3):
            patch = _patch(best)
            rows = _evaluate(scores, patch, np.dtype(dtype), report)
            points, table = np.concatenate([points, patch]), np.concatenate([table, rows])
            surrogate = _Surrogate(patch, total(rows))
            best, inside = surrogate.maximise(np.ones(table.shape[1], bool))
            if inside:
                break
        path = _quasi_newton(scores, objective, best, surrogate.curvature(best), np.dtype(dtype), report)
    else:
        path = _nelder_mead(scores, objective, best, np.dtype(dtype), report)
    best = path[path[:, 2].argmax(), :2]
    row = _evaluate(scores, best[None], np.dtype(dtype), report)
    points, table = np.concatenate([points, best[None]]), np.concatenate([table, row])
    terms = total(table)
    nested = _nested_points(points, terms, folds, surrogate)
    nested_scores = _evaluate_per_fold(scores, nested, np.dtype(dtype))
    report(1)
    per_gene = np.zeros((table.shape[1], 2))
    for fold, point in zip(folds, nested, strict=True):
        per_gene[fold] = point
    return Tuning(
        float(best[0]),
        float(best[1]),
        float(terms[-1].sum()),
        table[-1],
        per_gene[:, 0],
        per_gene[:, 1],
        nested_scores,
        points,
        table,
        terms.sum(axis=1),
        path,
    )


def _quasi_newton(
    scores: Scores,
    objective: Objective,
    start: np.ndarray,
    curvature: np.ndarray,
    dtype: np.dtype,
    report: Callable,
) -> np.ndarray:
    """(steps, 3) path of L-BFGS in the logarithms with exact gradients, in axes where the patch is round."""
    # A patch that is not concave in some direction still gives that direction a length.
    eigenvalues, vectors = np.linalg.eigh(curvature)
    axes = vectors / np.sqrt(np.maximum(np.abs(eigenvalues), 1e-2))
    start = np.maximum(start, _SMALLEST)

    @jax.jit
    @jax.value_and_grad
    def negative(logs: jax.Array) -> jax.Array:
        point = jnp.exp(logs)
        return -jnp.sum(objective_terms(scores(WeightParams(point[:1], point[1:])), objective))

    path: list[list[float]] = []

    def loss(steps: np.ndarray) -> tuple[float, np.ndarray]:
        logs = np.log(start) + axes @ steps
        value, gradient = negative(jnp.asarray(logs, dtype))
        path.append([*np.exp(logs), -float(value)])
        report(1)
        return float(value), axes.T @ np.asarray(gradient, np.float64)

    # alpha and beta trade against each other along a ridge of J, where steps of a few thousandths of a nat
    # go on for long without changing any prediction: a relative gain of 1e-4 is enough.
    options = {"ftol": 1e-4, "gtol": 1e-2, "maxiter": 10}
    scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options=options)
    return np.array(path)


def _nelder_mead(
    scores: Scores, objective: Objective, start: np.ndarray, dtype: np.dtype, report: Callable
) -> np.ndarray:
    """(steps, 3) path of the released program's polish, in the square roots."""
    path: list[list[float]] = []

    def loss(roots: np.ndarray) -> float:
        point = roots**2
        row = _evaluate(scores, point[None], dtype, report)
        path.append([*point, float(np.asarray(objective_terms(row, objective)).sum())])
        return -path[-1][2]

    scipy.optimize.fmin(loss, np.sqrt(start), xtol=1e-3, ftol=1e-3, disp=False)
    return np.array(path)


def _nested_points(
    points: np.ndarray, terms: np.ndarray, folds: list[np.ndarray], surrogate: _Surrogate | None
) -> np.ndarray:
    """(folds, 2) best evaluated point without each fold, refined on the last patch where it lies there."""
    nested = np.zeros((len(folds), 2))
    for index, fold in enumerate(folds):
        keep = np.ones(terms.shape[1], bool)
        keep[fold] = False
        nested[index] = points[terms[:, keep].sum(axis=1).argmax()]
        if surrogate is not None:
            inside = (
                np.abs(np.log(np.maximum(nested[index], 1e-300)) - surrogate.center)
                <= surrogate.scale * 1.001
            )
            if inside.all():
                nested[index] = surrogate.maximise(keep)[0]
    return nested


def _evaluate_per_fold(scores: Scores, nested: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(landmarks,) scores with every fold at its own point."""
    own = WeightParams(jnp.asarray(nested[:, :1], dtype), jnp.asarray(nested[:, 1:], dtype))
    return np.asarray(scores(own), np.float64)[0]
