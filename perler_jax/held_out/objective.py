"""The held-out objective J and its gradient, one fold in memory at a time.

For every fold the genes that it has never seen are predicted from its fit (`prediction.py`) and correlated
with their reference; J is the sum of -1/2 ln(1 - rho^2) over genes. Of the cells x locations of a fold one
tile is held, forwards and backwards.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perler_jax.errors import PerlerInputError
from perler_jax.held_out.cross_validation import correlation
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.prediction import (
    Fold,
    HeldOutData,
    HeldOutParams,
    check_params,
    landmark_axes,
    predict_fold,
)
from perler_jax.held_out.search import Objective, objective_terms
from perler_jax.inference.implicit import Solver

__all__ = ["HeldOutObjective", "held_out_objective"]


def held_out_objective(
    params: HeldOutParams,
    fits: HeldOutFits,
    data: HeldOutData,
    *,
    objective: Objective = "mutual_information",
    covariance: str = "fitted",
    solver: Solver = "gmres",
) -> Float[Array, ""]:
    """J, for `jax.grad` and all else; `HeldOutObjective` gives value and gradient in one sweep over folds.

    Args:
        params: where.
        fits: from `fit_held_out`.
        data: from `make_held_out_data`.
        objective: see `objective_terms`.
        covariance: of the distance, "fitted" or "pooled".
        solver: of the implicit derivative, see `implicit_fixed_point`.
    """
    check_params(params, fits, data)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, data.cells.dtype), params)
    axes = None if params.landmark_weights is None else landmark_axes(fits)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(fold: Fold) -> Array:
        return _term(params, fold, data, objective, covariance, solver)[0]

    return jax.lax.map(one, Fold(fits, axes)).sum()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HeldOutObjective:
    """J of given fits as a function of the parameters alone: what `tune` takes.

    Attributes:
        fits, data, objective, covariance, solver: as in `held_out_objective`.
    """

    fits: HeldOutFits
    data: HeldOutData
    objective: Objective = "mutual_information"
    covariance: str = "fitted"
    solver: Solver = "gmres"

    def __post_init__(self) -> None:
        if self.objective == "roc":
            raise PerlerInputError("expected an objective with a gradient, found 'roc': ranks have none")

    def __repr__(self) -> str:
        return f"HeldOutObjective({self.fits!r}, {self.objective})"

    def __call__(self, params: HeldOutParams) -> Float[Array, " folds"]:
        """Term of every fold; J is their sum."""
        return self._over_folds(params, per_fold=False, slopes=False)[0]

    def with_slopes(self, params: HeldOutParams) -> tuple[Float[Array, " folds"], HeldOutParams]:
        """Term of every fold and its gradient (a leading axis of folds), one fold after the other."""
        terms, _, slopes = self._over_folds(params, per_fold=False, slopes=True)
        return terms, slopes

    def scores(self, params: HeldOutParams, *, per_fold: bool = False) -> Float[np.ndarray, " landmarks"]:
        """Held-out correlation of every landmark; NaN where no fold held it out.

        Args:
            params: shared by all folds, or one set per fold (every leaf with a leading axis of folds).
            per_fold: whether each fold has its own.
        """
        found = np.asarray(self._over_folds(params, per_fold=per_fold, slopes=False)[1], np.float64)
        scores = np.full(self.data.cells.shape[1], np.nan)
        held = np.asarray(self.fits.held)
        scores[np.asarray(self.fits.genes)[held]] = found[held]
        return scores

    @functools.cached_property
    def _axes(self) -> Array:
        return jax.jit(landmark_axes)(self.fits)

    def _over_folds(self, params: HeldOutParams, *, per_fold: bool, slopes: bool) -> Any:
        check_params(params, self.fits, self.data)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.data.cells.dtype), params)
        folds = Fold(self.fits, None if params.landmark_weights is None else self._axes)
        options = (self.objective, self.covariance, self.solver)
        return _over_folds(params, folds, self.data, options, per_fold, slopes)


@functools.partial(jax.jit, static_argnames=("options", "per_fold", "slopes"))
def _over_folds(
    params: HeldOutParams,
    folds: Fold,
    data: HeldOutData,
    options: tuple[Objective, str, Solver],
    per_fold: bool,
    slopes: bool,
) -> tuple[Array, Array, HeldOutParams | None]:
    """Terms, scores and gradients. Each fold is differentiated where it stands: nothing of it is kept."""

    def one(item: tuple[Fold, HeldOutParams | None]) -> tuple[Array, Array, HeldOutParams | None]:
        fold, own = item
        at = params if own is None else own
        if not slopes:
            return *_term(at, fold, data, *options), None
        (term, scores), slope = jax.value_and_grad(_term, has_aux=True)(at, fold, data, *options)
        return term, scores, slope

    return jax.lax.map(one, (folds, params if per_fold else None))


def _term(
    params: HeldOutParams,
    fold: Fold,
    data: HeldOutData,
    objective: Objective,
    covariance: str,
    solver: Solver,
) -> tuple[Array, Array]:
    """One fold's part of J, and the scores (width,) of its genes."""
    fit, prediction = fold.fit, predict_fold(params, fold, data, covariance, solver)
    known = None if data.measured is None else data.measured[:, fit.genes].T
    scores = correlation(prediction.T, data.reference[:, fit.genes].T, known)
    return jnp.where(fit.held, objective_terms(scores, objective), 0.0).sum(), scores
