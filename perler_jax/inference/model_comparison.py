"""Which model predicts a left-out cell best: PSIS-LOO over reductions, numbers of metagenes and noise.

Densities of different metagenes cannot be compared with one another: they are of different spaces. Every
candidate is therefore completed to a density of all landmarks. What its M metagenes leave out are the further
metagenes of the same reduction, taken as normal whatever the location:

    p(y) = p(x_1..M) prod_(i > M) N(x_i | b_i, sigma_i^2) |det C|,   x = y C,

so that a further metagene counts for what its dependence on location adds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.em import initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.inference.bayes_arviz import leave_one_out
from perler_jax.inference.laplace import fit_laplace
from perler_jax.inference.posterior import pointwise_log_likelihood
from perler_jax.metagenes import Reduction, fit_metagenes
from perler_jax.noise import GAUSSIAN, NoiseFamily

__all__ = ["compare_log_likelihoods", "compare_metagenes", "landmark_log_likelihood"]

_DOUBTFUL = 0.7  # Pareto shape above which PSIS is not to be trusted for a cell


def compare_log_likelihoods(
    log_likelihoods: Mapping[str, Float[np.ndarray, "chains draws cells"]], *, efficiency: float = 1.0
) -> pd.DataFrame:
    """Table of models by expected log predictive density of a left-out cell, best first.

    Args:
        log_likelihoods: by model, of the same cells in the same space under each draw.
        efficiency: effective over actual number of draws; 1 for independent ones.

    Returns:
        Per model, in nats summed over cells: ``elpd``, its ``standard_error``, ``effective_parameters``,
        ``difference`` from the best and ``difference_error`` (of paired cells); ``doubtful_cells`` (Pareto
        shape above 0.7).

    Raises:
        PerlerInputError: on models of different cells.
    """
    counts = {name: np.shape(values)[-1] for name, values in log_likelihoods.items()}
    if len(set(counts.values())) != 1:
        raise PerlerInputError(f"expected models of the same cells, found {counts}")
    pointwise, rows = {}, {}
    for name, values in log_likelihoods.items():
        found = leave_one_out(np.asarray(values, np.float64), efficiency=efficiency)
        pointwise[name] = each = found.elpd
        rows[name] = {
            "elpd": each.sum(),
            "standard_error": _error_of_sum(each),
            "effective_parameters": found.effective_parameters,
            "doubtful_cells": int((found.pareto_k > _DOUBTFUL).sum()),
        }
    table = pd.DataFrame(rows).T.sort_values("elpd", ascending=False)
    best = pointwise[table.index[0]]
    table.insert(3, "difference", [pointwise[name].sum() - best.sum() for name in table.index])
    table.insert(4, "difference_error", [_error_of_sum(pointwise[name] - best) for name in table.index])
    table["doubtful_cells"] = table["doubtful_cells"].astype(int)
    return table.rename_axis("model")


def _error_of_sum(values: Float[np.ndarray, " cells"]) -> float:
    return float(math.sqrt(len(values)) * values.std(ddof=1))


def compare_metagenes(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    choices: Sequence[tuple[Reduction, int] | tuple[Reduction, int, NoiseFamily]],
    *,
    n_draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare reductions, numbers of metagenes and noise families by PSIS-LOO, with Laplace draws.

    Args:
        cells: y, centred log expression of the landmarks in cells.
        reference: h, centred log reference of the landmarks.
        choices: (reduction, number of metagenes) of each candidate; with Gaussian noise unless a family, such
            as ``StudentT(5)``, comes third.
        n_draws: posterior draws of each.
        seed: of the draws.
        progress: show a progress bar.

    Returns:
        The table of `compare_log_likelihoods`; models are named e.g. "plsc 30" or "plsc 30 StudentT(df=5)".

    Raises:
        PerlerInputError: on a number of metagenes that there is not, or fewer cells than landmarks.
    """
    whole = [(*choice, GAUSSIAN)[:3] for choice in choices]
    for reduction, n_metagenes, _ in whole:
        least = cells.shape[1] if reduction == "none" else 1
        if not least <= n_metagenes <= cells.shape[1]:
            raise PerlerInputError(
                f"expected {least} to {cells.shape[1]} metagenes by {reduction}, found {n_metagenes}"
            )
    bar = tqdm(whole, desc="compare", unit="model", disable=not progress, leave=False)
    found = {
        f"{reduction} {n_metagenes}{'' if family == GAUSSIAN else f' {family}'}": landmark_log_likelihood(
            cells, reference, reduction, n_metagenes, noise_family=family, n_draws=n_draws, seed=seed
        )
        for reduction, n_metagenes, family in bar
    }
    return compare_log_likelihoods(found)


def landmark_log_likelihood(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    reduction: Reduction,
    n_metagenes: int,
    *,
    noise_family: NoiseFamily = GAUSSIAN,
    n_draws: int,
    seed: int,
) -> Float[np.ndarray, "1 draws cells"]:
    """Ln p(y_n) of every cell's landmarks under draws of one candidate."""
    n_landmarks = cells.shape[1]
    whole = fit_metagenes(cells, reference, n_metagenes=n_landmarks, reduction=reduction)
    _, log_determinant = np.linalg.slogdet(whole.cell_loadings)
    ranks = [np.linalg.matrix_rank(side) for side in (cells, reference)]
    if reduction == "plsc" and min(ranks) < n_landmarks:
        raise PerlerInputError(
            f"expected landmarks that are linearly independent over {len(cells)} cells and {len(reference)} "
            f"locations, found {n_landmarks} that are not: give fewer landmarks"
        )
    x = cells @ whole.cell_loadings
    near = jnp.asarray(x[:, :n_metagenes])
    far = jnp.asarray((reference @ whole.reference_loadings)[:, :n_metagenes])
    start = initial_params(near, far, noise_family=noise_family)
    draws = fit_laplace(near, far, start=start, progress=False).draw(jax.random.key(seed), n_draws)
    mapped = np.asarray(pointwise_log_likelihood(draws, near, far), np.float64)
    rest = _normal_log_likelihood(x[:, n_metagenes:], n_draws, np.random.default_rng(seed))
    return mapped + rest + log_determinant


def _normal_log_likelihood(
    values: Float[np.ndarray, "cells rest"], n_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws cells"]:
    """Summed over independent normals, under draws of their means and variances (Jeffreys' prior)."""
    n = len(values)
    variance = values.var(axis=0) * n / rng.chisquare(n - 1, (n_draws, values.shape[1]))
    mean = values.mean(axis=0) + np.sqrt(variance / n) * rng.normal(size=variance.shape)
    squared = (1 / variance) @ (values**2).T - 2 * (mean / variance) @ values.T
    constant = np.sum(mean**2 / variance + np.log(2 * np.pi * variance), axis=1)
    return -0.5 * (squared + constant[:, None])
