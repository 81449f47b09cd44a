"""What is taken from an AnnData: values, names of rows and genes; and what else it offers."""

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.frames import in_memory, is_text, name_columns
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few
from perler_jax.inputs.names import GeneNames, OtherNames

__all__ = ["Part", "layer_names", "take", "var_of"]

logger = logging.getLogger("perler_jax")


class Part(NamedTuple):
    """Which part of an AnnData is meant.

    Attributes:
        layer: in place of X.
        gene_key: column of ``var`` that names the genes, in place of its index.
        use_raw: take ``.raw`` in place of X and ``var``.
    """

    layer: str | None = None
    gene_key: str | None = None
    use_raw: bool = False


def take(adata: AnnData, part: Part, side: str) -> tuple[Any, np.ndarray, np.ndarray, GeneNames]:
    """Values, names of rows, names of genes, and what else the genes are called.

    Raises:
        PerlerInputError: there is no such layer, column or ``.raw``.
    """
    if part.use_raw and part.layer is not None:
        raise PerlerInputError(
            f"expected a layer or .raw; found both {argument('layer', part.layer, side)} and "
            f"{argument('use_raw', True, side)}; .raw has no layers"
        )
    if part.use_raw and adata.raw is None:
        asked = argument("use_raw", True, side)
        raise PerlerInputError(f"expected .raw in the AnnData ({asked}); found none; leave it out")
    values = adata.raw.X if part.use_raw else _layer(adata, part.layer)
    var = in_memory(var_of(adata, part))
    genes = np.asarray(var.index if part.gene_key is None else _column(var, part.gene_key), dtype=object)
    names = GeneNames(part.gene_key, part.use_raw, tuple(_others(adata, part)))
    return values, np.asarray(adata.obs_names, dtype=object), genes, names


def var_of(source: Any, part: Part) -> Any:
    """The table of genes that belongs to a part; None where the source is no AnnData."""
    if not isinstance(source, AnnData):
        return None
    return source.raw.var if part.use_raw else source.var


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers, sorted, without X: from 0.13 on anndata keeps X as the layer named None."""
    return sorted(name for name in adata.layers if name is not None)


def _layer(adata: AnnData, layer: str | None) -> Any:
    known = f"layers {layer_names(adata)}"
    if layer is not None and layer not in adata.layers:
        raise PerlerInputError(f"expected layer {layer!r} in the AnnData; found {known}; name one of these")
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise PerlerInputError(f"expected values in the AnnData's X; found none; name one of its {known}")
    return values


def _column(var: Any, gene_key: str) -> np.ndarray:
    """A column of ``var``; genes without a name there keep their own, which is said."""
    if gene_key not in var.columns:
        raise PerlerInputError(
            f"expected a column {gene_key!r} of names in var; found {few(name_columns(var)) or 'none'} that "
            "may name genes; give one of these, or none"
        )
    genes = np.array(var[gene_key], dtype=object)
    blank = pd.isna(genes) | np.array([not str(name).strip() for name in genes])
    if blank.any():
        genes[blank] = np.asarray(var.index, dtype=object)[blank]
        logger.warning(
            "%d of %d genes have no name in the column %r of var and go by that of the index (%s)",
            *(blank.sum(), len(blank), gene_key, few(genes[blank], 3)),
        )
    return genes


def _others(adata: AnnData, part: Part) -> list[OtherNames]:
    """Every other way to name the genes, with the arguments that choose it."""
    found = []
    sources = [(in_memory(adata.var), False)]
    if adata.raw is not None:
        sources.append((in_memory(adata.raw.var), True))
    for var, raw in sources:
        for key in [None, *(name for name in map(str, var.columns) if is_text(var[name]))]:
            if (key, raw) == (part.gene_key, part.use_raw):
                continue
            arguments: list[tuple[str, Any]] = [] if raw == part.use_raw else [("use_raw", raw)]
            arguments += [] if key == part.gene_key else [("gene_key", key)]
            arguments += [("layer", None)] if raw and part.layer is not None else []
            found.append(OtherNames(tuple(arguments), var.index if key is None else var[key]))
    return found
