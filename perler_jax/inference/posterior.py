"""What every Bayesian fit shares: draws of the mapping, summaries, densities of cells under them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.density import log_density
from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence, check_evidence
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, site_priors
from perler_jax.mixture import MappingParams
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.streaming import Tiles

__all__ = [
    "MappingDraws",
    "check_sides",
    "natural_widths",
    "pointwise_log_likelihood",
    "start_mapping",
    "summarise_draws",
]


@pytree
class MappingDraws:
    """Draws of the mapping from a posterior, or from an approximation of one.

    Attributes:
        sensitivity: (chains, draws, metagenes).
        background: (chains, draws, metagenes).
        noise: (chains, draws, metagenes).
        log_location_weights: (chains, draws, locations) where pi is learned, else fixed (locations,) or None.
        foreign: of the mapping; its share is (chains, draws) where it is learned.
        noise_family: of the mapping.
    """

    sensitivity: Float[Array, "chains draws metagenes"]
    background: Float[Array, "chains draws metagenes"]
    noise: Float[Array, "chains draws metagenes"]
    log_location_weights: Float[Array, "chains draws locations"] | Float[Array, " locations"] | None = None
    foreign: ForeignCells | None = None
    noise_family: NoiseFamily = dataclasses.field(default=GAUSSIAN, metadata={"static": True})

    def __repr__(self) -> str:
        chains, draws, metagenes = np.shape(self.noise)
        return f"MappingDraws({chains} chains of {draws} draws, {metagenes} metagenes)"

    @property
    def learned_location_weights(self) -> bool:
        """Whether pi differs between draws."""
        return self.log_location_weights is not None and self.log_location_weights.ndim == 3

    def thin(self, n_draws: int) -> MappingDraws:
        """At most about ``n_draws`` in all, evenly spaced in every chain."""
        chains, draws = self.noise.shape[:2]
        keep = np.unique(np.linspace(0, draws - 1, max(1, min(draws, n_draws // chains))).round().astype(int))
        return dataclasses.replace(self, **self._each(lambda values: values[:, keep]))

    def mapping(self, index: Array | int) -> MappingParams:
        """The mapping of one draw, counted over all chains."""
        one = self._each(lambda values: values.reshape(-1, *values.shape[2:])[index])
        return MappingParams(**one, noise_family=self.noise_family)

    def _each(self, function: Callable[[Array], Array]) -> dict[str, Any]:
        """A function of everything that differs between draws, by field; what does not, as it is."""
        weights, foreign = self.log_location_weights, self.foreign
        if self.learned_location_weights:
            assert weights is not None
            weights = function(weights)
        if foreign is not None and np.ndim(foreign.share):
            foreign = dataclasses.replace(foreign, share=function(foreign.share))
        names = ("sensitivity", "background", "noise")
        changed = {name: function(getattr(self, name)) for name in names}
        return {**changed, "log_location_weights": weights, "foreign": foreign}


def summarise_draws(draws: MappingDraws) -> tuple[MappingParams, MappingParams]:
    """Posterior means and standard deviations of a, b and sigma; pi is the mean of its draws, or as fixed."""
    weights = draws.log_location_weights
    mean_weights = weights
    if draws.learned_location_weights:
        assert weights is not None
        mean_weights = jnp.log(jnp.exp(jax.nn.log_softmax(weights)).mean(axis=(0, 1)))
    stacked = jnp.stack([draws.sensitivity, draws.background, draws.noise])
    mean, spread = stacked.mean(axis=(1, 2)), stacked.std(axis=(1, 2), ddof=1)
    foreign = draws.foreign
    if foreign is not None:
        foreign = dataclasses.replace(foreign, share=jnp.mean(foreign.share))
    centre = MappingParams(mean[0], mean[1], mean[2], mean_weights, foreign, draws.noise_family)
    return centre, MappingParams(spread[0], spread[1], spread[2])


@functools.partial(jax.jit, static_argnames="tiles")
def pointwise_log_likelihood(
    draws: MappingDraws,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    *,
    evidence: CellEvidence | None = None,
    tiles: Tiles | None = None,
) -> Float[Array, "chains draws cells"]:
    """Ln p(x_n) under every draw (Eq. 8), one streamed pass per draw."""
    chains, n_draws, _ = draws.noise.shape

    def one(index: Array) -> Array:
        return log_density(draws.mapping(index), cells, reference, evidence, tiles)

    return jax.lax.map(one, jnp.arange(chains * n_draws)).reshape(chains, n_draws, len(cells))


def check_sides(cells: Array, reference: Array) -> None:
    """Cells and locations in the same metagenes.

    Raises:
        PerlerInputError: if they are not.
    """
    if np.ndim(cells) != 2 or np.ndim(reference) != 2 or cells.shape[1] != reference.shape[1]:
        raise PerlerInputError(
            "expected cells (cells, metagenes) and a reference (locations, metagenes) in the same metagenes; "
            f"found {np.shape(cells)} and {np.shape(reference)}"
        )


def start_mapping(
    cells: Array,
    reference: Array,
    priors: MappingPriors | ConjugatePriors | None,
    start: MappingParams | None,
    evidence: CellEvidence | None = None,
    *,
    by_em: bool,
) -> tuple[MappingPriors, MappingParams]:
    """Priors in the model's form, and where to start: as given, else as EM starts or as it ends.

    Raises:
        PerlerInputError: on sides, priors or evidence that do not fit, before anything is computed.
    """
    check_sides(cells, reference)
    check_evidence(evidence, len(cells), len(reference))
    of_site = site_priors(priors, cells.shape[1], len(reference), cells.dtype)
    if start is None:
        start = initial_params(cells, reference)
        if by_em:
            start = fit_em(cells, reference, start, evidence=evidence).params
    if np.shape(start.noise) != (cells.shape[1],):
        raise PerlerInputError(
            f"expected a start with {cells.shape[1]} metagenes, found shape {np.shape(start.noise)}"
        )
    if of_site.location_weights is not None and start.log_location_weights is None:
        uniform = jnp.full(len(reference), -np.log(len(reference)), cells.dtype)
        start = dataclasses.replace(start, log_location_weights=uniform)
    return of_site, start


def natural_widths(params: MappingParams, cells: Array, reference: Array) -> dict[str, Any]:
    """Standard errors that a, b and ln sigma would have if every cell's origin were known.

    The posterior is a little wider than this: a scale that optimisers and samplers can begin with.
    """
    mapped = reference.std(axis=0)
    each = params.noise / np.sqrt(len(cells))
    return {
        "sensitivity": each / jnp.where(mapped > 0, mapped, 1.0),
        "background": each,
        "noise": jnp.full_like(each, 1.0 / np.sqrt(2.0 * len(cells))),
    }
