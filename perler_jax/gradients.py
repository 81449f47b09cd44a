"""J of a fit as one differentiable function of alpha, beta, shares, ridge and smoothing.

The predictor of a fit chooses among fixed experts. Here the numbers that make experts vary freely, on the
same held-out landmarks and the same J, for `jax.grad`, for optax, for a search of one's own::

    objective, params = pj.differentiable_objective(fit)
    slopes = jax.grad(lambda params: objective(params).sum())(params)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.held_out.objective import HeldOutObjective
from perler_jax.held_out.prediction import HeldOutParams, make_held_out_data
from perler_jax.prediction.polishing import location_spacing
from perler_jax.preprocessing import cell_landmarks, reference_landmarks
from perler_jax.settings import device_precision

__all__ = ["differentiable_objective"]

_RIDGE, _LENGTH = 2.0, 1.1  # of the experts and the polish of the predictor, where it has any
_LEAST = 0.02  # share at the start of what the predictor has none of: a share of zero has no logarithm


def differentiable_objective(fit: PerlerFit, *, cells: Any = None) -> tuple[HeldOutObjective, HeldOutParams]:
    """J of a fit's held-out landmarks (Eq. 28), differentiable in all that makes a prediction, and a start.

    Args:
        fit: a fit with held-out landmarks; its settings give precision and covariance.
        cells: expression of the fitted cells, for a fit that was loaded without it.

    Returns:
        The objective, a function of `HeldOutParams` that gives the term of every fold (their sum is J, in
        nats), and parameters near the predictor of the fit: ``alpha`` and ``beta`` (points,) of its weighted
        means in the paper's distance, ``shares`` (points + 1,) of them and of the regression alone, ``ridge``
        in units of a landmark's variance, and, where there are coordinates, ``smoothing`` in their unit and
        ``smoothed``, the share of the smoothed prediction.

    Raises:
        PerlerInputError: a fit without held-out landmarks, without expression, of binary maps (ranks have no
            gradient), of several sections, or with gaps in its reference.

    Derivatives are exact: in float64 they agree with finite differences to five digits. The mapping of each
    fold stays as it was fitted.
    """
    if fit.held_out is None:
        raise PerlerInputError(
            "expected a fit with held-out landmarks; found one made with given weights; call fit_perler "
            "without them"
        )
    if fit.reference.sections is not None:
        raise PerlerInputError(
            "expected a reference of one section; found several, over whose border this smoothing would "
            "reach; fit one of them"
        )
    expression = fit.expression(cells)
    y = cell_landmarks(expression, fit.landmarks, fit.preprocessing)
    h = reference_landmarks(fit.reference, fit.landmarks)
    places = fit.reference.coordinates
    with device_precision(fit.settings.dtype):
        data = make_held_out_data(
            y,
            h,
            places,
            landmark_covariance=fit.covariance,
            evidence=fit.evidence,
            measured=fit.reference.measured_at(fit.landmarks),
            dtype=np.dtype(fit.settings.dtype),
        )
    objective = HeldOutObjective(fit.held_out, data, covariance=fit.settings.covariance)
    points, shares = _start(fit)
    smoothing: dict[str, Any] = {}
    if places is not None:
        smoothing = {"smoothing": _LENGTH * location_spacing(places), "smoothed": 0.5}
    params = HeldOutParams(points[:, 0], points[:, 1], shares=shares, ridge=_RIDGE, **smoothing)
    return objective, params


def _start(fit: PerlerFit) -> tuple[np.ndarray, np.ndarray]:
    """Points and shares of the experts in the paper's distance; the rest is the regression's."""
    found: dict[tuple[float, float], float] = {}
    for each, share in fit.mixture.choice.used() if fit.mixture is not None else []:
        if each.average is not None and each.average.space.is_plain:
            at = (each.average.alpha, each.average.beta)
            found[at] = found.get(at, 0.0) + share
    if not found:
        found[float(fit.weights.alpha[0]), float(fit.weights.beta[0])] = 1.0
    shares = np.array(list(found.values()))
    return np.array(list(found)), np.maximum(np.append(shares, 1 - shares.sum()), _LEAST)
