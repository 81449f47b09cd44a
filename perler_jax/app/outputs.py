"""What may be written where: outputs are refused before any work is done, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anndata import AnnData, settings

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.io import atomic_path

__all__ = ["check_folder", "check_output", "write_h5ad"]


def check_output(path: Path, suffix: str, inputs: Sequence[Path | None]) -> None:
    """Refuse an output that could not be written, or that would replace an input.

    Raises:
        PerlerFileError: another ending, a folder, an input under whatever name, or no place to write to.
    """
    if path.suffix != suffix:
        raise PerlerFileError(f"expected an output that ends in {suffix}; found {path}; add the ending")
    if path.is_dir():
        raise PerlerFileError(f"expected a file name to write to; found the folder {path}; add a file name")
    if path.exists() and any(source and source.exists() and path.samefile(source) for source in inputs):
        raise PerlerFileError(
            f"expected an output beside the inputs; found {path}, an input; choose another name"
        )
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that neither exists nor could be made; nothing is made yet.

    Raises:
        PerlerFileError: a file is in the way, or the folder may not be written to.
    """
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise PerlerFileError(f"expected a folder to write to at {folder}; found the file {nearest}")
    if not os.access(nearest, os.W_OK):
        raise PerlerFileError(f"expected a folder to write to at {folder}; found {nearest} write-protected")


def write_h5ad(table: AnnData, path: Path) -> None:
    """Write an AnnData, making the folder if needed; the object itself stays as it is.

    Texts are written as every reader of h5ad knows them, also by pandas 3, whose own kind older ones lack.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = settings.override(allow_write_nullable_strings=False)
    with atomic_path(path) as temporary, plain:
        table.write_h5ad(temporary, compression="gzip", convert_strings_to_categoricals=False)
