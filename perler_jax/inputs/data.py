"""Labelled inputs: the cells and the reference map.

Names travel with the arrays up to the point where numbers go into the model. An input is validated once, on
construction, and never changed: large arrays are shared with the caller, not copied, and never written to.
Nothing here is a JAX pytree and nothing here depends on JAX.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs import checks, storage
from perler_jax.inputs.beside import Beside
from perler_jax.inputs.labels import Names, as_labels, name_positions, positions
from perler_jax.inputs.names import BY_INDEX, GeneNames
from perler_jax.inputs.scale_reading import Reading
from perler_jax.inputs.scales import ReferenceNormalisation, Scale, depth_normalisation
from perler_jax.inputs.sections import apart, check_sections

__all__ = ["CellExpression", "SpatialReference"]

_FEW = 8  # a larger part of the genes than one in so many is taken from CSR values row by row


@dataclass(frozen=True, eq=False, repr=False)
class CellExpression:
    """Expression of dissociated cells, with the names of cells and genes.

    Attributes:
        values: (cells, genes) NumPy array, SciPy sparse matrix or array (CSR, CSC; others become CSR), or a
            backed X of an h5ad file (``h5py.Dataset``, AnnData's backed CSR or CSC). Never written to.
        cells: (cells,) unique names.
        genes: (genes,) unique names.
        scale: "counts" (molecules, whole or corrected), "linear" (normalised, not logged), "log1p" (natural),
            "log2", "centred" or "binary"; "auto" is replaced by what the values tell.
        layer: of the AnnData that the values are from; None is X.
        names: where the names of genes are from, and what else they are called.
        marked: scale that the data themselves name; it counts where the values leave the question open.
        reading: how the values are read, and what decided it.
        beside: annotation of cells and genes.
        survey: what the values were seen to be.

    Warns:
        PerlerWarning: names of genes repeat and were made unique; none of them can be a landmark.

    Raises:
        PerlerInputError: shapes and names disagree, names of cells repeat, fewer than two cells, NaN or
            infinity, or the values contradict the scale. Backed values are checked where they are read.
    """

    values: Any
    cells: Shaped[np.ndarray, " cells"]
    genes: Shaped[np.ndarray, " genes"]
    scale: Scale = "auto"
    layer: str | None = None
    names: GeneNames = BY_INDEX
    marked: str | None = None
    reading: Reading | None = None
    beside: Beside | None = None
    survey: storage.Survey = field(init=False)

    def __post_init__(self) -> None:
        values = storage.plain(self.values)
        checks.require_matrix(values, "cells", "genes")
        cells = as_labels(self.cells, "cell", "row", values.shape[0])
        genes, names = checks.unique_genes(self.genes, "gene", values.shape[1], self.names)
        if self.reading is None or self.scale != self.reading.scale:  # another scale was said since
            reading, survey = checks.settled_scale(self.scale, values, cells, genes, "cells", self.marked)
        else:
            reading = self.reading
            survey = checks.require_values(reading.scale, values, cells, genes, "cells")
        vars(self).update(values=values, cells=cells, genes=genes, survey=survey, names=names)
        vars(self).update(scale=reading.scale, reading=reading)

    def __repr__(self) -> str:
        kind = f"{'backed ' if self.is_backed else ''}{storage.layout(self.values)} {self.values.dtype}"
        return f"CellExpression({self.n_cells} cells x {self.n_genes} genes, {self.scale}, {kind})"

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def is_backed(self) -> bool:
        """Whether the values lie in a file and are read when asked for."""
        return storage.is_backed(self.values)

    def dense(self, genes: Names, cells: Any = None) -> Float[np.ndarray, "cells genes"]:
        """Values of the named genes, in the order given; only these are made dense.

        Args:
            genes: names, each present.
            cells: names, positions or a mask; all cells by default.

        Returns:
            (cells, genes), a new array: float32 if the values are float32 or smaller floats, else float64.

        Raises:
            PerlerInputError: a name is unknown (near misses are shown), or a backed value is NaN or infinite.
        """
        columns = name_positions(genes, self.genes, "gene")
        rows = None if cells is None else positions(cells, self.cells, "cell")
        in_rows = storage.layout(self.values) == "csr" and not self.is_backed
        if in_rows and rows is None and len(columns) * _FEW > self.n_genes:
            return storage.dense_columns(self.values, columns)  # no copy in columns is made for this
        return storage.dense_float(self._read(columns, rows))

    def gene_blocks(
        self, genes: Names | None, size: int, *, sparse: bool = False
    ) -> Iterator[tuple[Shaped[np.ndarray, " genes"], Any]]:
        """Walk over genes in blocks, with memory of order cells x size.

        CSR values in memory are turned into CSC once, on first use (give CSC to avoid that copy). A backed
        file is read in as few passes as a fixed memory budget allows.

        Args:
            genes: names in the order wanted; None for all genes.
            size: genes per block, at least 1; the last block may be smaller.
            sparse: leave the blocks of sparse values sparse (CSC); else all are dense.

        Returns:
            Iterator over (names, block (cells, genes)).

        Raises:
            PerlerInputError: a name is unknown or ``size`` < 1; raised at once, not at the first block.
        """
        columns = np.arange(self.n_genes) if genes is None else name_positions(genes, self.genes, "gene")
        if size < 1:
            raise PerlerInputError(
                f"expected a block size of at least 1 gene; found {size}; pass e.g. size=512"
            )
        finish = storage.plain if sparse else storage.dense_float
        return (
            (self.genes[chosen[start : start + size]], finish(slab[:, start : start + size]))
            for chosen in storage.column_passes(self.values, columns, size)
            for slab in (self._read(chosen),)
            for start in range(0, len(chosen), size)
        )

    def totals(self) -> Float[np.ndarray, " cells"]:
        """Sum of each cell's values over all genes: molecules per cell, if the values are counts."""
        return storage.row_sums(self.values)

    def detected(self) -> Float[np.ndarray, " genes"]:
        """Fraction of cells in which each gene is seen (value above zero)."""
        return storage.count_positive(self.values) / self.n_cells

    def take_cells(self, cells: Any) -> "CellExpression":
        """The chosen cells, in the order given; backed values are read into memory, still sparse.

        Args:
            cells: names, positions or a mask.
        """
        rows = positions(cells, self.cells, "cell")
        values = self._read(slice(None), rows) if self.is_backed else self.values[rows]
        beside = None if self.beside is None else self.beside.take(rows)
        return replace(self, values=values, cells=self.cells[rows], beside=beside)

    @cached_property
    def _by_gene(self) -> Any:
        in_rows = storage.layout(self.values) == "csr" and not self.is_backed
        return self.values.tocsc() if in_rows else self.values

    def _read(self, columns: np.ndarray | slice, rows: np.ndarray | None = None) -> Any:
        """The chosen genes (and cells) in memory; what comes from a file is checked."""
        block = storage.gather(self._by_gene, columns, rows)
        if self.is_backed:
            cells = self.cells if rows is None else self.cells[rows]
            checks.require_values(self.scale, block, cells, self.genes[columns], "cells")
        return block


@dataclass(frozen=True, eq=False, repr=False)
class SpatialReference:
    """Expression of landmark genes at known locations: ISH, smFISH, an atlas or zones.

    Attributes:
        values: (locations, landmarks) NumPy float array, shared with the caller and never written to.
        locations: (locations,) unique names.
        genes: (landmarks,) unique names.
        coordinates: (locations, 2 or 3) positions in any length unit, or None.
        scale: as that of cells; "auto" is replaced by what the values tell.
        normalisation: of depth: "none", or "median", which brings every location to the median total; "auto"
            is "none".
        names: where the names of landmarks are from, and what else they are called.
        measured: (locations, landmarks) whether each value was measured; the others are filled in, and not
            scored. None: all were.
        penalty: of the regression by which they are filled in (`as_reference(missing="fill")`).
        axes: what is said of the axes (`SpatialAxes.plain`), for pictures.
        marked: scale that the data themselves name; it counts where the values leave the question open.
        reading: how the values are read, and what decided it.
        beside: annotation of the locations.
        sections: (locations,) name of the section that each lies in; None: they are one.
        section_key: column of ``obs`` that says so.

    Warns:
        PerlerWarning: names of genes repeat and were made unique; none of them can be a landmark.

    Raises:
        PerlerInputError: shapes and names disagree, names of locations repeat, fewer than two locations, NaN
            or infinity, negative linear values.
    """

    values: Float[np.ndarray, "locations landmarks"]
    locations: Shaped[np.ndarray, " locations"]
    genes: Shaped[np.ndarray, " landmarks"]
    coordinates: Float[np.ndarray, "locations axes"] | None = None
    scale: Scale = "auto"
    normalisation: ReferenceNormalisation = "auto"
    names: GeneNames = BY_INDEX
    measured: Bool[np.ndarray, "locations landmarks"] | None = None
    penalty: float | None = None
    axes: dict[str, str] | None = None
    marked: str | None = None
    reading: Reading | None = None
    beside: Beside | None = None
    sections: Shaped[np.ndarray, " locations"] | None = None
    section_key: str | None = None

    def __post_init__(self) -> None:
        checks.require_matrix(self.values, "locations", "landmarks")
        values = storage.read_only(storage.dense_float(self.values))
        locations = as_labels(self.locations, "location", "row", values.shape[0])
        genes, names = checks.unique_genes(self.genes, "landmark", values.shape[1], self.names)
        reading = self.reading
        if reading is None or self.scale != reading.scale:  # another scale was said since
            how = (self.scale, values, locations, genes, "reference", self.marked)
            reading, _ = checks.settled_scale(*how)
        normalisation = depth_normalisation(self.normalisation, reading.scale)
        coordinates = self.coordinates
        if coordinates is not None:
            checks.require_coordinates(coordinates, locations)
            coordinates = storage.read_only(storage.dense_float(coordinates))
        measured = checks.mask_of_measured(self.measured, values.shape)
        vars(self).update(values=values, locations=locations, genes=genes, coordinates=coordinates)
        vars(self).update(scale=reading.scale, reading=reading, normalisation=normalisation)
        vars(self).update(names=names, measured=measured)
        if self.sections is not None:
            vars(self).update(sections=check_sections(self.sections, genes, measured, coordinates))

    def __repr__(self) -> str:
        where = "no coordinates" if self.coordinates is None else f"{self.coordinates.shape[1]}D"
        size = f"{self.n_locations} locations x {len(self.genes)} landmarks"
        gaps = "" if self.measured is None else f", {(~self.measured).sum()} values not measured"
        parts = "" if self.sections is None else f", {len(np.unique(self.sections))} sections"
        return f"SpatialReference({size}, {self.scale}{gaps}, {where}{parts})"

    @property
    def n_locations(self) -> int:
        """Number of locations."""
        return len(self.locations)

    @property
    def places(self) -> Float[np.ndarray, "locations more"] | None:
        """Coordinates for all that asks who is near whom: sections lie too far apart to be neighbours.

        With sections there is one axis more than in ``coordinates``; None where there are no coordinates.
        """
        return None if self.coordinates is None else apart(self.coordinates, self.sections)

    @property
    def is_binary(self) -> bool:
        """Whether every value that was measured is 0 or 1."""
        known = self.values if self.measured is None else self.values[self.measured]
        return bool(np.isin(known, (0.0, 1.0)).all())

    def measured_at(self, genes: Names) -> Bool[np.ndarray, "locations genes"] | None:
        """Whether each value of the named landmarks was measured; None if all were."""
        if self.measured is None:
            return None
        return checks.mask_of_measured(
            self.measured[:, name_positions(genes, self.genes, "landmark")], (self.n_locations, len(genes))
        )

    def take_locations(self, locations: Any) -> "SpatialReference":
        """The chosen locations (names, positions or a mask), in the order given."""
        rows = positions(locations, self.locations, "location")
        where = None if self.coordinates is None else self.coordinates[rows]
        measured = None if self.measured is None else self.measured[rows]
        beside = None if self.beside is None else self.beside.take(rows)
        sections = None if self.sections is None else self.sections[rows]
        part = {"values": self.values[rows], "locations": self.locations[rows], "coordinates": where}
        return replace(self, **part, measured=measured, beside=beside, sections=sections)

    def drop_genes(self, genes: Names) -> "SpatialReference":
        """The reference without the named landmarks; every name must be present."""
        keep = np.delete(np.arange(len(self.genes)), name_positions(genes, self.genes, "landmark"))
        measured = None if self.measured is None else self.measured[:, keep]
        return replace(self, values=self.values[:, keep], genes=self.genes[keep], measured=measured)
