"""The mean-field pull of expression neighbours, for held-out fits: every fold by what it knows itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax.evidence import CellEvidence
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.neighbourhood import neighbour_evidence
from perler_jax.streaming import Tiles

__all__ = ["pull_folds", "pull_of_fold"]


def pull_folds(
    fits: HeldOutFits,
    cells: Float[Array, "cells landmarks"],
    reference: Float[Array, "locations landmarks"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    neighbours: Int[np.ndarray, "cells neighbours"],
    sd: float,
    evidence: CellEvidence | None = None,
    *,
    n_rounds: int = 3,
    tiles: Tiles | None = None,
    progress: Callable[[Any], Any] = iter,
) -> HeldOutFits:
    """Draw each cell toward where its neighbours are, fold by fold; the mappings stay as they are.

    Args:
        fits: from `fit_held_out`.
        cells: centred log2 landmark expression, as in the fits.
        reference: centred log2 landmark expression, as in the fits.
        coordinates: of the locations.
        neighbours: from `expression_neighbours`, found without any of the landmarks.
        sd: how far a cell may be from where its neighbours are, in the unit of the coordinates.
        evidence: what else is known of each cell, as in the fits.
        n_rounds: how often expected positions are found anew.
        tiles: tile sizes; None chooses them.
        progress: wraps the iterable of folds.
    """
    folds = [jax.tree.map(lambda leaf, at=index: leaf[at], fits) for index in range(len(fits.n_steps))]
    sides = (cells, reference, coordinates)
    pulls = [
        pull_of_fold(fit, *sides, neighbours, sd, evidence, n_rounds=n_rounds, tiles=tiles)
        for fit in progress(folds)
    ]
    return dataclasses.replace(fits, pull=jax.tree.map(lambda *leaves: jnp.stack(leaves), *pulls))


def pull_of_fold(
    fit: HeldOutFits,
    cells: Float[Array, "cells landmarks"],
    reference: Float[Array, "locations landmarks"],
    coordinates: Float[np.ndarray, "locations dimensions"],
    neighbours: Int[np.ndarray, "cells neighbours"],
    sd: float,
    evidence: CellEvidence | None = None,
    *,
    n_rounds: int = 3,
    tiles: Tiles | None = None,
) -> CellEvidence:
    """The pull in one fold, whose leaves have no fold axis."""
    dtype = fit.cell_loadings.dtype
    return neighbour_evidence(
        fit.params,
        cells @ fit.cell_loadings,
        fit.locations(reference),
        jnp.asarray(coordinates, dtype),
        jnp.asarray(neighbours),
        sd,
        evidence,
        n_rounds=n_rounds,
        tiles=tiles,
    )
