"""Features of 10x files: which of them are genes, and by which of their names they go."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.labels import few

__all__ = ["annotated", "feature_names"]

logger = logging.getLogger("perler_jax")

_GENES = "Gene Expression"


def annotated(
    values: Any,
    barcodes: np.ndarray,
    identifiers: np.ndarray,
    symbols: np.ndarray | None,
    kinds: np.ndarray | None,
    landmarks: Sequence[str] | np.ndarray | None,
    path: Path,
) -> AnnData:
    """An AnnData of the genes among the features; both of their names are columns of ``var``.

    Genes are called by their symbol, or by their identifier if more of the landmarks are among these. Other
    features than "Gene Expression" are left out, and said.

    Note: symbols that stand for several genes name none of them; such genes go by the identifier that the
    file itself gives them, which is said.

    Args:
        values: (barcodes, features) sparse counts.
        barcodes: names of cells or spots.
        identifiers: of the features, such as ENSMUSG00000051951.
        symbols: of the features, such as Xkr4; None if the file has none.
        kinds: of the features; None if the file does not say.
        landmarks: names of genes to expect, if they are known.
        path: for messages.

    Raises:
        PerlerFileError: the file says what its features are, and none is a gene.
    """
    var = pd.DataFrame({"gene_ids": identifiers})
    if symbols is not None:
        var["gene_symbols"] = symbols
    if kinds is not None and len(kinds):
        keep = np.asarray(kinds) == _GENES
        if not keep.any():
            raise PerlerFileError(
                f"expected features of the kind {_GENES!r} in {path}; found {few(sorted(set(kinds)))}; give "
                "the file with the RNA"
            )
        if not keep.all():
            logger.warning(
                "%s: left out %d features that are not Gene Expression (%s)",
                path,
                (~keep).sum(),
                few(sorted(set(np.asarray(kinds)[~keep]))),
            )
            values, var = values[:, keep], var[keep]
    names = pd.Index(feature_names(var, landmarks, path), dtype=object)
    obs = pd.DataFrame(index=pd.Index(barcodes, dtype=object))
    return AnnData(values, obs, var.set_index(names))


def feature_names(var: pd.DataFrame, landmarks: Sequence[str] | np.ndarray | None, path: Path) -> np.ndarray:
    """What genes are called: of the columns gene_ids and gene_symbols, as :func:`annotated` says."""
    identifiers = var["gene_ids"].to_numpy(object)
    if "gene_symbols" not in var:
        return identifiers
    symbols = var["gene_symbols"].to_numpy(object)
    if landmarks is not None:
        wanted = pd.Index(np.asarray(landmarks, dtype=object))
        if pd.Index(identifiers).isin(wanted).sum() > pd.Index(symbols).isin(wanted).sum():
            logger.info("%s: genes go by their identifiers, as the landmarks do", path)
            return identifiers
    ambiguous = var["gene_symbols"].duplicated(keep=False).to_numpy()
    if ambiguous.any():
        logger.warning(
            "%s: %d genes share a symbol with another (%s, ...) and go by their identifiers",
            path,
            ambiguous.sum(),
            ", ".join(pd.unique(symbols[ambiguous])[:3]),
        )
    return np.where(ambiguous, identifiers, symbols)
