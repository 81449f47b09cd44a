"""Loaders of the public data sets: from the files as they were published to labelled AnnData.

Each loader takes the folder of a data set's files. Nothing is downloaded; what is changed is said there;
``uns["expression_scale"]`` names the scale of values that cannot tell it.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from perler_jax._typing import Float
from perler_jax.errors import PerlerFileError
from perler_jax.inputs.axes import EMBRYO
from perler_jax.inputs.readers.arrays import open_npz
from perler_jax.inputs.tables import read_named, read_table

__all__ = [
    "CortexPair",
    "FlyEmbryo",
    "load_count_table",
    "load_fly",
    "load_osmfish",
    "load_seqfish_pair",
    "load_starmap_pair",
    "load_villus",
    "load_zebrafish_cells",
    "load_zebrafish_reference",
]

Folder = str | PathLike[str]


@dataclass(frozen=True, eq=False)
class FlyEmbryo:
    """The fly embryo: dissociated cells (stage 6) and the BDTNP virtual embryo (stage 5).

    Attributes:
        cells: 1297 cells x 8924 genes, UMI counts, CSR; ``obs["norm_total"]`` is the total that the authors
            divided by (0-6 molecules above the row sum: genes that the published table leaves out).
        reference: 3039 locations x 84 landmarks, in situ intensity, about 0-1; ``obsm["spatial"]`` in
            micrometres with x from anterior to posterior, y across (right half), z up to dorsal.
        mirror: the partner of each location on the left half, micrometres (not exact mirror images).
        binary_reference: the same locations and landmarks as 0/1 (DistMap's thresholds), or None.
    """

    cells: ad.AnnData
    reference: ad.AnnData
    mirror: Float[np.ndarray, "locations 3"]
    binary_reference: pd.DataFrame | None

    def __repr__(self) -> str:
        cells, reference = _shape(self.cells, "cells x {} genes"), _shape(self.reference, "locations x {}")
        return f"FlyEmbryo({cells}; {reference} landmarks; binary: {self.binary_reference is not None})"


@dataclass(frozen=True, eq=False)
class CortexPair:
    """Mouse visual cortex: located cells and dissociated cells (Tasic et al. 2016).

    Attributes:
        cells: dissociated cells x genes, not logged, dense.
        reference: located cells x genes; ``obsm["spatial"]`` in pixels.
    """

    cells: ad.AnnData
    reference: ad.AnnData

    def __repr__(self) -> str:
        reference = _shape(self.reference, "located x {} genes")
        return f"CortexPair({_shape(self.cells, 'cells x {} genes')}; {reference})"


def load_fly(directory: Folder) -> FlyEmbryo:
    """Load the fly embryo: cells, reference atlas with both halves' coordinates, binary atlas if present.

    Locations are named ``bin1`` ... ``bin3039`` in the order of the table (DistMap's bin numbers).

    Args:
        directory: folder of the files.

    Raises:
        PerlerFileError: a file is missing, or the tables do not fit each other.
    """
    folder = Path(directory)
    cells = load_count_table(folder / "scrna_counts.npz")
    with _open_npz(folder / "scrna_counts.npz") as table:
        cells.obs["norm_total"] = table["norm_total"].astype(np.int64)
    expression = _read_table(folder / "bdtnp_reference.tsv.gz")
    expression.index = pd.Index([f"bin{number}" for number in range(1, len(expression) + 1)])
    geometry = _read_table(folder / "geometry.tsv.gz").to_numpy(dtype=np.float64)
    if geometry.shape != (2 * len(expression), 3):
        raise PerlerFileError(
            f"{folder / 'geometry.tsv.gz'}: expected {2 * len(expression)} rows (both halves of the "
            f"{len(expression)} reference locations) of 3 coordinates, found {geometry.shape}."
        )
    about = {"expression_scale": "linear", "spatial_axes": EMBRYO.plain()}
    reference = ad.AnnData(expression.astype(np.float64), uns=about)
    reference.obsm["spatial"] = geometry[: len(expression)].copy()
    binary = None
    if (folder / "bdtnp_binary.tsv.gz").exists():
        binary = _read_table(folder / "bdtnp_binary.tsv.gz").set_axis(expression.index, axis=0)
        binary = binary[list(expression.columns)]
    return FlyEmbryo(cells, reference, geometry[len(expression) :].copy(), binary)


def load_starmap_pair(directory: Folder) -> CortexPair:
    """Load STARmap (1207 located cells x 1020 genes, counts, CSR) and 1366 dissociated cells x 170 genes.

    The reference's y runs toward the pia; its ``obs`` has ``layer`` and ``cell_type``. The dissociated cells
    hold normalised expression from 0.

    Note: the dissociated table holds 1 + expression; the 1 is taken off here, for the usual log2(1 + x).
    """
    folder = Path(directory)
    expression = _read_named(folder / "tasic2016_1366x170_expr_plus1.tsv.gz") - 1.0
    cells = ad.AnnData(expression, obs=_matching(folder / "tasic2016_cells.tsv.gz", expression.index))
    cells.uns["expression_scale"] = "linear"
    reference = load_count_table(folder / "starmap_1207x1020_counts.npz")
    located = _matching(folder / "starmap_cells.tsv.gz", reference.obs_names)
    reference.obsm["spatial"] = located[["x", "y"]].to_numpy(dtype=np.float64)
    reference.obs["layer"] = located["Layer"]
    reference.obs["cell_type"] = located["Cell"]
    return CortexPair(cells, reference)


def load_seqfish_pair(directory: Folder) -> CortexPair:
    """Load seqFISH (1597 located cells) and 1723 dissociated cells x the same 113 genes; both dense.

    ``obs`` has ``cell_type`` on both sides and the dissected ``layer`` of the dissociated cells.

    Note: values on both sides are quantile-normalised scores from 0 to 101, not counts, with each gene's
    mean made equal on the two sides by those who made the table.
    """
    folder = Path(directory)
    cells = ad.AnnData(_read_named(folder / "scrna_1723x113.tsv.gz").astype(np.float64))
    labels = _read_named(folder / "scrna_labels.tsv.gz", "cell")
    _require_same(folder / "scrna_labels.tsv.gz", labels.index, cells.obs_names)
    cells.obs = labels.loc[cells.obs_names, ["cell_type", "layer"]]
    reference = ad.AnnData(_read_named(folder / "seqfish_1597x113.tsv.gz").astype(np.float64))
    located = _matching(folder / "seqfish_cells.tsv.gz", reference.obs_names)
    reference.obsm["spatial"] = located[["x", "y"]].to_numpy(dtype=np.float64)
    reference.obs["cell_type"] = located["svm_cell_type"]
    return CortexPair(cells, reference)


def load_villus(directory: Folder) -> ad.AnnData:
    """Load mouse villus enterocytes: 1383 cells x 27998 genes, counts, with ``obs["zone"]``.

    Zones run from 0 (base) to 6 (tip) and were inferred by the authors from landmark sums.

    Note: zones are joined BY POSITION. The barcodes in the count table's original header are scrambled, and a
    join on them destroys the zonation.
    """
    folder = Path(directory)
    cells = load_count_table(folder / "scrna_counts.npz")
    zones = _read_table(folder / "zones.tsv.gz")
    if len(zones) != cells.n_obs:
        raise PerlerFileError(f"{folder / 'zones.tsv.gz'}: expected {cells.n_obs} rows, found {len(zones)}.")
    cells.obs["zone"] = zones["zone"].to_numpy()
    return cells


def load_osmfish(directory: Folder) -> ad.AnnData:
    """Load the located cells of mouse somatosensory cortex that the authors kept: 4839 cells x 33 genes.

    Counts of molecules; ``obsm["spatial"]`` in micrometres (pixels times the square root of the median of
    size_um2 / size_pix over the cells); ``obs`` has ``region`` and ``cell_type``.
    """
    folder = Path(directory)
    cells = load_count_table(folder / "osmfish_6471x33_counts.npz")
    located = _matching(folder / "osmfish_cells.tsv.gz", cells.obs_names)
    micrometres = float(np.sqrt((located["size_um2"] / located["size_pix"]).median()))
    cells.obsm["spatial"] = located[["X", "Y"]].to_numpy(dtype=np.float64) * micrometres
    cells.obs["region"] = located["Region"]
    cells.obs["cell_type"] = located["ClusterName"]
    return cells[(located["Valid"] == 1).to_numpy()].copy()


def load_zebrafish_reference(directory: Folder) -> ad.AnnData:
    """Load the binary in situ reference of the 50 % epiboly zebrafish embryo: 64 bins x 47 landmarks.

    ``obsm["spatial"]`` lies on the unit sphere (no length unit); ``obs`` has ``dv_index`` (0 ventral, 7
    dorsal) and ``tier_index`` (0 animal pole, 7 margin).
    """
    folder = Path(directory)
    expression = _read_named(folder / "ish_binary_64x47.tsv")
    bins = _matching(folder / "geometry_64.tsv", expression.index)
    reference = ad.AnnData(expression.astype(np.float64), obs=bins[["dv_index", "tier_index"]])
    reference.obsm["spatial"] = bins[["x", "y", "z"]].to_numpy(dtype=np.float64)
    return reference


def load_zebrafish_cells(path: Folder) -> ad.AnnData:
    """Load the cells of the 50 % epiboly zebrafish embryo (Satija et al. 2015): 851 cells, dense.

    The file is ``GSE66688_zdata.expMatrix.txt.gz`` of GEO series GSE66688, or the ``zdata.matrix.txt`` of the
    first Seurat tutorials: genes in rows, cells in columns, whose names begin with their batch (``zf1``,
    ``zf2``, ``zf3``; here ``obs["batch"]``).
    Values are normalised expression, not logged: take log2(1 + x) and give them as logarithms.

    Raises:
        PerlerFileError: the file is missing or is no such table.
    """
    path = Path(path)
    _require(path)
    table = read_table(path)
    if not len(table) or not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
        raise PerlerFileError(f"{path}: expected a table of numbers, genes x cells, found other values.")
    if table.isna().any(axis=None) or (table < 0).any(axis=None):
        raise PerlerFileError(f"{path}: expected values >= 0, not logged; found missing or negative ones.")
    cells = ad.AnnData(table.T.astype(np.float32), uns={"expression_scale": "linear"})
    cells.obs["batch"] = cells.obs_names.str.split("_").str[0].to_numpy()
    return cells


def load_count_table(path: Folder) -> ad.AnnData:
    """Load a count table kept as the parts of a CSR matrix in an npz: cells x genes, float32, CSR.

    Expected keys: ``data``, ``indices``, ``indptr``, ``shape``, ``genes``, ``cells``. Indices stored in a
    short integer type (to save space) are widened: SciPy's products overflow on 16-bit ones.

    Raises:
        PerlerFileError: the file is missing, is not an npz, or lacks a key.
    """
    path = Path(path)
    with _open_npz(path) as table:
        needed = ("data", "indices", "indptr", "shape", "genes", "cells")
        missing = [key for key in needed if key not in table.files]
        if missing:
            raise PerlerFileError(f"{path}: expected the arrays {needed}, found no {missing}.")
        parts = (table["data"].astype(np.float32), *(table[key].astype(np.int32) for key in needed[1:3]))
        counts = sparse.csr_matrix(parts, shape=tuple(int(size) for size in table["shape"]))
        cells = pd.DataFrame(index=pd.Index(table["cells"].astype(str)))
        genes = pd.DataFrame(index=pd.Index(table["genes"].astype(str)))
    return ad.AnnData(counts, obs=cells, var=genes)


@contextmanager
def _open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    _require(path)
    try:
        with open_npz(path) as table:
            yield table
    except PerlerFileError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise PerlerFileError(f"{path}: expected an npz file, could not read it ({error}).") from error


def _read_table(path: Path) -> pd.DataFrame:
    return _tabbed(path, lambda: pd.read_csv(path, sep="\t"))


def _read_named(path: Path, column: str | int = 0) -> pd.DataFrame:
    return _tabbed(path, lambda: read_named(path, column))


def _tabbed(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    _require(path)
    try:
        return read()
    except (ValueError, KeyError, OSError, EOFError) as error:
        told = f"{path}: expected a tab-separated table, could not read it ({error})."
        raise PerlerFileError(told) from error


def _matching(path: Path, names: pd.Index) -> pd.DataFrame:
    """Read a table whose first column names the rows of another one; the two must list the same, in order."""
    table = _read_named(path)
    _require_same(path, table.index, names)
    return table


def _require_same(path: Path, found: pd.Index, names: pd.Index) -> None:
    if not found.equals(pd.Index(names)):
        told = f"{path}: expected the {len(names)} names of the expression table in its order."
        raise PerlerFileError(told)


def _require(path: Path) -> None:
    if not path.is_file():
        raise PerlerFileError(
            f"Expected the file {path.name} in {path.parent}, found none. "
            "Give the folder that holds the data set's files."
        )


def _shape(table: ad.AnnData, words: str) -> str:
    return f"{table.n_obs} {words.format(table.n_vars)}"
