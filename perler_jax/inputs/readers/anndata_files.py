"""AnnData on disk: .h5ad files and .zarr folders, read into memory or left where they are."""

import json
from pathlib import Path
from typing import Any

import anndata
import zarr
from anndata import AnnData

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.tables import reading

__all__ = ["H5AD", "ZARR", "read_zarr_table", "zarr_attributes"]

# HDF5, zarr and AnnData raise whatever they stumble over in a damaged file.
_DAMAGE = (TypeError, AttributeError, RuntimeError)
_OPTIONS = frozenset({"layer", "backed", "gene_key", "use_raw", "coordinates"})


def _read_h5ad(path: Path, request: Request) -> Content:
    with reading(path, "complete h5ad file", also=_DAMAGE):
        return Content(anndata.read_h5ad(path, backed="r" if request.backed else None))


def _read_zarr(path: Path, request: Request) -> Content:
    if zarr_attributes(path).get("encoding-type") != "anndata":
        inside = ", ".join(sorted(each.name for each in path.iterdir())[:5]) or "nothing"
        raise PerlerFileError(
            f"expected an AnnData or a SpatialData in {path}; found a .zarr with {inside}; name the folder "
            "that AnnData.write_zarr wrote"
        )
    return Content(read_zarr_table(path, request.backed))


def read_zarr_table(path: Path, backed: bool) -> AnnData:
    """An AnnData that lies in a .zarr folder; backed: X and the layers stay there.

    Raises:
        PerlerFileError: damaged, or pieces of a sparse matrix are missing, which zarr reads as zeros.
    """
    with reading(path, "complete zarr folder", also=_DAMAGE):
        group: Any = zarr.open_group(str(path), mode="r", use_consolidated=False)  # as it is
        lacking = [name for name in ("obs", "var") if name not in group]
        if lacking:
            raise PerlerFileError(
                f"expected obs and var in {path}; found no {' and no '.join(lacking)}; fetch or "
                "write it again"
            )
        _require_pieces(group, path)
        if not backed:
            return anndata.read_zarr(str(path))
        parts = {name: anndata.io.read_elem(group[name]) for name in ("obs", "var", "obsm") if name in group}
        layers = (
            {name: _left_there(each) for name, each in group["layers"].members()} if "layers" in group else {}
        )
        raw = group.get("raw")
        adata = AnnData(X=_left_there(group["X"]) if "X" in group else None, layers=layers, **parts)
        if isinstance(raw, zarr.Group):  # else it is the mark that there is none
            adata.raw = AnnData(
                X=anndata.io.read_elem(raw["X"]), obs=adata.obs, var=anndata.io.read_elem(raw["var"])
            )
        return adata


def zarr_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the group at a path, of zarr formats 2 and 3; none if there are none."""
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        file = path / name
        if file.is_file():
            with reading(file):
                content = json.loads(file.read_text())
                return content.get(key, {}) if key else content
    return {}


def _left_there(element: Any) -> Any:
    if element.attrs.get("encoding-type") == "null":
        return None
    return anndata.io.sparse_dataset(element) if isinstance(element, zarr.Group) else element


def _require_pieces(group: Any, path: Path) -> None:
    """Refuse sparse matrices whose arrays lack pieces; dense ones may: zarr leaves out what is all zero."""
    parents = [group["X"]] if "X" in group else []
    parents += [each for _, each in group["layers"].members()] if "layers" in group else []
    for sparse in (each for each in parents if isinstance(each, zarr.Group)):
        for name in ("data", "indices", "indptr"):
            array: Any = sparse[name]
            lacking = array.nchunks - array.nchunks_initialized
            if lacking and array.size > 1:
                raise PerlerFileError(
                    f"expected all {array.nchunks} pieces of {array.path} in {path}; found {lacking} "
                    "missing; fetch or write it again"
                )


H5AD = Reader(
    name="an h5ad file",
    ending=".h5ad",
    recognises=lambda path: path.is_file() and path.name.lower().endswith(".h5ad"),
    read=_read_h5ad,
    options=_OPTIONS,
)
ZARR = Reader(
    name="a .zarr folder",
    ending=".zarr",
    recognises=lambda path: (
        path.is_dir() and (path.suffix.lower() == ".zarr" or "encoding-type" in zarr_attributes(path))
    ),
    read=_read_zarr,
    options=_OPTIONS,
)
