"""Reading what a command was given: all its files, so that one message names each that cannot be read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from perler_jax.app.describe import is_table, possible_genes
from perler_jax.app.unreadable import Unreadable
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.files import load_fit
from perler_jax.given import GivenCells
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.inputs.tables import read_table

__all__ = ["cells_of", "fit_with_cells", "inputs_of"]


def inputs_of(
    arguments: argparse.Namespace,
) -> tuple[CellExpression, SpatialReference, np.ndarray | None]:
    """Cells, reference and location weights; names of one tell which way round a table of the other lies."""

    def reference(landmarks: np.ndarray | None) -> SpatialReference:
        return read_reference(
            arguments.reference,
            coordinates=arguments.coordinates,
            landmarks=landmarks,
            layer=arguments.reference_layer,
            gene_key=arguments.reference_gene_key,
            use_raw=arguments.reference_use_raw,
            table=arguments.reference_table,
            scale=arguments.reference_scale,
            normalisation=arguments.reference_normalisation,
            missing=arguments.missing,
            section_key=arguments.section_key,
        )

    with Unreadable() as unreadable:
        if is_table(arguments.reference) and arguments.reference.exists():
            table = unreadable.read(read_table, arguments.reference)
            genes = np.array([] if table is None else possible_genes(table), dtype=object)
            cells = unreadable.read(cells_of, arguments, genes)
            atlas: Any = None if cells is None else unreadable.read(reference, cells.genes)
        else:
            atlas = unreadable.read(reference, None)
            cells = unreadable.read(cells_of, arguments, None if atlas is None else atlas.genes)
        weights: Any = None
        if arguments.location_weights is not None:
            weights = unreadable.read(_location_weights, arguments.location_weights, atlas)
    return cells, atlas, weights


def fit_with_cells(arguments: argparse.Namespace, unreadable: Unreadable | None = None) -> tuple[Any, Any]:
    """A saved fit, and the expression of cells that goes with it.

    Args:
        arguments: of the command.
        unreadable: a block that reads other files too and ends later; None: what fails is told here.
    """
    if unreadable is None:
        with Unreadable() as unreadable:
            return fit_with_cells(arguments, unreadable)
    fitted = unreadable.read(load_fit, arguments.fit)
    known = (None, None) if fitted is None else (fitted.landmarks, fitted.given)
    return fitted, unreadable.read(cells_of, arguments, *known)


def cells_of(
    arguments: argparse.Namespace, landmarks: np.ndarray | None, given: GivenCells | None = None
) -> CellExpression:
    """The cells; what was not said is as in the fit, where there is one."""
    layer, scale = arguments.layer, arguments.cells_scale
    if given is not None:
        layer = layer or (given.layer if arguments.cells.suffix == ".h5ad" else None)
        scale = given.scale if scale == "auto" else scale
    return read_cells(
        arguments.cells,
        landmarks=landmarks,
        layer=layer,
        scale=scale,
        backed=arguments.backed,
        gene_key=arguments.gene_key,
        use_raw=arguments.use_raw,
        table=arguments.table,
    )


def _location_weights(path: Path, reference: SpatialReference | None) -> np.ndarray | None:
    """One number per location, by name; None where the reference could not be read."""
    if not path.exists():
        raise PerlerFileError(f"expected a file at {path}; found none; check the path")
    table = read_table(path)
    if reference is None:
        return None
    locations = reference.locations
    table.index = table.index.astype(str)
    numbers = table.select_dtypes("number")
    missing = [name for name in map(str, locations) if name not in table.index]
    if numbers.shape[1] != 1 or missing or not table.index.is_unique:
        raise PerlerInputError(
            f"expected a header, the name of each location once and one column of numbers in {path}; found "
            f"{numbers.shape[1]} columns of numbers and no row for {len(missing)} of {len(locations)} "
            f"locations ({', '.join(missing[:3]) or 'names repeat'}); name the rows as the reference does"
        )
    return numbers.iloc[:, 0].loc[list(map(str, locations))].to_numpy(np.float64)
