"""What a fit predicts with: its mapping and its choice of experts, put together on request."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from perler_jax.inputs.data import CellExpression
from perler_jax.metagenes import MetageneMap
from perler_jax.mixture import MappingParams
from perler_jax.prediction.assembly import Mapped, make_predictor
from perler_jax.prediction.choice import Choice, plain_choice
from perler_jax.prediction.experts import Space
from perler_jax.prediction.predictor import Predictor
from perler_jax.preprocessing import cell_landmarks, reference_landmarks

__all__ = ["LevelledMapping", "choice_of_fit", "plain_choice_of", "predictor_of_fit"]


@dataclasses.dataclass(frozen=True, eq=False)
class LevelledMapping:
    """The mapping fitted without levels: what some experts take their distances in (`Space.levels`).

    Attributes:
        params: the mapping.
        metagenes: linear maps to metagenes, which take levels off on the way.
    """

    params: MappingParams
    metagenes: MetageneMap


def choice_of_fit(fit: Any) -> Choice:
    """Experts with their shares; the weighted mean alone where none were chosen."""
    if fit.mixture is not None:
        return fit.mixture.choice
    return plain_choice_of(fit, float(fit.weights.alpha[0]), float(fit.weights.beta[0]))


def plain_choice_of(fit: Any, alpha: float, beta: float) -> Choice:
    """The paper's weighted mean, by the distance of the fit."""
    return plain_choice(alpha, beta, Space(covariance=fit.settings.covariance))


def predictor_of_fit(fit: Any, expression: CellExpression, *, plain: bool = False) -> Predictor:
    """The predictor of all genes.

    Args:
        fit: a `PerlerFit`.
        expression: of its cells.
        plain: take the paper's weighted mean, whatever the fit predicts with.
    """
    choice = choice_of_fit(fit)
    if plain:
        choice = plain_choice_of(fit, float(fit.weights.alpha[0]), float(fit.weights.beta[0]))
    y = cell_landmarks(expression, fit.landmarks, fit.preprocessing)
    h = reference_landmarks(fit.reference, fit.landmarks)
    dtype = fit.settings.dtype
    loadings = {True: fit.metagenes.cell_loadings}
    x, r = jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes)
    mapped = {True: Mapped(fit.em.params, x, r)}
    if fit.levelled is not None and choice.without_levels:
        maps = fit.levelled.metagenes
        loadings[False] = maps.cell_loadings
        sides = (y @ maps.cell_loadings, h @ maps.reference_loadings)
        mapped[False] = Mapped(fit.levelled.params, *(jnp.asarray(each, dtype) for each in sides))
    if fit.covariance is not None:
        given = (fit.covariance, dtype)
        mapped = {key: _with_covariance(each, loadings[key], *given) for key, each in mapped.items()}
    return make_predictor(
        choice,
        mapped,
        (fit.landmarks, y, h),
        coordinates=fit.reference.places,
        neighbours=fit.neighbours,
        evidence=fit.evidence_on_device(),
        votes=fit.votes(),
    )


def _with_covariance(mapped: Mapped, loadings: np.ndarray, covariance: np.ndarray, dtype: Any) -> Mapped:
    return mapped._replace(covariance=jnp.asarray(loadings.T @ covariance @ loadings, dtype))
