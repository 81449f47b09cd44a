"""The list of readers: a new kind of file is one file beside this one, and one line here."""

from pathlib import Path

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.readers.anndata_files import H5AD, ZARR
from perler_jax.inputs.readers.arrays import NPZ
from perler_jax.inputs.readers.delimited import TABLE
from perler_jax.inputs.readers.foreign import advice
from perler_jax.inputs.readers.platforms import SPACE_RANGER, XENIUM
from perler_jax.inputs.readers.reader import Reader
from perler_jax.inputs.readers.spatialdata_zarr import SPATIALDATA
from perler_jax.inputs.readers.tenx_folder import TENX_FOLDER
from perler_jax.inputs.readers.tenx_h5 import TENX_H5

__all__ = ["READERS", "find_reader"]

READERS: tuple[Reader, ...] = (
    H5AD,
    TENX_H5,
    TABLE,
    NPZ,
    SPATIALDATA,
    ZARR,
    SPACE_RANGER,
    XENIUM,
    TENX_FOLDER,
)


def find_reader(path: Path) -> Reader:
    """The first reader that says a path is its own.

    Raises:
        PerlerFileError: there is nothing at the path, or no reader for it.
    """
    if not path.exists():
        raise PerlerFileError(f"expected a file at {path}; found none; check the path")
    for reader in READERS:
        if reader.recognises(path):
            return reader
    if path.is_dir():
        folders = ", ".join(reader.ending for reader in READERS if not reader.ending.startswith("."))
        inside = ", ".join(sorted(each.name for each in path.iterdir())[:5]) or "nothing"
        raise PerlerFileError(
            f"expected a file, a .zarr or a folder with {folders}; found the folder {path} with {inside}; "
            "name the file, or the folder that holds these"
        )
    endings = ", ".join(dict.fromkeys(each.ending for each in READERS if each.ending.startswith(".")))
    raise PerlerFileError(
        f"expected a file ending in {endings}; found {path.name}; "
        + (advice(path) or "convert it, or give it the ending of what it is")
    )
