"""Predicted patterns as AnnData: what stands beside the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Shaped

from perler_jax.inputs.data import SpatialReference

__all__ = ["missing_record", "plain_fields", "result_shell", "units_of"]


def result_shell(
    reference: SpatialReference,
    names: Shaped[np.ndarray, " genes"],
    landmarks: Shaped[np.ndarray, " landmarks"],
    scores: pd.DataFrame,
    about: dict[str, Any],
) -> AnnData:
    """AnnData (locations, genes) without X.

    Args:
        reference: locations, with coordinates for ``obsm["spatial"]`` where it has them.
        names: of the genes.
        landmarks: those in the fit, marked in ``var["is_landmark"]``.
        scores: per landmark; its ``held_out``, ``nested`` and ``reconstruction`` come to ``var``.
        about: plain values for ``uns["perler"]``.
    """
    var = pd.DataFrame(index=pd.Index(names.astype(str)))
    var["is_landmark"] = np.isin(names, landmarks)
    found = scores.reindex(var.index)
    for column in ("held_out", "nested", "reconstruction"):
        var[f"score_{column}"] = found[column].to_numpy(np.float64)
    shell = AnnData(obs=pd.DataFrame(index=pd.Index(reference.locations.astype(str))), var=var)
    if reference.coordinates is not None:
        shell.obsm["spatial"] = np.array(reference.coordinates)
    if reference.axes is not None:
        shell.uns["spatial_axes"] = dict(reference.axes)
    shell.uns["perler"] = about | missing_record(reference)
    return shell


def missing_record(reference: SpatialReference) -> dict[str, Any]:
    """What of a reference was not measured and filled in, as plain values; nothing where all was measured."""
    if reference.measured is None:
        return {}
    gaps = (~np.asarray(reference.measured)).sum(axis=0)
    genes = reference.genes[gaps > 0]
    return {
        "filled": {
            "genes": [str(name) for name in genes],
            "locations": [int(count) for count in gaps[gaps > 0]],
            "penalty": reference.penalty or 0.0,
        }
    }


def plain_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass of plain values that are not None."""
    return {name: each for name, each in dataclasses.asdict(value).items() if each is not None}


def units_of(standardise: bool, scale: str) -> str:
    """What the numbers of X are, for cells of a scale."""
    if standardise:
        return "z-score over locations"
    if scale == "centred":
        return "expression of the cells, centred as it was given"
    if scale == "binary":
        return "share of cells that express the gene"
    return "log2(1 + expression) of the normalised cells"
