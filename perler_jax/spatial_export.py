"""A result as a SpatialData: positions as an element, predictions as the table that annotates it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.sections import apart, sections_of_result
from perler_jax.inputs.spatial_tables import EXTRA, is_spatialdata

__all__ = ["to_spatialdata"]

_ATTRIBUTES = "spatialdata_attrs"


def to_spatialdata(
    result: AnnData, *, into: Any = None, name: str = "perler", radius: float | None = None
) -> Any:
    """Put a result into a SpatialData; needs ``perler_jax[spatial]``.

    Args:
        result: locations x genes, of `PerlerFit.reconstruct`, `summarise` or `PerlerFit.transfer`.
        into: a SpatialData whose elements the reference's table annotated: the result annotates the same,
            location by location, and is added as one more table. None makes a new one of the
            positions.
        name: of the table; with a new SpatialData, of the locations too ("perler_locations"), of which every
            section is an element of its own ("perler_locations_SECTION").
        radius: of the circles that locations are drawn as, in the unit of the coordinates; None: half the
            median distance of neighbours. Locations of three coordinates become points.

    Returns:
        ``into`` with the table added, or a new SpatialData. The result itself stays as it is.

    Raises:
        PerlerInputError: no spatialdata, no positions, a result whose reference annotated no element, or a
            table of that name that is there already.
    """
    try:
        import spatialdata
        from spatialdata.models import PointsModel, ShapesModel, TableModel
    except ImportError as error:
        raise PerlerInputError(f"expected spatialdata; found it not installed; {EXTRA}") from error
    table = result.copy()
    if into is not None:
        _check(into, result, name)
        about = dict(result.uns[_ATTRIBUTES])
        keys = {key: about[key] for key in ("region_key", "instance_key")}
        regions = sorted(table.obs[keys["region_key"]].astype(str).unique())
        table.obs[keys["region_key"]] = pd.Categorical(table.obs[keys["region_key"]].astype(str))
        del table.uns[_ATTRIBUTES]
        into[name] = TableModel.parse(table, region=regions, **keys)
        return into
    if "spatial" not in result.obsm:
        raise PerlerInputError(
            "expected positions of the locations in obsm['spatial']; found none; give the fit coordinates"
        )
    places, sections = np.asarray(result.obsm["spatial"], np.float64), sections_of_result(result)
    size = _half_spacing(apart(places, sections)) if radius is None else radius
    element = np.full(len(places), f"{name}_locations", dtype=object)
    if sections is not None:  # an element each: coordinates may be the same
        element += np.array(["_" + re.sub(r"[^\w.-]", "_", each) for each in sections], dtype=object)
    elements: dict[str, Any] = {}
    for each in pd.unique(element):
        numbers = np.flatnonzero(element == each)
        if places.shape[1] == 2:
            made = ShapesModel.parse(places[numbers], geometry=0, radius=size, index=pd.Index(numbers))
        else:
            made = PointsModel.parse(pd.DataFrame(places[numbers], numbers, ["x", "y", "z"]))
        elements[each] = made
    table.uns.pop(_ATTRIBUTES, None)
    table.obs["region"] = pd.Categorical(element)
    table.obs["instance_id"] = np.arange(len(places))
    table = TableModel.parse(table, region=list(elements), region_key="region", instance_key="instance_id")
    kind = "shapes" if places.shape[1] == 2 else "points"
    return spatialdata.SpatialData(**{kind: elements}, tables={name: table})


def _check(into: Any, result: AnnData, name: str) -> None:
    if not is_spatialdata(into):
        raise PerlerInputError(f"expected a SpatialData to put the result into; found {type(into).__name__}")
    if _ATTRIBUTES not in result.uns:
        raise PerlerInputError(
            "expected a result whose reference was a table of this SpatialData; found no word of what it "
            "annotates; leave `into` out"
        )
    if name in into:
        raise PerlerInputError(f"expected a new name for the table; found {name!r} there; pass name=")


def _half_spacing(places: np.ndarray) -> float:
    """Half the median distance of a location to its nearest neighbour."""
    from scipy.spatial import cKDTree

    distances = cKDTree(places).query(places, k=2)[0][:, 1]
    return float(np.median(distances)) / 2 or 1.0
