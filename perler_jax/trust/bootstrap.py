"""Bayesian bootstrap over cells: predictions had other cells been caught (Rubin 1981).

Every draw gives each cell an independent exponential weight, which after division by their sum is a flat
Dirichlet over the cells. The mapping stays as it was fitted, so a draw is more columns of the same streamed
sums, and what the draws show is the chance in which cells were caught, not error of the mapping, nor of
regressions on landmarks. Where several (alpha, beta) points are mixed, their weights count as one set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.prediction.predictor import Predictor
from perler_jax.settings import device_precision
from perler_jax.trust.predictor import gene_blocks, whole_predictor

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
            predictor = whole_predictor(fit, expression)
            mass = np.maximum(predictor.total(weights), np.finfo(fit.settings.dtype).tiny)
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
    (rest, _), draws = predictor.split(names, values), weights.shape[1]
    columns = (weights[:, :, None] * rest[:, None, :]).reshape(len(values), -1)
    totals = predictor.total(columns, width=size * draws).reshape(len(mass), draws, -1)
    # As far as the plain weighted mean of what is left would move, by its own weights.
    plain = predictor.predict(names, values)
    moved = predictor.averaged * totals / mass[:, :, None] - predictor.total(rest, width=size)[:, None]
    drawn = [plain + predictor.polish(moved[:, draw]) for draw in range(draws)]
    return np.stack(drawn).astype(mass.dtype)
