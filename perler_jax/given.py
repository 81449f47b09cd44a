"""What a fit remembers of the expression it was given, so that no other is averaged in its place."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Shaped

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.annotated import layer_names
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few, near_misses
from perler_jax.preprocessing import Preprocessing, preprocess_reference

__all__ = ["GivenCells", "given_cells", "how_read", "landmark_means", "read_as_given", "same_cells"]

logger = logging.getLogger("perler_jax")

_GENES = 48  # landmarks that are compared
_AT_ONCE = 128  # landmarks that are made dense
_TOLERANCE = 1e-3  # of log2 expression: rounding of float16 at the most


@dataclass(frozen=True, eq=False)
class GivenCells:
    """How the cells of a fit were read, and what their landmarks came to.

    Attributes:
        scale: of their values.
        reading: the sentence that says what decided it.
        layer: of the AnnData; None is X.
        gene_key: column of ``var`` that named the genes; None is the index.
        use_raw: whether values and names were those of ``.raw``.
        genes: landmarks that are compared.
        means: of these in log2(1 + x), over the cells.
        contrasts: likewise, each cell with a sign of its own: values in another order differ.
        centres: means of all landmarks of the fit: what new cells are centred by. None in older files.
    """

    scale: str
    reading: str
    layer: str | None
    gene_key: str | None
    use_raw: bool
    genes: Shaped[np.ndarray, " genes"]
    means: Float[np.ndarray, " genes"]
    contrasts: Float[np.ndarray, " genes"]
    centres: Float[np.ndarray, " landmarks"] | None = None


def how_read(
    given: GivenCells | None, preprocessing: Preprocessing, reference: SpatialReference
) -> dict[str, Any]:
    """How both sides were read and preprocessed, as plain values for provenance."""
    of_reference = "" if reference.reading is None else reference.reading.sentence
    read_as = {"reference": f"{reference.scale}: {of_reference}"}
    if given is not None:
        read_as["cells"] = f"{given.scale}: {given.reading}"
        if given.layer is not None:
            read_as["cells_layer"] = given.layer
    return {
        "read_as": read_as,
        "preprocessing": preprocessing.describe(),
        "reference_preprocessing": preprocess_reference(reference).describe(),
    }


def given_cells(
    cells: CellExpression, landmarks: Shaped[np.ndarray, " landmarks"], preprocessing: Preprocessing
) -> GivenCells:
    """What is remembered of the cells of a fit."""
    step = -(-len(landmarks) // _GENES)
    genes = landmarks[::step].astype(str)
    means, contrasts = _marks(cells, genes, preprocessing)
    reading = "" if cells.reading is None else cells.reading.sentence
    names = cells.names
    read = (cells.scale, reading, cells.layer, names.gene_key, names.use_raw)
    return GivenCells(*read, genes, means, contrasts, landmark_means(cells, landmarks, preprocessing))


def landmark_means(
    cells: CellExpression, landmarks: Shaped[np.ndarray, " landmarks"], preprocessing: Preprocessing
) -> Float[np.ndarray, " landmarks"]:
    """Mean log2 expression of every landmark over the cells: what `cell_landmarks` takes off."""
    found = np.empty(len(landmarks))
    for start in range(0, len(landmarks), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        values = np.asarray(cells.dense(landmarks[some]), np.float64)
        found[some] = preprocessing.apply(values).mean(axis=0)
    return found


def same_cells(
    source: Any, names: Shaped[np.ndarray, " cells"], preprocessing: Preprocessing, given: GivenCells | None
) -> CellExpression:
    """The expression of the cells of a fit, from what the user hands over: the same cells, in their order.

    Args:
        source: whatever `as_cells` takes; None is an error. It may hold more cells, in any order.
        names: of the cells of the fit.
        preprocessing: of the fit.
        given: what the fit remembers; None in one that an older version saved.

    Raises:
        PerlerInputError: none given, cells that are missing, or expression on another scale.
    """
    if source is None:
        raise PerlerInputError(
            "expected the expression of the cells, found none: a saved fit does not hold it; "
            "give reconstruct(cells=...) or load_fit(path, cells=...)"
        )
    cells = read_as_given(source, given)
    found = pd.Index(cells.cells).get_indexer(pd.Index(names))
    missing = names[found < 0]
    if len(missing):
        raise PerlerInputError(
            f"expected the {len(names)} cells of the fit, in any order; found {cells.n_cells} cells without "
            f"{len(missing)} of them ({few(missing)}){near_misses(missing, cells.cells)}; give the table "
            "that was fitted"
        )
    if not np.array_equal(cells.cells, names):
        cells = cells.take_cells(found)
    if given is not None:
        _compare(cells, preprocessing, given)
    return cells


def read_as_given(source: Any, given: GivenCells | None) -> CellExpression:
    """Cells, read with the scale, the layer and the names of genes of the fit."""
    if isinstance(source, CellExpression) or given is None:
        return as_cells(source)
    layer = given.layer
    if layer is not None and (not isinstance(source, AnnData) or layer not in layer_names(source)):
        layer = None
    if layer is not None:
        logger.info("cells: layer %r is used, as in the fit", layer)
    scale: Any = given.scale
    gene_key, use_raw = None, False
    if isinstance(source, AnnData):
        use_raw = given.use_raw and source.raw is not None
        var = source.raw.var if use_raw else source.var
        gene_key = given.gene_key if given.gene_key in var else None
    with warnings.catch_warnings():  # values that contradict the scale are refused in the next step
        warnings.simplefilter("ignore", PerlerWarning)
        return as_cells(source, layer=layer, scale=scale, gene_key=gene_key, use_raw=use_raw)


def _compare(cells: CellExpression, preprocessing: Preprocessing, given: GivenCells) -> None:
    """Refuse expression of other values."""
    absent = given.genes[~np.isin(given.genes, cells.genes)]
    of_layer = "" if given.layer is None else f", layer {given.layer!r}"
    wanted = f"expected the expression that was fitted (scale {given.scale!r}{of_layer})"
    by = "" if given.layer is None else f" ({argument('layer', given.layer, 'cells')})"
    say = f"give the same table{by}"
    if len(absent):
        raise PerlerInputError(f"{wanted}; found no genes {few(absent)}; {say}")
    if cells.scale != given.scale and {cells.scale, given.scale} != {"counts", "linear"}:
        raise PerlerInputError(f"{wanted}; found cells of scale {cells.scale!r}; {say}")
    means, contrasts = _marks(cells, given.genes, preprocessing)
    off = np.maximum(np.abs(means - given.means), np.abs(contrasts - given.contrasts))
    if (off > _TOLERANCE * (1 + np.abs(given.means))).any():
        worst = int(np.argmax(off))
        raise PerlerInputError(
            f"{wanted}; found other values: the mean of {given.genes[worst]!s} is {means[worst]:.3f} for "
            f"{given.means[worst]:.3f} in log2 units, or its values stand at other cells; {say}"
        )


def _marks(
    cells: CellExpression, genes: np.ndarray, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(preprocessing.apply(np.asarray(cells.dense(genes), np.float64)))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], cells.n_cells)
    return values.mean(axis=0), signs @ values / cells.n_cells
