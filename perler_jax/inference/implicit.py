"""Derivatives of a fit in what went into it, by the implicit function theorem.

EM ends where its step changes nothing, theta = F(theta, inputs). Whatever path led there,

    d theta = (I - F')^{-1} dF,      F' = dF/d theta,  dF = (dF / d inputs) d inputs,

so the derivative needs one linear system of the size of theta (3 x metagenes) and one derivative of one EM
step, never the steps that were made. Both stream: nothing of the size cells x locations is held.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import gmres
from jaxtyping import Array, Float

from perler_jax.em import initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.map_em import check_mode, map_m_step, run_map_em
from perler_jax.inference.posterior import check_sides
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.streaming import Tiles

Solver = Literal["dense", "gmres"]

__all__ = ["Solver", "fit_implicit", "implicit_fixed_point"]

_TOGETHER = 6  # columns of F' that share one pass: its exp is taken once, the tile is held this often
_NEAR = 0.1  # widths: a Newton step from farther away could lead anywhere
_NO_SAY = 256  # units in the last place below which a step has changed nothing


def implicit_fixed_point(
    step: Callable[[Any], Any], found: Any, *, widths: Any = None, solver: Solver = "dense"
) -> Any:
    """A fixed point that was found somehow, with derivatives in all that the step closes over.

    Args:
        step: one EM step, or any smooth map: parameters -> parameters, a pytree of arrays.
        found: near ``step(found) = found``, to the tolerance of whoever found it; its own derivatives are
            dropped. A parameter that the step hands through unchanged is a constant here.
        widths: a tree like ``found`` of typical sizes; the system is solved in these units. None: ones.
        solver: "dense" forms I - F' (as many derivatives of the step as there are parameters) and serves any
            number of right-hand sides; "gmres" needs some ten for one right-hand side, e.g. one gradient.

    Returns:
        The fixed point, differentiable in forward and in reverse mode: ``found`` after one Newton step, which
        is as near as the precision allows where EM stopped by its gain (a gain of 1e-12 of the likelihood
        leaves an error of 1e-4 in a derivative; after the step, in float64, of 1e-7).
    """
    found = jax.lax.stop_gradient(found)
    start, unravel = ravel_pytree(found)
    width = jnp.ones_like(start) if widths is None else ravel_pytree(jax.lax.stop_gradient(widths))[0]

    def change(z: Array) -> Array:
        """What one step changes, both sides in units of the widths around the point that was found."""
        return z - (ravel_pytree(step(unravel(start + width * z)))[0] - start) / width

    solve = functools.partial(_solve, dense=solver == "dense")
    left, slope = jax.linearize(change, jnp.zeros_like(start))
    newton = jax.lax.stop_gradient(solve(slope, -left))
    near = jnp.isfinite(newton).all() & (jnp.abs(newton).max() < _NEAR)
    start = start + width * jnp.where(near, newton, 0.0)
    z = jax.lax.custom_root(change, jnp.zeros_like(start), lambda _, guess: guess, solve)
    return unravel(start + width * z)


def _solve(singular: Callable[[Array], Array], right: Array, *, dense: bool) -> Array:
    """Solve (I - F') z = right, forwards and transposed."""
    size, dtype = len(right), right.dtype
    # What the step keeps (a metagene of which neither cells nor locations tell anything) has a row of zeros
    # in I - F', and a right-hand side of zero: with a one on the diagonal it stays. A row of zeros is one
    # that no direction, hence not this one, gets anything through.
    anywhere = jax.random.normal(jax.random.key(0), (size,), dtype)
    kept = (jnp.abs(singular(anywhere)) <= _NO_SAY * jnp.finfo(dtype).eps).astype(dtype)

    def matvec(z: Array) -> Array:
        return singular(z) + kept * z

    if dense:
        columns = jax.lax.map(matvec, jnp.eye(size, dtype=dtype), batch_size=_TOGETHER)
        return jnp.linalg.solve(columns.T, right)
    # The eigenvalues of F' lie between zero and one, most of them near zero: few steps do.
    tolerance = 0.1 * float(jnp.finfo(dtype).eps) ** 0.5
    iterate = functools.partial(gmres, tol=tolerance, restart=30, maxiter=4, solve_method="incremental")

    def solve(matvec: Callable[[Array], Array], right: Array) -> Array:
        return iterate(matvec, right)[0]

    return jax.lax.custom_linear_solve(matvec, right, solve, transpose_solve=solve)


def fit_implicit(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    tolerance: float | Array = 1e-10,
    max_steps: int = 500,
    solver: Solver = "dense",
    tiles: Tiles | None = None,
) -> MappingParams:
    """The fit of `fit_em` (without priors) or `fit_map_em`, as a differentiable function of its inputs.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: conjugate priors; None is flat.
        start: initial parameters, which also carry a fixed pi, the noise family and foreign cells; None
            starts as EM does, with uniform pi.
        evidence: what else is known of where each cell is from.
        tolerance: gain of the log posterior relative to its size that ends the run. The derivative is as far
            off as the fit is.
        max_steps: most M steps.
        solver: see `implicit_fixed_point`.
        tiles: tile sizes; None chooses them.

    Returns:
        The mapping, with derivatives in cells, reference, every strength of the priors, evidence and a fixed
        ``start.log_location_weights``. They are those of the optimum that was reached: where a small change
        of the inputs makes another one better, nothing here sees it.

    Note: a metagene that is constant among the cells or over the locations keeps its start (`map_m_step`),
    which is a constant here. That does not say that it would stay if the metagene began to vary.

    Note: with a Dirichlet prior pi is one more unknown per location, and the dense system grows by as many:
    take "gmres" there. A flat one (concentration 1) can empty a location, where ln pi has no derivative.

    Raises:
        PerlerInputError: on sides that do not fit, or priors that are not conjugate or have no mode.
    """
    check_sides(cells, reference)
    priors = ConjugatePriors() if priors is None else priors
    if not isinstance(priors, ConjugatePriors):
        raise PerlerInputError(
            f"expected ConjugatePriors for EM, found {type(priors).__name__}: its M step has no closed form"
        )
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(priors)):
        check_mode(priors)
    return _fit(
        cells,
        reference,
        priors,
        start,
        evidence,
        tolerance,
        max_steps=max_steps,
        solver=solver,
        tiles=tiles,
    )


@functools.partial(jax.jit, static_argnames=("max_steps", "solver", "tiles"))
def _fit(
    cells: Array,
    reference: Array,
    priors: ConjugatePriors,
    start: MappingParams | None,
    evidence: CellEvidence | None,
    tolerance: float | Array,
    *,
    max_steps: int,
    solver: Solver,
    tiles: Tiles | None,
) -> MappingParams:
    start = initial_params(cells, reference) if start is None else start
    learned = priors.location_concentration is not None
    if learned and start.log_location_weights is None:
        uniform = jnp.full(len(reference), -np.log(len(reference)), cells.dtype)
        start = dataclasses.replace(start, log_location_weights=uniform)
    found = run_map_em(
        *jax.lax.stop_gradient((cells, reference, priors, start)),
        tolerance,
        max_steps=max_steps,
        evidence=jax.lax.stop_gradient(evidence),
        tiles=tiles,
    ).params
    if not learned:  # pi is no unknown, but an input
        found = dataclasses.replace(found, log_location_weights=None)

    def step(params: MappingParams) -> MappingParams:
        if not learned:
            params = dataclasses.replace(params, log_location_weights=start.log_location_weights)
        statistics = expected_statistics(params, cells, reference, evidence=evidence, tiles=tiles)
        after = map_m_step(statistics, params, priors)
        return after if learned else dataclasses.replace(after, log_location_weights=None)

    spread = reference.std(axis=0)
    widths = dataclasses.replace(
        jax.tree.map(jnp.ones_like, found),
        sensitivity=found.noise / jnp.where(spread > 0, spread, 1.0),
        background=found.noise,
        noise=found.noise,
    )
    params = implicit_fixed_point(step, found, widths=widths, solver=solver)
    return params if learned else dataclasses.replace(params, log_location_weights=start.log_location_weights)
