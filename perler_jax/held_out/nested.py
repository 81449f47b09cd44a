"""Parameters chosen again without each fold's term of the objective, so that no gene has a say in its score.

Two ways. *Newton*: from the common optimum one step of Newton's method on the sum without the fold, with
exact slopes and curvatures by finite differences of them; for few parameters, and checked by searching on for
some folds. *Refit*: groups of folds are left out together and everything is tuned anew from the start, which
the group had no say in; for many parameters, whose optimum remembers every gene.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from numpyro.distributions import constraints
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.held_out.tuner import Coordinates, Objective, Params, Tuned, WithSlopes, evaluate, tune

__all__ = ["Nested", "nested_by_newton", "nested_by_refit"]

_STEP = 0.1  # of the differences: a tenth of a logarithm, where slopes in float32 still have three digits
_REACH = 1.0  # the farthest that one Newton step may go, in coordinates: beyond, the curvature is another
_FLATTEST = (
    0.05  # of the largest curvature: along a ridge (alpha against beta) there is no optimum to step to
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Nested:
    """Parameters of every fold.

    Attributes:
        params: the tree, every leaf with a leading axis of folds.
        method: how they were chosen.
        moved: (folds,) distance from the common optimum (Newton) or from the start (refit), in the
            coordinates of the search.
        shortfall: of the folds that were searched on: by how much the sum without the fold could still be
            raised from the Newton step. Empty where nothing was.
    """

    params: Params
    method: Literal["newton", "refit"]
    moved: Float[np.ndarray, " folds"]
    shortfall: dict[int, float]

    def __repr__(self) -> str:
        return f"Nested({self.method}, {len(self.moved)} folds, moved {np.median(self.moved):.2g} on average)"


def nested_by_newton(
    objective: Objective | WithSlopes,
    tuned: Tuned,
    *,
    support: Any = constraints.positive,
    verify: int = 0,
    tolerance: float = 1e-4,
    progress: bool = True,
) -> Nested:
    """One Newton step per fold from the common optimum.

    Args:
        objective: parameters -> terms (folds,).
        tuned: its optimum.
        support: as it was tuned with.
        verify: how many folds, those that move farthest, are searched on to see what the step left.
        tolerance: of that search.
        progress: show a progress bar.

    Raises:
        PerlerInputError: on an objective that does not give the terms of its folds.
    """
    coordinates = Coordinates(tuned.params, support)
    centre, size = coordinates.start, len(coordinates.start)
    bar = tqdm(range(size), desc="curvature", unit="parameter", disable=not progress, leave=False)
    _, slopes = evaluate(objective, coordinates, centre)
    _check_folds(slopes)
    around = [
        [evaluate(objective, coordinates, centre + sign * _STEP * np.eye(size)[at])[1] for sign in (1, -1)]
        for at in bar
    ]
    curvature = np.stack([ahead - behind for ahead, behind in around], axis=2) / (2 * _STEP)
    curvature = (curvature + np.swapaxes(curvature, 1, 2)) / 2
    slope_without = slopes.sum(axis=0) - slopes
    curvature_without = curvature.sum(axis=0) - curvature
    steps = np.stack([_newton(*each) for each in zip(slope_without, curvature_without, strict=True)])
    moved = np.linalg.norm(steps, axis=1)
    points = centre + steps
    shortfall = {}
    for fold in np.argsort(-moved)[:verify].tolist():
        weights = np.ones(len(points))
        weights[fold] = 0.0
        here = coordinates.constrain(jnp.asarray(points[fold]))
        on = tune(objective, here, support=support, weights=weights, tolerance=tolerance, progress=progress)
        shortfall[fold] = on.value - on.path[0][1]
    return Nested(_stack(coordinates, points), "newton", moved, shortfall)


def nested_by_refit(
    objective: Objective | WithSlopes,
    start: Params,
    groups: Sequence[Int[np.ndarray, " _width"]],
    *,
    support: Any = constraints.positive,
    tolerance: float = 1e-4,
    max_steps: int = 50,
    progress: bool = True,
    tuner: Callable[..., Tuned] = tune,
) -> Nested:
    """Everything tuned anew without each group of folds, from the same start.

    Args:
        objective: parameters -> terms (folds,).
        start: not the common optimum: that one has seen every fold.
        groups: indices of folds that are left out together; each fold once (`make_folds` of the folds).
        support: see `tune`.
        tolerance: see `tune`.
        max_steps: see `tune`.
        progress: show progress bars.
        tuner: `tune`, or another with its signature.
    """
    coordinates = Coordinates(start, support)
    n_folds = sum(map(len, groups))
    if sorted(np.concatenate(list(groups)).tolist()) != list(range(n_folds)):
        raise PerlerInputError(f"expected each of {n_folds} folds in one group, found {groups}")
    points = np.zeros((n_folds, len(coordinates.start)))
    for group in tqdm(groups, desc="nested", unit="group", disable=not progress, leave=False):
        weights = np.ones(n_folds)
        weights[group] = 0.0
        found = tuner(
            objective,
            start,
            support=support,
            weights=weights,
            tolerance=tolerance,
            max_steps=max_steps,
            progress=progress,
        )
        points[group] = coordinates.to_coordinates(found.params)
    moved = np.linalg.norm(points - coordinates.start, axis=1)
    return Nested(_stack(coordinates, points), "refit", moved, {})


def _check_folds(slopes: np.ndarray) -> None:
    if len(slopes) < 2:
        raise PerlerInputError(
            "expected an objective that gives the term of every fold, found their sum alone: leaving one out "
            "needs them apart"
        )


def _newton(slope: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """The step to the maximum of a quadratic, uphill and of bounded length where there is none."""
    values, vectors = np.linalg.eigh(-curvature)
    floor = max(_FLATTEST * np.abs(values).max(), np.finfo(float).tiny)
    step = vectors @ ((vectors.T @ slope) / np.maximum(np.abs(values), floor))
    return step * min(1.0, _REACH / max(float(np.linalg.norm(step)), np.finfo(float).tiny))


def _stack(coordinates: Coordinates, points: Float[np.ndarray, "folds coordinates"]) -> Params:
    each = [coordinates.constrain(jnp.asarray(point)) for point in points]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
