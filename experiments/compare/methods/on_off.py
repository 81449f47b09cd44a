"""The map as on and off, for methods that know nothing else of it."""

from __future__ import annotations

import numpy as np

from experiments.compare.contract import Reference

__all__ = ["on_off"]


def on_off(reference: Reference, quantile: float) -> np.ndarray:
    """(locations, landmarks) where a landmark is on.

    Args:
        reference: the map.
        quantile: over locations, above which a landmark is on; 0 takes the published binary map where there
            is one, else what is above the lowest value.
    """
    if quantile == 0 and reference.binary is not None:
        return np.asarray(reference.binary, bool)
    return reference.linear > np.quantile(reference.linear, quantile, axis=0)
