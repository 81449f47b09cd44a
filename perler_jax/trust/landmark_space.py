"""Cells and locations landmark by landmark: where the worth of a single landmark can be seen.

Without reduction every landmark is its own metagene and its noise is its own, so that the squared distance of
a cell to a location is a sum over landmarks, and measuring one landmark more or less adds or takes one term.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from perler_jax.em import fit_em, initial_params
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.mixture import standardise
from perler_jax.preprocessing import cell_landmarks, reference_landmarks
from perler_jax.settings import device_precision

__all__ = ["LandmarkSpace", "landmark_space", "space_of_fit"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LandmarkSpace:
    """Both sides in units of each landmark's noise: D^2 is the sum over landmarks of (z_n - m_k)^2.

    Attributes:
        genes: (landmarks,) names.
        cells: (cells, landmarks) z.
        locations: (locations, landmarks) m.
        reference: (locations, landmarks) centred log2 expression before it was mapped.
        log_location_weights: (locations,) ln pi; None is uniform.
        measured: (locations, landmarks) whether each value of the reference was measured; None: all were.
    """

    genes: Shaped[np.ndarray, " landmarks"]
    cells: Float[Array, "cells landmarks"]
    locations: Float[Array, "locations landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    log_location_weights: Float[Array, " locations"] | None
    measured: Bool[np.ndarray, "locations landmarks"] | None = None

    def __repr__(self) -> str:
        return (
            f"LandmarkSpace({len(self.cells)} cells, {len(self.locations)} locations, "
            f"{len(self.genes)} landmarks)"
        )


def landmark_space(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    genes: Shaped[np.ndarray, " landmarks"],
    *,
    log_location_weights: Float[np.ndarray, " locations"] | None = None,
    measured: Bool[np.ndarray, "locations landmarks"] | None = None,
    dtype: type | np.dtype = np.float32,
) -> LandmarkSpace:
    """Fit sensitivity, background and noise of every landmark by EM without reduction.

    Args:
        cells: centred log2 expression.
        reference: centred log2 expression.
        genes: names.
        log_location_weights: ln pi; None is uniform.
        measured: whether each value of the reference was measured; None: all were.
        dtype: of the device.

    Raises:
        PerlerInputError: a landmark that does not vary on both sides.
    """
    for side, values in (("cells", cells), ("reference", reference)):
        constant = np.ptp(values, axis=0) == 0
        if constant.any():
            raise PerlerInputError(
                f"expected landmarks that vary, found {constant.sum()} constant in the {side} (the first is "
                f"{genes[constant.argmax()]}): leave them out"
            )
    x, r = jnp.asarray(cells, dtype), jnp.asarray(reference, dtype)
    log_pi = None if log_location_weights is None else jnp.asarray(log_location_weights, dtype)
    em = fit_em(x, r, initial_params(x, r, log_pi))
    near, far = standardise(em.params, x, r)
    return LandmarkSpace(genes, near, far, reference, log_pi, measured)


def space_of_fit(fit: PerlerFit) -> LandmarkSpace:
    """The landmark space of the cells, reference and location weights of a fit.

    Raises:
        PerlerInputError: a fit without its cells.

    Note: what else the fit knows of single cells (evidence) and its noise family are not used.
    """
    if fit.cells is None:
        raise PerlerInputError(
            "expected a fit with the expression of its cells, found one without: load_fit(path, cells=...)"
        )
    y = cell_landmarks(fit.cells, fit.landmarks, fit.preprocessing)
    log_pi = fit.em.params.log_location_weights
    with device_precision(fit.settings.dtype):
        return landmark_space(
            y,
            reference_landmarks(fit.reference, fit.landmarks),
            fit.landmarks,
            log_location_weights=None if log_pi is None else np.asarray(log_pi),
            measured=fit.reference.measured_at(fit.landmarks),
            dtype=np.dtype(fit.settings.dtype),
        )
