"""Kinds of files that are not read here, and the line that turns each into one that is."""

from pathlib import Path

__all__ = ["advice"]

_FROM_R = (
    'save it from R as h5ad: zellkonverter::writeH5AD(sce, "cells.h5ad") for a SingleCellExperiment, '
    'anndataR::write_h5ad(seurat, "cells.h5ad") for a Seurat object'
)
_ADVICE = {
    **dict.fromkeys((".rds", ".rdata", ".rda", ".robj", ".qs"), _FROM_R),
    ".h5seurat": 'save it from R as h5ad: SeuratDisk::Convert("cells.h5seurat", dest = "h5ad")',
    ".loom": 'save it as h5ad: anndata.io.read_loom("cells.loom").write_h5ad("cells.h5ad") (needs loompy)',
    ".h5mu": 'save its RNA as h5ad: mudata.read_h5mu("cells.h5mu")["rna"].write_h5ad("cells.h5ad")',
    ".xlsx": "save the sheet as csv",
    ".xls": "save the sheet as csv",
    ".parquet": 'save it as csv: pandas.read_parquet("cells.parquet").to_csv("cells.csv")',
    ".mtx": "give the folder that holds matrix.mtx, features.tsv and barcodes.tsv",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
    ".tgz": "unpack it first",
}


def advice(path: Path) -> str:
    """What to do with a file of a known kind that is not read; empty if the kind is not known."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return next((_ADVICE[ending] for ending in reversed(endings) if ending in _ADVICE), "")
