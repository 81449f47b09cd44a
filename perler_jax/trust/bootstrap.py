"""Bayesian bootstrap over cells: predictions had other cells been caught (Rubin 1981).

Every draw gives each cell an independent exponential weight, which after division by their sum is a flat
Dirichlet over the cells. The mapping stays as it was fitted, so a draw is more columns of the same streamed
sums, and what the draws show is the chance in which cells were caught, not error of the mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.settings import device_precision
from perler_jax.trust.predictor import Predictor, gene_blocks, landmark_table, whole_predictor
from perler_jax.trust.uncertainty import weighted_totals

__all__ = ["bootstrap_blocks", "bootstrap_patterns"]


def bootstrap_patterns(
    fit: PerlerFit, genes: Sequence[str], *, seed: int, draws: int = 200, cells: Any = None
) -> Float[np.ndarray, "draws locations genes"]:
    """Draws of the predicted expression of chosen genes, for anything that a standard error cannot tell.

    Number of stripes, position of a border, correlation with a marker: compute it for every draw. Genes share
    the weights of the cells in each draw, so differences between genes are right as well.

    Args:
        fit: a fit.
        genes: names.
        seed: of the weights.
        draws: how many.
        cells: expression of the fitted cells, for a fit that was loaded without it.

    Returns:
        (draws, locations, genes) log2 expression, the units of `PerlerFit.reconstruct`.

    Raises:
        PerlerInputError: unknown genes, no draws, or no expression.
    """
    blocks = bootstrap_blocks(fit, genes, seed=seed, draws=draws, cells=cells)
    return np.concatenate([values for _, values in blocks], axis=2)


def bootstrap_blocks(
    fit: PerlerFit,
    genes: Sequence[str] | None = None,
    *,
    seed: int,
    draws: int = 200,
    cells: Any = None,
) -> Iterator[tuple[Shaped[np.ndarray, " block"], Float[np.ndarray, "draws locations block"]]]:
    """The same for any number of genes (None: all), block by block: reduce each block before the next.

    Raises:
        PerlerInputError: as `bootstrap_patterns`, at once.
    """
    if draws < 1:
        raise PerlerInputError(f"expected at least one draw, found {draws}")
    expression = fit.expression(cells)
    wanted = None if genes is None else list(genes)
    size, blocks = gene_blocks(fit, expression, wanted, columns=draws + 1)
    weights = np.random.default_rng(seed).exponential(size=(expression.n_cells, draws))

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with device_precision(fit.settings.dtype):
            predictor = whole_predictor(fit, landmark_table(fit, expression))
            mass = weighted_totals(predictor.source, predictor.padded(weights))
            mass = np.maximum(np.asarray(mass), np.finfo(fit.settings.dtype).tiny)
            for names, means, block in blocks:
                yield names, _draw(predictor, names, block, weights, mass, size) + means.astype(mass.dtype)

    return drawn()


def _draw(
    predictor: Predictor,
    names: np.ndarray,
    values: Float[np.ndarray, "cells genes"],
    weights: Float[np.ndarray, "cells draws"],
    mass: Float[np.ndarray, "locations draws"],
    size: int,
) -> Float[np.ndarray, "draws locations genes"]:
    """One block of centred genes under all draws."""
    rest, carried = predictor.refiner.split(names, values)
    columns = (weights[:, :, None] * rest[:, None, :]).reshape(len(values), -1)
    padded = predictor.padded(columns, size * weights.shape[1])
    totals = np.asarray(weighted_totals(predictor.source, padded))[:, : columns.shape[1]]
    drawn = totals.reshape(len(totals), weights.shape[1], -1) / mass[:, :, None]
    smoothed = [predictor.refiner.smooth(drawn[:, draw] + carried) for draw in range(weights.shape[1])]
    return np.stack(smoothed).astype(mass.dtype)
