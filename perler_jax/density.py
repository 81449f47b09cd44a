"""The density of cells as a function to differentiate, and what it says of single cells."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax.evidence import CellEvidence
from perler_jax.mixture import (
    MappingParams,
    SufficientStatistics,
    foreign_probability,
    log_weights,
    posterior_moments,
    score,
    standardise,
)
from perler_jax.noise import GAUSSIAN
from perler_jax.streaming import Tiles

__all__ = ["cell_votes", "foreign_cells", "log_density", "log_responsibilities", "responsibilities"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def log_density(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
    tiles: Tiles | None = None,
) -> Float[Array, " cells"]:
    """Ln p(x_n) of every cell (Eq. 8), streamed, with a gradient that costs little more than itself.

    The posterior means of r and r^2 of every cell are all that the gradient in a, b, sigma and the cells
    needs, for any weighting of the cells: they are gathered in the same pass. A gradient in anything else
    (pi, the reference, evidence, foreign cells), where it is asked for, takes a second one.
    """
    return posterior_moments(params, cells, reference, evidence, tiles=tiles).log_normaliser


_Inputs = tuple[MappingParams, Array, Array, CellEvidence | None]


def _forward(
    params: MappingParams,
    cells: Array,
    reference: Array,
    evidence: CellEvidence | None,
    tiles: Tiles | None,
) -> tuple[Array, tuple[_Inputs, Array, Array]]:
    whole = params.noise_family == GAUSSIAN and params.foreign is None
    powers = [reference, reference**2] + ([] if whole else [jnp.ones_like(reference[:, :1])])
    moments = posterior_moments(
        params,
        cells,
        reference,
        evidence,
        location_values=jnp.concatenate(powers, axis=1),
        with_precision=True,
        tiles=tiles,
    )
    assert moments.of_cells is not None
    return moments.log_normaliser, (
        (params, cells, reference, evidence),
        moments.log_normaliser,
        moments.of_cells,
    )


def _backward(
    tiles: Tiles | None, saved: tuple[_Inputs, Array, Array], cotangent: Array
) -> tuple[MappingParams, Array, Array, CellEvidence | None]:
    (params, cells, reference, evidence), log_p, expected = saved
    n_metagenes = cells.shape[1]
    mean, squared = expected[:, :n_metagenes], expected[:, n_metagenes : 2 * n_metagenes]
    votes = expected[:, -1] if expected.shape[1] > 2 * n_metagenes else jnp.ones_like(log_p)
    foreign = foreign_probability(params, cells, log_p)
    statistics = SufficientStatistics(
        count=cotangent @ (1 - foreign),
        mass=cotangent @ votes,
        cells=(cotangent * votes) @ cells,
        cells_squared=(cotangent * votes) @ cells**2,
        locations=cotangent @ mean,
        locations_squared=cotangent @ squared,
        cross=cotangent @ (cells * mean),
        location_mass=jnp.zeros(len(reference), cells.dtype),
        foreign_mass=cotangent @ foreign,
        log_likelihood=cotangent @ log_p,
    )
    fast = score(params, statistics)

    # XLA drops this pass, and jit is where gradients are taken, unless one of the others is asked for.
    def others(log_pi: Array | None, foreign: Any, reference: Array, evidence: CellEvidence | None) -> Array:
        at = dataclasses.replace(params, log_location_weights=log_pi, foreign=foreign)
        return posterior_moments(at, cells, reference, evidence, tiles=tiles).log_normaliser

    _, pullback = jax.vjp(others, params.log_location_weights, params.foreign, reference, evidence)
    of_log_pi, of_foreign, of_reference, of_evidence = pullback(cotangent)
    # d ln p / dx of a cell: toward where it is expected to be from, by how much it is from there.
    mapped = params.sensitivity * mean + params.background * votes[:, None]
    toward = -cotangent[:, None] * params.noise**-2 * (votes[:, None] * cells - mapped)
    elsewhere = params.foreign
    if elsewhere is not None:
        _, pull = jax.vjp(lambda x: elsewhere.log_odds(x, params.noise_family), cells)
        toward = toward + pull(cotangent * foreign)[0]
    gradient = dataclasses.replace(fast, log_location_weights=of_log_pi, foreign=of_foreign)
    return gradient, toward, of_reference, of_evidence


log_density.defvjp(_forward, _backward)


@jax.jit
def responsibilities(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
) -> Float[Array, "cells locations"]:
    """gamma_nk, the posterior that cell n came from location k (Eq. 11): DENSE, for chosen cells only.

    It is that of a cell which is from the tissue at all: rows sum to one.
    """
    return jax.nn.softmax(_row_logits(params, cells, reference, evidence), axis=1)


@jax.jit
def log_responsibilities(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
) -> Float[Array, "cells locations"]:
    """Ln gamma_nk, also where gamma_nk is too small for a floating-point number: DENSE, likewise."""
    return jax.nn.log_softmax(_row_logits(params, cells, reference, evidence), axis=1)


def _row_logits(
    params: MappingParams, cells: Array, reference: Array, evidence: CellEvidence | None
) -> Array:
    standard, mapped = standardise(params, cells, reference)
    product = functools.partial(jnp.matmul, precision="highest")
    squared = jnp.sum(standard**2, axis=1)[:, None] + jnp.sum(mapped**2, axis=1)
    shape, _ = params.noise_family.log_shape(squared - 2 * product(standard, mapped.T), cells.shape[1])
    logits = shape + log_weights(params, len(reference))
    if evidence is None:
        return logits
    return logits + product(evidence.of_cells, evidence.of_locations.T)


@functools.partial(jax.jit, static_argnames="tiles")
def cell_votes(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
    *,
    tiles: Tiles | None = None,
) -> Float[Array, " cells"] | None:
    """How much each cell should count in a weighted mean: its probability of being from the tissue.

    None where no cell is thought to be from elsewhere: all count alike.
    """
    if params.foreign is None:
        return None
    return 1 - foreign_cells(params, cells, reference, evidence, tiles=tiles)


@functools.partial(jax.jit, static_argnames="tiles")
def foreign_cells(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
    *,
    tiles: Tiles | None = None,
) -> Float[Array, " cells"]:
    """Posterior probability that each cell is from none of the locations; zero without such a component."""
    log_p = posterior_moments(params, cells, reference, evidence, tiles=tiles).log_normaliser
    return foreign_probability(params, cells, log_p)
