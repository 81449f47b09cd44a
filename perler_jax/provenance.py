"""How a result was made, as plain values fit for ``uns`` and JSON."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from perler_jax.annotation import plain_fields
from perler_jax.fitted_predictor import choice_of_fit
from perler_jax.given import how_read
from perler_jax.inputs.data import SpatialReference
from perler_jax.versions import package_version

__all__ = ["provenance_of"]


def provenance_of(fit: Any) -> dict[str, Any]:
    """Versions, settings, how the data were read, parameters and times.

    Args:
        fit: a `PerlerFit`; as a method, ``fit.provenance()``.

    Returns:
        By name: numbers, texts, lists and dicts of them. Log-likelihood in nats, times in seconds.
    """
    return {
        "perler_jax": package_version(),
        "jax": jax.__version__,
        "settings": plain_fields(fit.settings),
        **how_read(fit.given, fit.preprocessing, fit.reference),
        "alpha": float(fit.weights.alpha[0]),
        "beta": float(fit.weights.beta[0]),
        "predictor": choice_of_fit(fit).table["share"].round(4).to_dict(),
        "n_metagenes": fit.cell_metagenes.shape[1],
        "n_landmarks": len(fit.landmarks),
        **_sections(fit.reference),
        "log_likelihood": fit.em.log_likelihood,
        "em_steps": int(fit.em.n_steps),
        "em_converged": bool(fit.em.converged),
        "seconds": dict(fit.seconds),
    }


def _sections(reference: SpatialReference) -> dict[str, Any]:
    """The column that names sections, and how many locations each has; nothing where there is one."""
    if reference.sections is None:
        return {}
    names, counts = np.unique(reference.sections, return_counts=True)
    sizes = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    return {"section_key": reference.section_key or "section", "sections": sizes}
