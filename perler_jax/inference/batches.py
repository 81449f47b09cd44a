"""Several batches or donors: each has its own mapping, drawn toward a common one as far as the data allow.

    a_ij ~ N(a_i, s_i^2)    b_ij ~ N(b_i, t_i^2)    sigma_ij^2 ~ InverseGamma around sigma_i^2

for metagene i in batch j. Given the common values every batch is a MAP-EM fit under conjugate priors; given
the batches the common values and spreads are means over them. The two alternate (empirical Bayes), so that a
batch of few cells borrows from the others and a large one speaks for itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from perler_jax._typing import pytree
from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.inference.map_em import run_map_em
from perler_jax.inference.posterior import check_sides, natural_widths
from perler_jax.inference.priors import ConjugatePriors
from perler_jax.mixture import MappingParams
from perler_jax.streaming import Tiles

__all__ = ["BatchedFit", "fit_batches"]


@pytree
class BatchedFit:
    """Mappings of several batches.

    Attributes:
        common: what the batches have in common.
        of_batch: one mapping per batch, stacked along a leading axis.
        spread: between batches: standard deviation of a and b, and (as ``noise``) of ln sigma.
        batches: (batches,) names, in the order of ``of_batch``.
    """

    common: MappingParams
    of_batch: MappingParams
    spread: MappingParams
    batches: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def __repr__(self) -> str:
        return f"BatchedFit({len(self.batches)} batches, {self.common!r})"

    def align(self, cells: Float[Array, "cells metagenes"], batch: Any) -> Float[Array, "cells metagenes"]:
        """Cells as the common mapping would have them: x -> a (x - b_j) / a_j + b.

        A metagene that does not depend on location in a batch is only centred.

        Args:
            cells: x, metagenes of the cells.
            batch: (cells,) name of the batch of each cell.

        Returns:
            (cells, metagenes) x without what its batch changed.
        """
        code = _codes(batch, self.batches)
        a, b = self.of_batch.sensitivity[code], self.of_batch.background[code]
        usable = jnp.abs(a) > 1e-3 * jnp.abs(self.common.sensitivity)
        ratio = jnp.where(usable, self.common.sensitivity / jnp.where(usable, a, 1.0), 1.0)
        return ratio * (cells - b) + self.common.background


def fit_batches(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    batch: Any,
    *,
    log_location_weights: Float[Array, " locations"] | None = None,
    n_rounds: int = 10,
    tolerance: float = 1e-6,
    tiles: Tiles | None = None,
    progress: bool = True,
) -> BatchedFit:
    """Fit one mapping per batch, partially pooled.

    Args:
        cells: x, metagenes of all cells.
        reference: r, metagenes of the locations.
        batch: (cells,) name of the batch of each cell.
        log_location_weights: ln pi, of all batches; None is uniform.
        n_rounds: alternations; the spreads settle within a few.
        tolerance: of EM.
        tiles: tile sizes; None chooses them.
        progress: show a progress bar.

    Returns:
        One mapping per batch, the common one, and how far batches spread around it.

    Raises:
        PerlerInputError: on batches that do not fit the cells, or a batch of fewer than two cells.
    """
    check_sides(cells, reference)
    names, code = np.unique(np.asarray(batch, dtype=str), return_inverse=True)
    if code.shape != (len(cells),):
        raise PerlerInputError(f"expected the batch of each of {len(cells)} cells, found {np.shape(batch)}")
    counts = np.bincount(code)
    if counts.min() < 2:
        smallest = str(names[counts.argmin()])
        raise PerlerInputError(
            f"expected at least 2 cells in every batch, found {counts.min()} in {smallest!r}"
        )
    sides = [cells[np.flatnonzero(code == each)] for each in range(len(names))]
    start = fit_em(cells, reference, initial_params(cells, reference, log_location_weights), tiles=tiles)
    common, fitted = start.params, [start.params] * len(names)
    # Wide at first: a spread that begins too small would take many rounds to grow.
    spread = MappingParams(jnp.abs(common.sensitivity), common.noise, jnp.ones_like(common.noise))
    for _ in tqdm(range(n_rounds), desc="batches", unit="round", disable=not progress, leave=False):
        priors = _priors(common, spread)
        fitted = [
            run_map_em(x, reference, priors, at, tolerance, max_steps=200, tiles=tiles).params
            for x, at in zip(sides, fitted, strict=True)
        ]
        errors = [natural_widths(at, x, reference) for at, x in zip(fitted, sides, strict=True)]
        common, spread = _pool(common, fitted, errors)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fitted)
    return BatchedFit(common, stacked, spread, tuple(map(str, names)))


def _priors(common: MappingParams, spread: MappingParams) -> ConjugatePriors:
    """What a batch is expected to be, given the others."""
    shape = 0.25 / spread.noise**2  # the variance of ln sigma^2 is about one over it
    return ConjugatePriors(
        sensitivity=(common.sensitivity, spread.sensitivity),
        background=(common.background, spread.background),
        noise_variance=(shape, (shape + 0.5) * common.noise**2),
    )


def _pool(
    like: MappingParams, fitted: list[MappingParams], errors: list[dict[str, Any]]
) -> tuple[MappingParams, MappingParams]:
    """Means over batches, and how far batches are from them beyond what their errors explain."""
    centre: dict[str, Any] = {}
    spread: dict[str, Any] = {}
    for name in ("sensitivity", "background", "noise"):
        values = jnp.stack([getattr(each, name) for each in fitted])
        values = jnp.log(values) if name == "noise" else values
        own = jnp.stack([each[name] for each in errors])
        middle = values.mean(axis=0)
        # A batch drawn to the middle is nearer than it is: what its error leaves open counts as well.
        width = jnp.sqrt(jnp.mean((values - middle) ** 2 + own**2, axis=0))
        centre[name] = jnp.exp(middle) if name == "noise" else middle
        spread[name] = width
    return dataclasses.replace(like, **centre), MappingParams(**spread)


def _codes(batch: Any, names: tuple[str, ...]) -> np.ndarray:
    """Position of each cell's batch among the fitted ones."""
    given = np.asarray(batch, dtype=str)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise PerlerInputError(f"expected batches among {', '.join(names)}; found {', '.join(unknown[:3])}")
    return np.array([names.index(each) for each in given])
