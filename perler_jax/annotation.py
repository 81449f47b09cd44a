"""Predicted patterns as AnnData: what stands beside the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Shaped

from perler_jax.inputs.beside import plain_columns, plain_index
from perler_jax.inputs.data import CellExpression, SpatialReference

__all__ = ["missing_record", "plain_fields", "result_shell", "units_of"]


def result_shell(
    reference: SpatialReference,
    names: Shaped[np.ndarray, " genes"],
    landmarks: Shaped[np.ndarray, " landmarks"],
    scores: pd.DataFrame,
    about: dict[str, Any],
    expression: CellExpression | None = None,
    values: Any = None,
) -> AnnData:
    """AnnData (locations, genes), with all that the inputs said of locations and genes.

    Args:
        reference: locations, with coordinates for ``obsm["spatial"]`` where it has them; its ``obs``,
            ``obsm`` and what of ``uns`` belongs to places are kept.
        names: of the genes.
        landmarks: those in the fit, marked in ``var["is_landmark"]``.
        scores: per landmark; its ``held_out``, ``nested`` and ``reconstruction`` come to ``var``.
        about: plain values for ``uns["perler"]``.
        expression: of the cells, whose ``var`` is kept.
        values: X; None: there is none yet.
    """
    var = _var_of(expression, names)
    var["is_landmark"] = np.isin(names, landmarks)
    found = scores.reindex(var.index)
    for column in ("held_out", "nested", "reconstruction"):
        var[f"score_{column}"] = found[column].to_numpy(np.float64)
    shell = AnnData(obs=pd.DataFrame(index=plain_index(reference.locations)), var=var)
    if reference.beside is not None:
        kept = reference.beside
        shell.obs = plain_columns(kept.obs.set_axis(shell.obs_names, axis=0))
        for name, each in kept.obsm.items():
            shell.obsm[name] = _aligned(each, shell.obs_names)
        shell.uns.update(kept.uns)
    if reference.sections is not None:
        shell.obs[reference.section_key or "section"] = pd.Categorical(reference.sections.astype(object))
    if reference.coordinates is not None:
        shell.obsm["spatial"] = np.array(reference.coordinates)
    if reference.axes is not None:
        shell.uns["spatial_axes"] = dict(reference.axes)
    shell.uns["perler"] = about | missing_record(reference)
    shell.X = values
    return shell


def _var_of(expression: CellExpression | None, names: Shaped[np.ndarray, " genes"]) -> pd.DataFrame:
    """What the cells' table says of its genes, for some of them."""
    index = plain_index(names)
    if expression is None or expression.beside is None or expression.beside.var is None:
        return pd.DataFrame(index=index)
    rows = pd.Index(expression.genes).get_indexer(names)
    return plain_columns(expression.beside.var.iloc[rows].set_axis(index, axis=0))


def _aligned(values: Any, index: pd.Index) -> Any:
    return plain_columns(values.set_axis(index, axis=0)) if isinstance(values, pd.DataFrame) else values


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
