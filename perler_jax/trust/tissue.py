"""The tissue's geometry as positions need it: the midline, the spacing of locations, named regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.labels import few, positions

__all__ = ["Midline", "fold", "location_spacing", "nearest_locations", "region_masks"]


@dataclasses.dataclass(frozen=True)
class Midline:
    """The plane between the mirror-image halves of a tissue.

    Expression tells how far a cell is from the midline, not on which side. On the folded side the distance
    from the midline takes the place of the coordinate, so that two mirror-image locations are one place:
    a mean is no longer drawn to the midline by a cell that may be from either side, and a radius no longer
    reaches across. A map of one half is its own folded side.

    Attributes:
        axis: which coordinate runs from left to right.
        at: its value on the midline, in the unit of the coordinates.

    Raises:
        PerlerInputError: on a negative axis, or a midline that is nowhere.
    """

    axis: int
    at: float = 0.0

    def __post_init__(self) -> None:
        if self.axis < 0 or not np.isfinite(self.at):
            raise PerlerInputError(
                f"expected the axis (0, 1 or 2) that runs from left to right and where on it the midline "
                f"lies, found axis {self.axis} at {self.at}"
            )

    def fold(self, coordinates: Float[np.ndarray, "*any axes"]) -> Float[np.ndarray, "*any axes"]:
        """Both sides laid on one: the coordinate along the axis becomes the distance from the midline.

        Raises:
            PerlerInputError: if there is no such axis.
        """
        if self.axis >= coordinates.shape[-1]:
            raise PerlerInputError(
                f"expected a midline across one of the {coordinates.shape[-1]} axes of the coordinates, "
                f"found axis {self.axis}: they are counted from 0"
            )
        folded = np.array(coordinates)
        folded[..., self.axis] = np.abs(folded[..., self.axis] - self.at)
        return folded

    def sides(
        self, folded: Float[np.ndarray, "*any axes"]
    ) -> tuple[Float[np.ndarray, "*any axes"], Float[np.ndarray, "*any axes"]]:
        """The two places in the tissue that a place on the folded side stands for."""
        low, high = np.array(folded), np.array(folded)
        low[..., self.axis] = self.at - folded[..., self.axis]
        high[..., self.axis] = self.at + folded[..., self.axis]
        return low, high


def fold(
    coordinates: Float[np.ndarray, "*any axes"], midline: Midline | None
) -> Float[np.ndarray, "*any axes"]:
    """Coordinates on the folded side; as they are without a midline."""
    return coordinates if midline is None else midline.fold(coordinates)


def location_spacing(coordinates: Float[np.ndarray, "locations axes"]) -> float:
    """Median distance of a location to its nearest neighbour, in the unit of the coordinates.

    Raises:
        PerlerInputError: if most locations lie on top of each other.
    """
    spacing = float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))
    if not spacing > 0:
        raise PerlerInputError(
            f"expected locations in different places, found most of {len(coordinates)} on top of another: "
            "check the coordinates"
        )
    return spacing


def nearest_locations(
    places: Float[np.ndarray, "cells _axes"], coordinates: Float[np.ndarray, "locations axes"]
) -> Int[np.ndarray, " cells"]:
    """Index of the location nearest to each place.

    Raises:
        PerlerInputError: if the places are not in the space of the locations, or not finite.
    """
    if places.shape[1] != coordinates.shape[1] or not np.isfinite(places).all():
        raise PerlerInputError(
            f"expected finite coordinates of shape (cells, {coordinates.shape[1]}) as the locations have, "
            f"found shape {places.shape} with {int((~np.isfinite(places)).any(axis=1).sum())} rows not finite"
        )
    return cKDTree(coordinates).query(places)[1].astype(np.int64)


def region_masks(
    regions: Any, locations: np.ndarray
) -> tuple[list[str], Bool[np.ndarray, "regions locations"]]:
    """Which locations belong to each region of the user's.

    Args:
        regions: mapping from a region's name to its locations (names, positions or a mask); or one label per
            location (an array, or a Series that is matched by name), where every label is a region; or None.
        locations: (locations,) names.

    Returns:
        Names, and (regions, locations) booleans.

    Raises:
        PerlerInputError: on unknown locations, an empty region, or a wrong number of labels.
    """
    if regions is None:
        return [], np.zeros((0, len(locations)), bool)
    if not isinstance(regions, Mapping):
        if isinstance(regions, pd.Series) and np.isin(locations, regions.index.astype(str)).all():
            regions = regions.set_axis(regions.index.astype(str)).loc[locations]
        labels = pd.Series(np.asarray(regions, dtype=object))
        if len(labels) != len(locations):
            raise PerlerInputError(
                f"expected one label for each of {len(locations)} locations, or a mapping from names to "
                f"locations; found {len(labels)} labels"
            )
        regions = {str(name): (labels == name).to_numpy() for name in labels.dropna().unique()}
    masks = np.zeros((len(regions), len(locations)), bool)
    for mask, chosen in zip(masks, regions.values(), strict=True):
        mask[positions(chosen, locations, "location")] = True
    empty = [str(name) for name, mask in zip(regions, masks, strict=True) if not mask.any()]
    if empty:
        raise PerlerInputError(f"expected locations in every region, found none in {few(empty)}")
    return [str(name) for name in regions], masks
