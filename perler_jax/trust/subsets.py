"""The mapping fitted again by some of the landmarks, all else as it was: metagenes and EM only."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.metagenes import fit_metagenes
from perler_jax.noise import FOREIGN_SHARE, noise_of
from perler_jax.preprocessing import cell_landmarks, reference_landmarks
from perler_jax.settings import device_precision
from perler_jax.trust.origins import OriginPosterior

__all__ = ["landmark_expression", "refit_landmarks"]


def landmark_expression(
    fit: PerlerFit,
) -> tuple[Float[np.ndarray, "cells landmarks"], Float[np.ndarray, "locations landmarks"]]:
    """Centred log2 expression of the landmarks, as it was when the fit was made.

    Raises:
        PerlerInputError: if the fit was loaded without its cells.
    """
    if fit.cells is None:
        raise PerlerInputError(
            "expected a fit with the expression of its cells, found none: a saved fit does not hold it; use "
            "load_fit(path, cells=...), or, for positions, give tempering="
        )
    y = cell_landmarks(fit.cells, fit.landmarks, fit.preprocessing)
    return y, reference_landmarks(fit.reference, fit.landmarks)


def refit_landmarks(
    fit: PerlerFit,
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    keep: Bool[np.ndarray, " landmarks"],
    n_metagenes: int,
) -> OriginPosterior:
    """Metagenes and EM by the landmarks that are kept; nothing is tuned.

    Args:
        fit: its settings, location weights and evidence are used again.
        cells: from `landmark_expression`.
        reference: likewise.
        keep: landmarks to use.
        n_metagenes: at most as many as are kept.
    """
    settings, whole = fit.settings, OriginPosterior.of_fit(fit)
    if fit.reference.measured is not None:  # what is filled in must not tell of landmarks that are out
        reference = reference_landmarks(fit.reference, fit.landmarks, without=fit.landmarks[~keep])
    maps = fit_metagenes(cells, reference, n_metagenes=n_metagenes, reduction=settings.reduction, keep=keep)
    with device_precision(settings.dtype):
        x = jnp.asarray(cells @ maps.cell_loadings, settings.dtype)
        r = jnp.asarray(reference @ maps.reference_loadings, settings.dtype)
        start = initial_params(
            x,
            r,
            fit.em.params.log_location_weights,
            noise_family=noise_of(settings.noise, settings.noise_df),
            foreign_share=FOREIGN_SHARE if settings.foreign_cells else None,
        )
        params = fit_em(
            x,
            r,
            start,
            evidence=fit.evidence_on_device(),
            learn_location_weights=settings.learn_location_weights,
            tolerance=settings.tolerance,
            max_steps=settings.max_steps,
            stop_rule=settings.stop_rule,
            accelerate=settings.stop_rule == "relative",
        ).params
    return dataclasses.replace(
        whole, params=params, cell_metagenes=np.asarray(x), reference_metagenes=np.asarray(r)
    )
