"""Whatever users hand over (AnnData, DataFrame, array, sparse matrix, backed file) becomes labelled data."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from perler_jax.choices import Missing
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.annotated import Part, layer_names, take, var_of
from perler_jax.inputs.axes import as_axes
from perler_jax.inputs.beside import beside_of
from perler_jax.inputs.checks import (
    require_coordinates,
    require_matrix,
    warn_of_empty_cells,
)
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.frames import numbers_of
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import Names
from perler_jax.inputs.missing import (
    check_missing,
    fill_reference,
    genes_to_keep,
    placeholders,
)
from perler_jax.inputs.names import GeneNames
from perler_jax.inputs.places import in_order, with_positions
from perler_jax.inputs.scales import ReferenceNormalisation, Scale, known_scale
from perler_jax.inputs.sections import check_sections, sections_of
from perler_jax.inputs.spatial_tables import is_spatialdata, positions_of, table_of
from perler_jax.inputs.storage import dense_float, gather, is_backed, plain

__all__ = ["as_cells", "as_reference"]

logger = logging.getLogger("perler_jax")

_COUNT_LAYERS = ("counts", "raw_counts", "umi", "raw")


def as_cells(
    source: Any,
    *,
    layer: str | None = None,
    genes: Names | None = None,
    cells: Names | None = None,
    scale: Scale = "auto",
    gene_key: str | None = None,
    use_raw: bool = False,
    table: str | None = None,
) -> CellExpression:
    """Make a :class:`CellExpression` from what users have.

    Args:
        source: AnnData (dense, CSR, CSC, backed), DataFrame (cells x genes), array or sparse matrix
            (cells, genes), or a CellExpression, which is returned as it is.
        layer: layer of the AnnData to use in place of X.
        genes: (genes,) names; needed with an array, refused where the source carries names.
        cells: (cells,) names; with an array, "0", "1", ... by default.
        scale: "counts" (whole or corrected), "linear" (normalised, not logged), "log1p" (natural), "log2",
            "centred", "binary", or "auto", which lets the values tell.
        gene_key: column of the AnnData's ``var`` to take the names of genes from, in place of its index.
        use_raw: take the AnnData's ``.raw`` in place of X and ``var``.
        table: of a SpatialData; not needed where it has one.

    Returns:
        Labelled cells: (cells, genes) values as they were given, with their scale.

    Warns:
        PerlerWarning: names that repeat, cells without any value, or values that contradict the scale.

    Raises:
        PerlerInputError: as :class:`CellExpression`; a source or layer that cannot be used.
    """
    if isinstance(source, CellExpression):
        _require_alone(source, scale, Part(layer, gene_key, use_raw), genes, cells)
        return source
    part = Part(layer, gene_key, use_raw)
    if is_spatialdata(source):
        source = table_of(source, table, "cells")
    values, rows, columns, names = _labelled(source, part, cells, genes, "cells x genes")
    beside = beside_of(source, genes=var_of(source, part))
    expression = CellExpression(
        values, rows, columns, scale, layer, names, _mark(source, part), beside=beside
    )
    _mention_counts(source, part, expression.scale)
    seen = expression.survey
    if seen.empty is not None:
        warn_of_empty_cells(seen.empty, expression.cells)
    return expression


def as_reference(
    source: Any,
    *,
    coordinates: Any = None,
    layer: str | None = None,
    genes: Names | None = None,
    locations: Names | None = None,
    scale: Scale = "auto",
    normalisation: ReferenceNormalisation = "auto",
    gene_key: str | None = None,
    use_raw: bool = False,
    table: str | None = None,
    missing: Missing = "refuse",
    section_key: str | None = None,
) -> SpatialReference:
    """Make a :class:`SpatialReference` from what users have.

    Args:
        source: AnnData (positions from ``obsm["spatial"]``, names of their axes from
            ``uns["spatial_axes"]``), DataFrame (locations x landmarks), array or
            sparse matrix, or a SpatialReference, which is returned as it is unless coordinates are given.
        coordinates: (locations, 2 or 3) array or DataFrame; wins over ``obsm["spatial"]``. A DataFrame whose
            index holds all location names is aligned by name and may have more rows; else rows go in order.
            Or where they lie: a key of the AnnData's ``obsm``, or two or three columns of its ``obs`` (of the
            DataFrame, which are then no landmarks): ["x", "y"] or "x,y".
        layer: layer of the AnnData to use in place of X.
        genes: (landmarks,) names; needed with an array, refused where the source carries names.
        locations: (locations,) names; with an array, "0", "1", ... by default.
        scale: as of :func:`as_cells`.
        normalisation: of located counts: "none" takes them as they are, "median" brings every location to
            the median total; "auto" is "none".
        gene_key: as of :func:`as_cells`.
        use_raw: likewise.
        table: likewise; positions are the centres of what the table annotates, unless it has its own.
        missing: what becomes of NaN, values that were not measured: "refuse"; "drop" leaves out landmarks
            that have any; "fill" fills them in by ridge regression on the other landmarks, on the log2 scale,
            and keeps a mask, so that scores use measured values only. What was done is logged.
        section_key: column of the AnnData's ``obs`` that names the section of tissue that each location lies
            in. Coordinates may repeat between sections; nothing is smoothed across them.

    Returns:
        A labelled map: (locations, landmarks) values as they were given, with their scale and positions.

    Warns:
        PerlerWarning: positions that are not used, names that repeat, values that contradict the scale.

    Raises:
        PerlerInputError: as :class:`SpatialReference`; a source, layer or coordinates that cannot be used.
    """
    part = Part(layer, gene_key, use_raw)
    if isinstance(source, SpatialReference):
        _require_alone(source, scale, part, genes, locations)
        check_missing(missing)
        reference = source if normalisation == "auto" else replace(source, normalisation=normalisation)
        if missing == "drop" and source.measured is not None:
            keep = genes_to_keep(source.measured, source.locations, source.genes, missing)
            reference = source.drop_genes(source.genes[~keep])
    else:
        if is_spatialdata(source):
            whole, source = source, table_of(source, table, "reference")
            if coordinates is None and "spatial" not in source.obsm:
                coordinates = positions_of(whole, source)
        source, coordinates = with_positions(source, coordinates)
        values, rows, columns, names = _labelled(source, part, locations, genes, "locations x landmarks")
        values, beside = dense_float(gather(plain(values))), beside_of(source)
        if section_key is not None:  # before anything is filled in
            check_sections(sections_of(beside, section_key), columns, ~np.isnan(values), None)
        reference = _without_gaps(
            values, rows, columns, scale, normalisation, names, missing, _mark(source, part)
        )
        reference = replace(reference, beside=beside)
        if isinstance(source, AnnData) and "spatial_axes" in source.uns:
            reference = replace(reference, axes=as_axes(source.uns["spatial_axes"]).plain())
    if coordinates is not None:
        where = in_order(coordinates, reference.locations)
        require_coordinates(where, reference.locations)
        reference = replace(reference, coordinates=dense_float(where))
    return reference if section_key is None else _in_sections(reference, section_key)


def _in_sections(reference: SpatialReference, section_key: str) -> SpatialReference:
    return replace(reference, sections=sections_of(reference.beside, section_key), section_key=section_key)


def _without_gaps(
    values: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    scale: Scale,
    normalisation: ReferenceNormalisation,
    names: GeneNames,
    missing: Missing,
    marked: str | None,
) -> SpatialReference:
    """A reference whose values are all there: measured, or filled in."""
    measured = ~np.isnan(values)
    if measured.all():
        check_missing(missing)
        return SpatialReference(values, rows, columns, None, scale, normalisation, names, marked=marked)
    keep = genes_to_keep(measured, rows, columns, missing)
    values, measured = values[:, keep], measured[:, keep]
    whole = placeholders(values, measured)  # until the scale is known
    found = SpatialReference(
        whole, rows, columns[keep], None, scale, normalisation, names, measured, marked=marked
    )
    return fill_reference(found)


def _require_alone(
    ready: CellExpression | SpatialReference, scale: str, part: Part, genes: Any, rows: Any
) -> None:
    if scale in ("auto", ready.scale) and part == Part() and genes is None and rows is None:
        return
    names = "cells" if isinstance(ready, CellExpression) else "locations"
    raise PerlerInputError(
        f"expected a ready {type(ready).__name__} alone; found it with layer, gene_key, use_raw, genes, "
        f"{names} or scale={scale!r} (its scale is {ready.scale!r}); build it from the original data instead"
    )


def _labelled(
    source: Any, part: Part, rows: Names | None, columns: Names | None, table: str
) -> tuple[Any, np.ndarray, np.ndarray, GeneNames]:
    """Values, row names and column names of an AnnData, a DataFrame, or an array with names."""
    kind, about = type(source).__name__, GeneNames()
    names: tuple[Any, Any] | None = None
    if isinstance(source, AnnData):
        values, obs_names, genes, about = take(source, part, "cells" if "cells" in table else "reference")
        names = obs_names, genes
    elif part != Part():
        side = "cells" if "cells" in table else "reference"
        given = " and ".join(argument(*each, side) for each in part._asdict().items() if each[1])
        raise PerlerInputError(f"expected an AnnData with {given}; found {kind}; leave it out")
    elif isinstance(source, pd.DataFrame):
        values, names = numbers_of(source, f"every column of {table}"), (source.index, source.columns)
    elif isinstance(source, np.ndarray) or is_backed(source) or sp.issparse(source):
        values = source
    else:
        raise PerlerInputError(
            f"expected an AnnData, DataFrame, NumPy array or SciPy sparse matrix of {table}; found {kind}; "
            "convert it to one of these"
        )
    if names is not None and (rows is not None or columns is not None):
        raise PerlerInputError(
            f"expected the names of {table} from the {kind} itself; found other names given beside it; leave "
            "them out, or rename there"
        )
    if names is None and columns is None:
        raise PerlerInputError(f"expected names with an array of {table}; found none; pass genes=[...]")
    values = plain(values) if is_backed(values) else values
    require_matrix(values, *table.split(" x "))
    rows, columns = names or (np.arange(values.shape[0]) if rows is None else rows, columns)
    return values, np.asarray(rows, dtype=object), np.asarray(columns, dtype=object), about


def _mention_counts(source: Any, part: Part, scale: str) -> None:
    """Say that a layer of counts lies beside the logarithms in X, which are used."""
    if not isinstance(source, AnnData) or part != Part() or scale in ("counts", "binary"):
        return
    for name in layer_names(source):
        if name.lower() in _COUNT_LAYERS:
            use = argument("layer", name, "cells")
            logger.info("cells: X is used; there is a layer %r as well: %s takes that", name, use)
            return


def _mark(source: Any, part: Part) -> str | None:
    """The scale that an AnnData names for its X: ours, or the mark that `scanpy.pp.log1p` leaves."""
    if not isinstance(source, AnnData) or part.layer is not None or part.use_raw:
        return None
    said = source.uns.get("expression_scale")
    if said is not None:
        return known_scale(str(said))
    if "log1p" not in source.uns:
        return None
    mark = source.uns["log1p"]
    base = mark.get("base") if isinstance(mark, Mapping) else None
    return "log1p" if base is None else {2.0: "log2"}.get(float(base))
