"""Maps of the landmarks, for the panel beside their predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax._typing import Real
from perler_jax.app.explorer.page import Blobs
from perler_jax.fit import PerlerFit
from perler_jax.preprocessing import preprocess_reference

__all__ = ["pack_maps"]

_STEPS, _MISSING = 254, 255


def pack_maps(fit: PerlerFit, result: AnnData, blobs: Blobs, room: Real) -> dict[str, Any] | None:
    """Pack the maps in steps of 1/254 of each one's range.

    Args:
        fit: with its reference.
        result: whose genes can be chosen.
        blobs: where to.
        room: bytes that they may take, one for each value; None is returned where they would take more.

    Returns:
        What the page needs to know: arrays ``genes`` (of the result, by number), ``values`` (landmark by
        landmark; 255 was not measured), ``low``, ``high``, and the unit.
    """
    names = fit.landmarks[np.isin(fit.landmarks, result.var_names)]
    if not len(names) or len(names) * result.n_obs > room:
        return None
    reference = fit.reference
    columns = pd.Index(reference.genes).get_indexer(names)
    raw = np.asarray(reference.values[:, columns], np.float64)
    values = np.asarray(preprocess_reference(reference).apply(raw))
    measured = reference.measured_at(names)
    known = np.ones(values.shape, bool) if measured is None else np.asarray(measured)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    steps = np.rint((values - low) / np.where(high > low, high - low, 1.0) * _STEPS)
    steps = np.where(known, np.clip(steps, 0, _STEPS), _MISSING).astype(np.uint8)
    genes = pd.Index(result.var_names).get_indexer(names).astype(np.uint32)
    unit = {"binary": "off or on", "centred": "as it was given"}.get(reference.scale, "log2(1 + x)")
    return {
        "unit": unit,
        "arrays": {
            "genes": blobs.add("map-genes", genes),
            "values": blobs.add("map-values", np.ascontiguousarray(steps.T)),
            "low": blobs.add("map-low", low.astype(np.float32)),
            "high": blobs.add("map-high", high.astype(np.float32)),
        },
    }
