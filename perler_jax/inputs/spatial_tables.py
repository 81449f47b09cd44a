"""Tables of a SpatialData, and where what they annotate lies; the library is needed for the latter only."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few

__all__ = ["EXTRA", "choose_table", "is_spatialdata", "positions_of", "table_of"]

logger = logging.getLogger("perler_jax")

EXTRA = 'pip install "perler_jax[spatial]"'
_ATTRIBUTES = "spatialdata_attrs"


def is_spatialdata(source: Any) -> bool:
    """Whether something is a SpatialData, without importing it."""
    return any(each.__name__ == "SpatialData" for each in type(source).__mro__) and hasattr(source, "tables")


def choose_table(names: Sequence[str], wanted: str | None, side: str) -> str:
    """The table that is meant: the one that was named, or the only one.

    Raises:
        PerlerInputError: none, several and none named, or none of that name.
    """
    if wanted in names or (wanted is None and len(names) == 1):
        return str(names[0] if wanted is None else wanted)
    asked = "one table, or its name" if wanted is None else f"the table {wanted!r}"
    raise PerlerInputError(
        f"expected {asked} in the SpatialData; found {few(sorted(names)) or 'no tables'}; pass "
        f"{argument('table', 'NAME', side)}"
    )


def table_of(sdata: Any, wanted: str | None, side: str) -> AnnData:
    """The table that is meant; errors as of :func:`choose_table`."""
    return sdata.tables[choose_table([str(name) for name in sdata.tables], wanted, side)]


def positions_of(sdata: Any, table: AnnData) -> np.ndarray | None:
    """Centres of the shapes, points or labels that a table annotates; None if it annotates nothing.

    Args:
        sdata: SpatialData.
        table: one of its tables.

    Returns:
        (rows, 2 or 3) positions in the coordinate system "global", or the first one there is.
    """
    if _ATTRIBUTES not in table.uns:
        return None
    from spatialdata import get_centroids
    from spatialdata.transformations import get_transformation

    about = table.uns[_ATTRIBUTES]
    named = about["region"]
    regions = [named] if isinstance(named, str) else [str(name) for name in named]
    lacking = [name for name in regions if name not in sdata]
    if lacking:
        logger.warning("no positions: the SpatialData lacks %s, which its table annotates", few(lacking))
        return None
    of_row = table.obs[about["region_key"]].astype(str).to_numpy()
    instances = table.obs[about["instance_key"]].to_numpy()
    found: np.ndarray | None = None
    for region in regions:
        element = sdata[region]
        systems = sorted(get_transformation(element, get_all=True))
        system = "global" if "global" in systems else systems[0]
        centres = get_centroids(element, coordinate_system=system)
        centres = pd.DataFrame(centres.compute() if hasattr(centres, "compute") else centres)
        axes = [name for name in ("x", "y", "z") if name in centres.columns]
        if found is None:
            found = np.full((len(table), len(axes)), np.nan)
        rows = np.flatnonzero(of_row == region)
        found[rows] = centres[axes].reindex(instances[rows]).to_numpy(np.float64)
        logger.info("positions: centres of %s in the coordinate system %s", region, system)
    return found
