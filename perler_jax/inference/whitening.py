"""Coordinates in which the posterior is about a standard normal: whitened by the Laplace approximation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from perler_jax.evidence import CellEvidence
from perler_jax.inference.coordinates import Coordinates
from perler_jax.inference.laplace import LaplaceFit, fit_laplace
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles

__all__ = ["approximate", "whiten"]


def approximate(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    priors: MappingPriors | ConjugatePriors | None,
    start: MappingParams | None,
    *,
    evidence: CellEvidence | None = None,
    tiles: Tiles | None,
    progress: bool,
) -> LaplaceFit:
    """The Laplace approximation of a, b and sigma that coordinates are made of.

    It shapes steps and starts, nothing else: pi is held fixed, and priors that are functions count as flat.

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        priors: any priors.
        start: where the search for the mode begins, which also carries a fixed pi.
        evidence: what else is known of where each cell is from.
        tiles: tile sizes; None chooses them.
        progress: show a progress bar.
    """
    return fit_laplace(
        cells, reference, _normalisable(priors), start, evidence=evidence, tiles=tiles, progress=progress
    )


def _normalisable(priors: MappingPriors | ConjugatePriors | None) -> MappingPriors | ConjugatePriors | None:
    """The priors that shape the sampler's steps: pi held fixed, and priors that are functions left out."""
    if isinstance(priors, ConjugatePriors):
        return dataclasses.replace(priors, location_concentration=None)
    if priors is None or any(_is_function(each) for each in vars(priors).values()):
        return None
    return dataclasses.replace(priors, location_weights=None)


def _is_function(prior: Any) -> bool:
    return prior is not None and not isinstance(prior, Distribution)


def whiten(coordinates: Coordinates, laplace: LaplaceFit) -> Coordinates:
    """Replace the widths of a, b and ln sigma by a root of their Laplace covariance; others stay.

    Args:
        coordinates: of a model, with widths.
        laplace: its approximation.
    """
    covariance = np.asarray(laplace.covariance_of_free(), np.float64)
    index = coordinates.unravel(jnp.arange(coordinates.size, dtype=coordinates.centre.dtype))
    # A parameter that a function of the user's makes from other sites has no coordinates of its own.
    names = [name for name in ("sensitivity", "background", "noise") if name in index]
    blocks = dict(
        zip(("sensitivity", "background", "noise"), np.split(np.arange(len(covariance)), 3), strict=True)
    )
    scale = np.diag(np.asarray(coordinates.scale, np.float64))
    if names:
        where = np.concatenate([np.asarray(index[name]) for name in names]).astype(int)
        own = np.concatenate([blocks[name] for name in names])
        scale[np.ix_(where, where)] = np.linalg.cholesky(covariance[np.ix_(own, own)])
    return coordinates.at(jnp.asarray(scale, coordinates.centre.dtype))
