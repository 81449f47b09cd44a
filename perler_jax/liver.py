"""Loader of the public liver files (Halpern et al. 2017, Nature 542:352): hepatocytes and zones.

How to obtain them, into one folder:

1. ``GSE84498_umitab.txt.gz`` and ``GSE84498_experimental_design.txt.gz``: supplementary files of GEO series
   GSE84498.
2. ``smfish_zones.tsv``, written by you from the paper's supplementary tables of its smFISH measurements: a
   column ``zone`` (whole numbers from 1 at the central vein), a column per landmark gene, one row per zone,
   or several where there are several samples of a zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.tables import read_named

__all__ = ["LiverLobule", "load_liver"]

_COUNTS = "GSE84498_umitab.txt.gz"
_DESIGN = "GSE84498_experimental_design.txt.gz"
_ZONES = "smfish_zones.tsv"


@dataclass(frozen=True, eq=False)
class LiverLobule:
    """Liver cells and the zones of a lobule.

    Attributes:
        cells: cells x genes, UMI counts, CSR; ``obs`` is the published design table (batch, mouse, ...).
        reference: zones x landmarks, mean over samples, linear; ``obs["area"]`` is the zone's share of the
            lobule, for ``fit_perler(location_weights=...)``.
    """

    cells: ad.AnnData
    reference: ad.AnnData

    def __repr__(self) -> str:
        cells, zones = self.cells, self.reference
        return (
            f"LiverLobule({cells.n_obs} cells x {cells.n_vars} genes; {zones.n_obs} zones x {zones.n_vars})"
        )


def load_liver(directory: str | PathLike[str]) -> LiverLobule:
    """Load the liver from the files that this module's text names.

    Of a gene that the count table gives several names (``"A;B"``) the first is kept; genes that then share a
    name are added up. Every well of the design is a cell: which ones to leave out (empty wells, batches of
    cells that are no hepatocytes) is the caller's decision; the Perler paper kept 1415.

    Areas are those of rings of equal width around the central vein, ring k in proportion to 2 k - 1.

    Raises:
        PerlerFileError: a file is missing, is no such table, or counts and design do not fit each other.
    """
    folder = Path(directory)
    design = _table(folder / _DESIGN, "well")
    counts = _table(folder / _COUNTS, "gene")
    if not set(design.index) <= set(counts.columns):
        missing = [well for well in design.index if well not in counts.columns]
        raise PerlerFileError(
            f"{folder / _COUNTS}: expected a column for each of {len(design)} wells of the design, found "
            f"none for {', '.join(missing[:3])}."
        )
    counts = counts[design.index]
    _require_amounts(folder / _COUNTS, counts)
    names = counts.index.str.split(";").str[0]
    genes = pd.Index(names.unique())
    # Rows of the same gene are added up by a product, which stays sparse.
    member = sparse.csr_matrix(
        (np.ones(len(names), np.float32), (genes.get_indexer(names), np.arange(len(names))))
    )
    table = (member @ sparse.csr_matrix(counts.to_numpy(np.float32))).T.tocsr()
    cells = ad.AnnData(table, obs=design.rename_axis(None), var=pd.DataFrame(index=genes))
    return LiverLobule(cells, _zones(folder / _ZONES))


def _zones(path: Path) -> ad.AnnData:
    """Mean over samples of each zone, from the central vein outwards."""
    samples = _table(path, "zone")
    samples.index = pd.to_numeric(samples.index, errors="coerce")
    _require_amounts(path, samples)
    means = samples.groupby(level=0).mean()
    if list(means.index) != list(range(1, len(means) + 1)) or len(means) < 2:
        raise PerlerFileError(
            f"{path}: expected zones 1, 2, ... from the central vein without a gap, found "
            f"{', '.join(map(str, means.index))}."
        )
    rings = 2.0 * means.index.to_numpy() - 1.0
    zones = pd.DataFrame({"area": rings / rings.sum()}, index=[f"zone {zone}" for zone in means.index])
    table = ad.AnnData(means.to_numpy(np.float64), obs=zones, var=pd.DataFrame(index=means.columns))
    table.uns["expression_scale"] = "linear"
    return table


def _table(path: Path, index: str) -> pd.DataFrame:
    """A tab-separated table by one of its columns."""
    if not path.is_file():
        raise PerlerFileError(
            f"Expected the file {path.name} in {path.parent}, found none; see perler_jax/liver.py for where "
            "to get it."
        )
    try:
        return read_named(path, index)
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise PerlerFileError(
            f"{path}: expected a tab-separated table with a column {index!r}, could not read one ({error})."
        ) from error


def _require_amounts(path: Path, table: pd.DataFrame) -> None:
    numeric = all(map(pd.api.types.is_numeric_dtype, table.dtypes))
    if not table.size or not numeric or table.isna().any(axis=None) or (table < 0).any(axis=None):
        raise PerlerFileError(f"{path}: expected numbers >= 0, not logged; found other or missing values.")
