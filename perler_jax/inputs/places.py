"""Where the positions of locations lie: under the name that was given, or where they are usually kept."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.checks import warn
from perler_jax.inputs.frames import in_memory, is_number, numbers_of
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import as_labels, few, near_misses

__all__ = ["in_order", "places_elsewhere", "with_positions"]

_USUAL = "spatial"
_NO_POSITION = re.compile(
    r"umap|tsne|pca|phate|diffmap|draw_graph|scvi|harmony|latent|lsi|mde|nmf|factor|force|densmap|embed|lda",
    re.IGNORECASE,
)
_PAIRS = (  # names of columns, in small letters; a third for the depth is taken where it is there
    ("x", "y", "z"),
    ("x_centroid", "y_centroid", "z_centroid"),
    ("centroid_x", "centroid_y", "centroid_z"),
    ("center_x", "center_y", "center_z"),
    ("centerx_global_px", "centery_global_px"),
    ("global_x", "global_y", "global_z"),
    ("spatial_x", "spatial_y", "spatial_z"),
    ("x_coord", "y_coord", "z_coord"),
    ("xcoord", "ycoord", "zcoord"),
    ("x_position", "y_position", "z_position"),
    ("pos_x", "pos_y", "pos_z"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("pxl_col", "pxl_row"),
    ("imagecol", "imagerow"),
    ("array_col", "array_row"),
)


def _named_positions(adata: AnnData, where: str | Sequence[str]) -> np.ndarray:
    """Positions under a key of ``obsm``, or in columns of ``obs``.

    Args:
        adata: of the locations.
        where: a key, or two or three columns (a list, or one text with commas).

    Returns:
        (locations, axes) numbers, still to be checked.

    Raises:
        PerlerInputError: there is no such key or column; what could be meant is named.
    """
    if isinstance(where, str) and where in adata.obsm:
        return np.asarray(adata.obsm[where])
    wanted, obs = _split_columns(where), in_memory(adata.obs)
    lacking = [name for name in wanted if name not in obs.columns]
    if lacking:
        hint = places_elsewhere(adata, always=True)
        keys, columns = few(sorted(adata.obsm)) or "(none)", few(list(obs.columns), 8) or "(none)"
        raise PerlerInputError(
            f"expected a key of obsm, or columns of obs, for {argument('coordinates', where)}; found obsm "
            f"keys {keys} and obs columns {columns}{f'; {hint}' if hint else ''}"
        )
    return np.column_stack([np.asarray(obs[name]) for name in wanted])


def _split_columns(where: str | Sequence[str]) -> list[str]:
    """Names of columns, given as a list or as one text with commas."""
    return [part.strip() for part in where.split(",")] if isinstance(where, str) else [str(n) for n in where]


def places_elsewhere(adata: AnnData, *, always: bool = False) -> str:
    """Where positions seem to lie and the argument that takes them; empty if nowhere.

    Args:
        adata: of the locations.
        always: name ``obsm["spatial"]`` too.
    """
    keys = [key for key in map(str, adata.obsm) if always or key != _USUAL]
    keys = [key for key in keys if not _NO_POSITION.search(key) and _is_position(adata.obsm[key])]
    keys.sort(key=lambda key: (_USUAL not in key.lower(), key))
    if keys:
        others = f" ({few([repr(key) for key in keys[1:]])} may be meant as well)" if keys[1:] else ""
        how = argument("coordinates", keys[0])
        return f"obsm[{keys[0]!r}] has 2 or 3 numbers per location: pass {how}{others}"
    columns = _usual_columns(in_memory(adata.obs))
    return (
        f"obs has the columns {', '.join(columns)}: pass {argument('coordinates', columns)}"
        if columns
        else ""
    )


def _usual_columns(table: Any) -> list[str]:
    """Columns of a table that hold positions, going by their names; empty if there are none."""
    by_name = {str(name).lower(): str(name) for name in table.columns}
    for names in _PAIRS:
        found = [by_name[name] for name in names if name in by_name and is_number(table[by_name[name]])]
        if len(found) >= 2 and {names[0], names[1]} <= by_name.keys():
            return found
    return []


def _is_position(values: Any) -> bool:
    shape = np.shape(values)
    if len(shape) != 2 or shape[1] not in (2, 3):
        return False
    if isinstance(values, pd.DataFrame):
        return all(is_number(values[name]) for name in values.columns)
    return getattr(values, "dtype", np.dtype(object)).kind in "iuf"


def with_positions(source: Any, coordinates: Any) -> tuple[Any, Any]:
    """The source without columns of positions, and the positions; tells where some lie that are not used."""
    named = isinstance(coordinates, str) or (
        isinstance(coordinates, list | tuple) and all(isinstance(name, str) for name in coordinates)
    )
    if isinstance(source, AnnData):
        if named:
            return source, _named_positions(source, coordinates)
        if coordinates is None:
            coordinates = source.obsm.get("spatial")
            if coordinates is None and (hint := places_elsewhere(source)):
                warn(f"expected positions in obsm['spatial']; found none there, so none are used; {hint}")
        return source, coordinates
    if isinstance(source, pd.DataFrame):
        if named:
            columns = _split_columns(coordinates)
            if not set(columns) <= set(source.columns):
                raise PerlerInputError(
                    f"expected the columns {', '.join(columns)} of positions in the table; found "
                    f"{few(list(source.columns), 8)}; name columns of it, or give the positions themselves"
                )
            return source.drop(columns=columns), source[columns].to_numpy()
        if coordinates is None and (columns := _usual_columns(source)):
            warn(
                f"expected landmarks in every column; found {', '.join(columns)}, which look like positions; "
                f"pass {argument('coordinates', columns)} if they are"
            )
    elif named:
        kind = type(source).__name__
        raise PerlerInputError(
            f"expected an AnnData or a DataFrame with {argument('coordinates', coordinates)}; found {kind}; "
            "give the positions themselves"
        )
    return source, coordinates


def in_order(coordinates: Any, locations: np.ndarray) -> np.ndarray:
    """Coordinates in the order of the locations: by name where a DataFrame's index holds the names."""
    if not isinstance(coordinates, pd.DataFrame):
        return np.asarray(coordinates)
    positions = numbers_of(coordinates, "the table of coordinates")
    # A bare RangeIndex counts rows, it names nothing: a longer table is then an error, not a match by number.
    if isinstance(coordinates.index, pd.RangeIndex):
        return positions
    index = pd.Index(as_labels(coordinates.index, "coordinate row", "row", len(coordinates)))
    found = index.get_indexer(locations)
    missing = locations[found < 0]
    if 0 < len(missing) < len(locations):
        raise PerlerInputError(
            f"expected coordinates of all {len(locations)} locations by name; found {len(missing)} without "
            f"({few(missing)}){near_misses(missing, index.to_numpy())}; add them, or reset the index to go "
            "by order"
        )
    return positions if len(missing) else positions[found]
