"""Output folders of Space Ranger (Visium) and Xenium, read by spatialdata-io, without their images."""

import importlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.readers.reader import Content, Reader, Request
from perler_jax.inputs.readers.tenx_features import feature_names
from perler_jax.inputs.readers.tenx_h5 import read_features
from perler_jax.inputs.spatial_tables import EXTRA
from perler_jax.inputs.tables import reading

__all__ = ["SPACE_RANGER", "XENIUM"]

_COUNTS = "filtered_feature_bc_matrix.h5"
_WITHOUT = (  # of Xenium: all that is not the table
    *("cells_boundaries", "nucleus_boundaries", "cells_labels", "nucleus_labels", "transcripts"),
    *("morphology_mip", "morphology_focus", "aligned_images"),
)


def _read_space_ranger(path: Path, request: Request) -> Content:
    counts = _counts_files(path)
    name = counts[0].name.removesuffix(_COUNTS).rstrip("_")
    table = _table(path, "visium", dataset_id=name or path.name)
    # The library makes names unique without a word: they are taken from the file again.
    features = read_features(counts[0])
    ids = np.asarray(table.var["gene_ids"], dtype=object)
    var = features.set_index("gene_ids", drop=False).loc[ids, ["gene_ids", "gene_symbols"]]
    table.var_names = pd.Index(feature_names(var, request.landmarks, counts[0]), dtype=object)
    table.var["gene_symbols"] = var["gene_symbols"].to_numpy(object)
    return Content(table)


def _read_xenium(path: Path, request: Request) -> Content:
    return Content(_table(path, "xenium", **dict.fromkeys(_WITHOUT, False)))


def _table(path: Path, reader: str, **options: Any) -> Any:
    """The table of what a reader of spatialdata-io makes of a folder.

    Raises:
        PerlerFileError: the library is not installed, or the folder is not complete.
    """
    try:
        library = importlib.import_module("spatialdata_io")
    except ImportError as error:
        raise PerlerFileError(
            f"expected spatialdata-io, which reads the folder {path}; found it not installed ({error}); "
            f"{EXTRA}"
        ) from error
    known = (TypeError, AttributeError, RuntimeError, AssertionError, IndexError, UnboundLocalError)
    with reading(path, f"complete folder of {reader.capitalize()}", also=known), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of images and names, which are none of our readers' business
        return getattr(library, reader)(path, **options).tables["table"]


def _counts_files(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if re.fullmatch(rf"(.*_)?{re.escape(_COUNTS)}", each.name))


def _is_space_ranger(path: Path) -> bool:
    if not (path / "spatial").is_dir():
        return False
    positions = any((path / "spatial").glob("tissue_positions*"))
    return positions and bool(_counts_files(path))


def _folder(name: str, holds: str, recognises: Callable[[Path], bool], read: Any) -> Reader:
    return Reader(
        name=name,
        ending=holds,
        recognises=lambda path: path.is_dir() and recognises(path),
        read=read,
        options=frozenset({"gene_key", "coordinates"}),
    )


SPACE_RANGER = _folder(
    "a Space Ranger folder",
    f"{_COUNTS} and spatial/tissue_positions.csv (Space Ranger)",
    _is_space_ranger,
    _read_space_ranger,
)
XENIUM = _folder(
    "a Xenium folder",
    "experiment.xenium (Xenium)",
    lambda path: (path / "experiment.xenium").is_file(),
    _read_xenium,
)
