"""How sharp a posterior over origins may be where no origin is known: as sharp as landmarks agree.

Two disjoint sets A and B of landmarks each place a cell on their own. If they are independent given where it
is from, then

    p(A, B) / (p(A) p(B)) = sum_k gamma^A_nk gamma^B_nk / pi_k,

and the mean logarithm of it (the information that the two have in common) is greatest where both posteriors
are as sharp as they should be: sharper, they contradict each other; duller, they say less than they know. So
noise in the map, dependence between metagenes and noise that was fitted too small all come to light.

What it cannot see: landmarks that depend on each other through something that is not place, such as the type
of a cell in a map of single cells. There, use `calibrate_on_map`.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from scipy.optimize import minimize
from tqdm import tqdm

from perler_jax.density import log_responsibilities
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.mixture import MappingParams, log_weights
from perler_jax.settings import device_precision
from perler_jax.trust.calibration import TEMPERATURES, Calibration
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.subsets import landmark_expression, refit_landmarks

__all__ = ["agreement", "calibrate_by_agreement"]

_ROW_ELEMENTS = 1_400_000  # of a tile of rows, as elsewhere
_PARTS = 3  # with two, too few landmarks place a cell; with many, too few judge it
_LEAST = 9  # landmarks: three of them can place a cell somewhere

_Side = tuple[MappingParams, Array, Array]


@jax.jit
def agreement(log_temperatures: Float[Array, " sides"], one: _Side, other: _Side) -> Float[Array, ""]:
    """Mean over cells of ln sum_k gamma^A_nk gamma^B_nk / pi_k, streamed over tiles of cells; differentiable.

    Args:
        log_temperatures: of the two sides.
        one: mapping, metagenes of the cells, metagenes of the locations.
        other: the same by other landmarks.
    """
    (params_one, cells, reference), (params_other, cells_other, reference_other) = one, other
    roots = jnp.exp(0.5 * log_temperatures)
    params_one = dataclasses.replace(params_one, noise=params_one.noise * roots[0])
    params_other = dataclasses.replace(params_other, noise=params_other.noise * roots[1])
    log_pi = jnp.broadcast_to(
        jnp.asarray(log_weights(params_one, len(reference)), cells.dtype), len(reference)
    )
    possible = jnp.isfinite(log_pi)
    n = len(cells)
    tile = math.ceil(n / math.ceil(n * len(reference) / _ROW_ELEMENTS))
    count = -(-n // tile)

    def fold(leaf: Array) -> Array:
        return jnp.pad(leaf, [(0, count * tile - n), (0, 0)]).reshape(count, tile, -1)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def of_tile(cell: tuple[Array, Array]) -> Array:
        both = log_responsibilities(params_one, cell[0], reference)
        both = both + log_responsibilities(params_other, cell[1], reference_other)
        # What is impossible for both is minus infinity less minus infinity.
        terms = jnp.where(
            possible, jnp.where(possible, both, 0.0) - jnp.where(possible, log_pi, 0.0), -jnp.inf
        )
        return jax.nn.logsumexp(terms, axis=1)

    return jax.lax.map(of_tile, (fold(cells), fold(cells_other))).reshape(-1)[:n].mean()


def calibrate_by_agreement(
    fit: PerlerFit, *, n_repeats: int = 1, n_cells: int = 1000, seed: int = 0, progress: bool = False
) -> Calibration:
    """Temper the posterior of a fit by its landmarks alone.

    The landmarks are split into three parts. Each part in turn judges the posterior of the other two; both
    sides have a temperature of their own, common to all splits, and that of the larger sides is the answer.

    Args:
        fit: a fit with its expression.
        n_repeats: how many random splits into three; more give a steadier answer.
        n_cells: at most so many cells are asked.
        seed: of the splits and of the choice of cells.
        progress: show a progress bar.

    Returns:
        A temperature (no spread). The table has one row per part: ``repeat``, ``part``, ``n_landmarks`` that
        judge and ``agreement`` in nats.

    Raises:
        PerlerInputError: on fewer than 9 landmarks, no expression, or a number below one.
    """
    if min(n_repeats, n_cells) < 1:
        raise PerlerInputError(f"expected n_repeats and n_cells >= 1, found {n_repeats} and {n_cells}")
    if len(fit.landmarks) < _LEAST:
        raise PerlerInputError(
            f"expected at least {_LEAST} landmarks to compare parts of, found {len(fit.landmarks)}: give "
            "tempering=, e.g. from calibrate_on_cells"
        )
    y, h = landmark_expression(fit)
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.permutation(len(y))[:n_cells])
    n, most = y.shape[1], fit.cell_metagenes.shape[1]
    small, large = n // _PARTS, n - math.ceil(n / _PARTS)
    sides, rows = [], []
    bar = tqdm(total=n_repeats * _PARTS, desc="agreement", unit="part", disable=not progress, leave=False)
    with bar, device_precision(fit.settings.dtype):
        for repeat in range(n_repeats):
            for part, judges in enumerate(np.array_split(rng.permutation(n), _PARTS)):
                keep = np.ones(n, bool)
                keep[judges] = False
                sides.append(
                    (
                        _side(refit_landmarks(fit, y, h, keep, min(most, large)), asked),
                        _side(refit_landmarks(fit, y, h, ~keep, min(most, small)), asked),
                    )
                )
                rows.append((repeat, part, len(judges)))
                bar.update()
        slope = jax.jit(jax.value_and_grad(agreement))

        def loss(log_temperatures: np.ndarray) -> tuple[float, np.ndarray]:
            at = jnp.asarray(log_temperatures, fit.settings.dtype)
            found = [slope(at, *each) for each in sides]
            value = -float(np.mean([each[0] for each in found]))
            return value, -np.mean([np.asarray(each[1], np.float64) for each in found], axis=0)

        bounds = [tuple(np.log(TEMPERATURES))] * 2
        best = minimize(loss, np.log([1.5, 1.5]), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-4)
        values = [float(agreement(jnp.asarray(best.x, fit.settings.dtype), *each)) for each in sides]
    table = pd.DataFrame(rows, columns=["repeat", "part", "n_landmarks"]).assign(agreement=values)
    return Calibration(Tempering(float(np.exp(best.x[0]))), table)


def _side(posterior: OriginPosterior, asked: np.ndarray) -> _Side:
    # Without the foreign component: whoever is asked is taken to be from the tissue.
    params = dataclasses.replace(posterior.params, foreign=None)
    return params, jnp.asarray(posterior.cell_metagenes[asked]), jnp.asarray(posterior.reference_metagenes)
