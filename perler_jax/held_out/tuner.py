"""One tuner for every differentiable held-out objective.

An objective is any function of a pytree of parameters that gives the terms of its folds, (folds,), or their
sum, (): JAX differentiates it. One that has a cheaper way to value and slopes brings it as ``with_slopes``
(`HeldOutObjective` does). The search moves in unconstrained coordinates: logarithms, where parameters are
positive.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Float
from numpyro.distributions import biject_to, constraints
from tqdm import tqdm

from perler_jax.errors import PerlerInputError

Params: TypeAlias = Any  # a pytree of numbers and arrays
Objective: TypeAlias = Callable[[Params], Any]

__all__ = ["Coordinates", "Tuned", "WithSlopes", "evaluate", "tune"]


@runtime_checkable
class WithSlopes(Protocol):
    """An objective that gives value and gradient in one sweep."""

    def __call__(self, params: Params) -> Any:
        """Terms (folds,), or their sum ()."""

    def with_slopes(self, params: Params) -> tuple[Any, Params]:
        """Terms, and for every parameter their derivatives, (folds, ...)."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tuned:
    """The best parameters that were found.

    Attributes:
        params: the optimum, in the tree of the start.
        value: of the objective there.
        terms: (folds,) its parts; one part where the objective is a sum already.
        slope: (coordinates,) gradient there in the coordinates of the search.
        path: all that was evaluated with its value, in order: starts first.
        converged: whether the stop rule, not ``max_steps``, ended the search.
        message: of the optimiser.
    """

    params: Params
    value: float
    terms: Float[np.ndarray, " folds"]
    slope: Float[np.ndarray, " coordinates"]
    path: list[tuple[Params, float]]
    converged: bool
    message: str

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        return f"Tuned({state}, value {self.value:.4g} after {len(self.path)} evaluations)"


class Coordinates:
    """A pytree of constrained parameters as one unconstrained vector on the host.

    Args:
        start: the tree; its None are left out.
        support: a NumPyro constraint for all parameters, or a tree of them whose leaves stand for whole
            branches of ``start``: positive, real, interval(low, high), ...

    Raises:
        PerlerInputError: if ``start`` lies outside its support.
    """

    def __init__(self, start: Params, support: Any = constraints.positive) -> None:
        def is_constraint(node: Any) -> bool:
            return isinstance(node, constraints.Constraint)

        start = jax.tree.map(jnp.asarray, start)
        branches = jax.tree.map(
            lambda each, branch: jax.tree.map(lambda _: each, branch), support, start, is_leaf=is_constraint
        )
        each = jax.tree.leaves(branches, is_leaf=is_constraint)
        for (path, leaf), constraint in zip(jax.tree_util.tree_leaves_with_path(start), each, strict=True):
            if not bool(np.all(constraint(leaf))):
                raise PerlerInputError(
                    f"expected a start inside {constraint}, found {jax.tree_util.keystr(path)} = {leaf}"
                )
        self._bijections = [biject_to(constraint) for constraint in each]
        leaves, self._structure = jax.tree.flatten(start)
        inner = [one.inv(leaf) for one, leaf in zip(self._bijections, leaves, strict=True)]
        flat, self._unravel = ravel_pytree(inner)
        self.start = np.asarray(flat, np.float64)

    def constrain(self, at: Any) -> Params:
        """Coordinates to parameters."""
        leaves = self._unravel(at)
        values = [one(leaf) for one, leaf in zip(self._bijections, leaves, strict=True)]
        return jax.tree.unflatten(self._structure, values)

    def to_coordinates(self, params: Params) -> Float[np.ndarray, " coordinates"]:
        """Parameters to coordinates."""
        leaves = jax.tree.leaves(jax.tree.map(jnp.asarray, params))
        inner = [one.inv(leaf) for one, leaf in zip(self._bijections, leaves, strict=True)]
        return np.asarray(ravel_pytree(inner)[0], np.float64)

    def pull_back(
        self, at: Float[np.ndarray, " coordinates"], slopes: Params
    ) -> Float[np.ndarray, "folds coordinates"]:
        """Derivatives in the parameters, (folds, ...), to derivatives in the coordinates."""
        point, back = jax.vjp(self.constrain, jnp.asarray(at))
        slopes = jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), slopes, point)
        return np.asarray(jax.vmap(lambda each: back(each)[0])(slopes), np.float64)


def evaluate(
    objective: Objective | WithSlopes, coordinates: Coordinates, at: Float[np.ndarray, " coordinates"]
) -> tuple[Float[np.ndarray, " folds"], Float[np.ndarray, "folds coordinates"]]:
    """Terms and their derivatives in the coordinates.

    Raises:
        PerlerInputError: where they are not finite.
    """
    params = coordinates.constrain(jnp.asarray(at))
    terms, slopes = _with_slopes(objective)(params)
    terms, pulled = np.atleast_1d(np.asarray(terms, np.float64)), coordinates.pull_back(at, slopes)
    if not (np.isfinite(terms).all() and np.isfinite(pulled).all()):
        raise PerlerInputError(
            f"expected a finite objective with finite slopes, found {terms.sum()} and {pulled.sum(axis=0)} "
            f"at {params}: start elsewhere, or narrow the support"
        )
    return terms, pulled


def tune(
    objective: Objective | WithSlopes,
    start: Params,
    *,
    support: Any = constraints.positive,
    starts: Sequence[Params] = (),
    weights: Float[np.ndarray, " folds"] | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 50,
    progress: bool = True,
) -> Tuned:
    """Maximise a held-out objective by L-BFGS.

    Args:
        objective: parameters -> terms of the folds, or their sum; differentiable by JAX.
        start: where the search begins: any pytree.
        support: what values are allowed, see `Coordinates`. Positive parameters are searched as logarithms.
        starts: other points, of which only the value is computed; the search begins at the best of all. A
            held-out objective can have more than one basin.
        weights: (folds,) how often each term counts: 0 leaves a fold out. None: once.
        tolerance: relative gain of a step that ends the search.
        max_steps: most steps.
        progress: show a progress bar.

    Raises:
        PerlerInputError: on a start outside the support, or where the objective is not finite.
    """
    coordinates = Coordinates(start, support)
    path: list[tuple[Params, float]] = []
    visited: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = []

    def total(terms: np.ndarray) -> float:
        return float(terms.sum() if weights is None else weights @ terms)

    with tqdm(desc="tuning", unit="evaluation", disable=not progress, leave=False) as bar:

        def visit(params: Params, value: float) -> None:
            path.append((params, value))
            bar.update()
            bar.set_postfix_str(f"best {max(each for _, each in path):.4f}", refresh=False)

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            terms, slopes = evaluate(objective, coordinates, at)
            slope = slopes.sum(axis=0) if weights is None else weights @ slopes
            visited.append((total(terms), at.copy(), terms, slope))
            visit(coordinates.constrain(jnp.asarray(at)), total(terms))
            return -total(terms), -slope

        first = coordinates.start
        if starts:
            for params in (start, *starts):
                visit(params, total(np.atleast_1d(np.asarray(objective(params), np.float64))))
            first = coordinates.to_coordinates(max(path, key=lambda each: each[1])[0])
        options = {"ftol": tolerance, "gtol": tolerance, "maxiter": max_steps}
        found = scipy.optimize.minimize(loss, first, jac=True, method="L-BFGS-B", options=options)
    value, at, terms, slope = max(visited, key=lambda each: each[0])
    return Tuned(
        params=coordinates.constrain(jnp.asarray(at)),
        value=value,
        terms=terms,
        slope=slope,
        path=path,
        converged=bool(found.success),
        message=str(found.message),
    )


def _with_slopes(objective: Any) -> Callable[[Params], tuple[Any, Params]]:
    own = getattr(objective, "with_slopes", None)
    return _differentiate(objective) if own is None else own


@functools.lru_cache(maxsize=8)
def _differentiate(objective: Objective) -> Callable[[Params], tuple[Any, Params]]:
    """Compiled once per objective; a sum is one term."""

    def terms(params: Params) -> tuple[Any, Any]:
        found = jnp.atleast_1d(objective(params))
        return found, found

    def both(params: Params) -> tuple[Any, Params]:
        slopes, found = jax.jacrev(terms, has_aux=True)(params)
        return found, slopes

    return jax.jit(both)
