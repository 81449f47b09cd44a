"""The mode of the posterior under any priors, by Optax on the NumPyro model.

The mode is that of the density in a, b, sigma (and pi) themselves, as `map_em` finds it where the priors are
conjugate: both ways lead to the same point.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.inference.coordinates import log_density_at, make_coordinates, values_at
from perler_jax.inference.map_em import MapFit, check_mode
from perler_jax.inference.model import model_around, sites_from_params
from perler_jax.inference.posterior import natural_widths, start_mapping
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles

Method = Literal["lbfgs", "adam"]

__all__ = ["Method", "fit_map"]

_STALLED = 3  # successive steps without a gain above rounding: the precision is used up


def fit_map(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None = None,
    start: MappingParams | None = None,
    *,
    evidence: CellEvidence | None = None,
    method: str = "lbfgs",
    batch_size: int | None = None,
    learning_rate: float = 1.0,
    tolerance: float = 1e-2,
    max_steps: int = 500,
    seed: int = 0,
    tiles: Tiles | None = None,
    progress: bool = True,
) -> MapFit:
    """The mode under any priors, by gradients of the NumPyro model.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: any priors; None is flat.
        start: initial parameters, which also carry a fixed pi, the noise
            family and foreign cells; None starts as EM does, with uniform pi.
        evidence: what else is known of where each cell is from.
        method: "lbfgs" (all cells at every step) or "adam" (all steps made, the rate falling as a cosine).
        batch_size: cells per step of "adam", drawn anew each time; None is all.
        learning_rate: of "adam", in standard errors per step.
        tolerance: of "lbfgs": every slope, in nats per standard error, is below this at the end; the mode is
            then about as many standard errors away.
        max_steps: steps of "adam", most steps of "lbfgs".
        seed: of the minibatches.
        tiles: tile sizes; None chooses them.
        progress: show a progress bar.

    Returns:
        The mode with its history: log posterior in nats.

    Raises:
        PerlerInputError: on options or priors that cannot be used, before anything is compiled.
    """
    if method not in get_args(Method):
        raise PerlerInputError(
            f"expected method to be one of {', '.join(get_args(Method))}; found {method!r}"
        )
    if batch_size is not None and method == "lbfgs":
        raise PerlerInputError("expected all cells with lbfgs, found a batch_size: use method='adam' for it")
    if batch_size is not None and not 1 <= batch_size <= len(cells):
        raise PerlerInputError(f"expected a batch_size of 1 to {len(cells)} cells, found {batch_size}")
    check_mode(priors)
    of_site, start = start_mapping(cells, reference, priors, start, evidence, by_em=False)
    model = model_around(start, evidence, subsample_size=batch_size, tiles=tiles)
    arguments = (cells, reference, of_site, start.log_location_weights)
    learned = of_site.location_weights is not None
    first, key = jax.random.split(jax.random.key(seed))
    coordinates = make_coordinates(
        model,
        sites_from_params(start, location_weights=learned),
        natural_widths(start, cells, reference),
        key=first,
        arguments=arguments,
    )

    def loss(z: Array, key: Array) -> Array:
        """Negative log posterior in the parameters themselves: no change of variables."""
        value = log_density_at(model, coordinates, z, arguments, change_of_variables=False, key=key)
        return -value

    z = jnp.zeros(coordinates.size, coordinates.centre.dtype)
    with tqdm(desc=f"MAP ({method})", total=max_steps, unit="step", disable=not progress, leave=False) as bar:
        if method == "lbfgs":
            z, values, converged = _lbfgs(lambda z: loss(z, key), z, tolerance, max_steps, bar)
        else:
            rate = optax.cosine_decay_schedule(learning_rate, max_steps)
            z, values = _adam(loss, z, key, optax.adam(rate), max_steps, bar)
            converged = True
    params, sites = jax.jit(lambda z: values_at(model, coordinates, z, arguments))(z)
    return MapFit(params, -np.asarray(values, np.float64), len(values) - 1, converged, sites)


def _lbfgs(
    loss: Any, z: Array, tolerance: float, max_steps: int, bar: Any
) -> tuple[Array, list[float], bool]:
    solver = optax.lbfgs()
    value_and_slope = optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(z: Array, state: Any) -> tuple[Array, Any, Array, Array, Array]:
        before, slope = value_and_slope(z, state=state)
        updates, state = solver.update(slope, state, z, value=before, grad=slope, value_fn=loss)
        after, new_slope = optax.tree.get(state, "value"), optax.tree.get(state, "grad")
        return optax.apply_updates(z, updates), state, before, after, jnp.abs(new_slope).max()

    values: list[float] = []
    state, stalled = solver.init(z), 0
    for _ in range(max_steps):
        z, state, before, after, steepest = step(z, state)
        values = [*(values or [float(before)]), float(after)]
        bar.update()
        bar.set_postfix_str(f"log posterior {-values[-1]:.1f}, slope {float(steepest):.2g}", refresh=False)
        gain = values[-2] - values[-1]
        stalled = stalled + 1 if gain <= float(jnp.finfo(z.dtype).eps) * abs(values[-1]) else 0
        if float(steepest) < tolerance or stalled == _STALLED:
            return z, values, True
    return z, values, False


def _adam(
    loss: Any, z: Array, key: Array, solver: Any, max_steps: int, bar: Any
) -> tuple[Array, list[float]]:
    @jax.jit
    def step(z: Array, state: Any, index: Array) -> tuple[Array, Any, Array]:
        value, slope = jax.value_and_grad(loss)(z, jax.random.fold_in(key, index))
        updates, state = solver.update(slope, state, z)
        return optax.apply_updates(z, updates), state, value

    state, values, here = solver.init(z), [], z
    for index in range(max_steps + 1):  # the last step only tells the value where the one before it led
        here = z
        z, state, value = step(here, state, jnp.asarray(index))
        values.append(value)
        bar.update()
    return here, [float(value) for value in values]
