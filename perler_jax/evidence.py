"""What else is known of where each cell is from: a dissected half, a sorted region, rough coordinates.

Evidence is a log likelihood e_nk of that knowledge about cell n if it came from location k, of low rank:

    e_nk = f_n . g_k ,    p(x_n, what is known of n) = sum_k pi_k exp(e_nk) p(x_n | k)

so it streams like everything else: one more, narrow, matrix product per tile. Any function of a few features
of the cell times a few of the location can be written so; the builders below are the usual ones.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.labels import few

__all__ = ["CellEvidence", "check_evidence", "coordinate_evidence", "region_evidence"]

_IMPOSSIBLE = -1e4  # exp underflows to zero; minus infinity times a feature of zero would be nan


@pytree
class CellEvidence:
    """Low-rank log likelihood of what is known of each cell.

    Attributes:
        of_cells: (cells, features) f.
        of_locations: (locations, features) g, so that e = f g'.
    """

    of_cells: Float[Array, "*folds cells features"] | Float[np.ndarray, "cells features"]
    of_locations: Float[Array, "*folds locations _features"] | Float[np.ndarray, "locations _features"]

    def __repr__(self) -> str:
        if not hasattr(self.of_cells, "shape"):
            return "CellEvidence(...)"
        cells, features = self.of_cells.shape
        return f"CellEvidence({cells} cells, {len(self.of_locations)} locations, {features} features)"

    def __add__(self, other: CellEvidence) -> CellEvidence:
        """Both, as independent pieces of knowledge."""
        return CellEvidence(
            jnp.concatenate([self.of_cells, other.of_cells], axis=1),
            jnp.concatenate([self.of_locations, other.of_locations], axis=1),
        )

    def astype(self, dtype: Any) -> CellEvidence:
        """On the device in another precision.

        Args:
            dtype: float32 or float64.

        Returns:
            The same evidence, as arrays on the device.
        """
        return CellEvidence(jnp.asarray(self.of_cells, dtype), jnp.asarray(self.of_locations, dtype))

    def sample(self, cells: Any, locations: Any) -> CellEvidence:
        """Of some cells and locations, given as indices.

        Args:
            cells: indices of cells.
            locations: indices of locations.

        Returns:
            Their evidence, in the order of the indices.
        """
        return CellEvidence(self.of_cells[..., cells, :], self.of_locations[..., locations, :])


def region_evidence(
    cell_regions: Any, location_regions: pd.DataFrame, *, error: float = 0.01
) -> CellEvidence:
    """Cells of which the region is known: sorted, dissected, or of a type that lives in one place.

    Args:
        cell_regions: (cells,) name of the region of each cell; None or NaN where it is not known.
        location_regions: (locations, regions) booleans; regions may overlap.
        error: chance that a cell said to be of a region is from outside; 0 forbids it.

    Returns:
        Evidence with one feature per region: nats, ln of the chance of the label.

    Raises:
        PerlerInputError: on unknown or empty regions, or an error outside of [0, 1).
    """
    if not 0 <= error < 1:
        raise PerlerInputError(f"expected an error between 0 and 1, found {error}")
    inside = location_regions.to_numpy(dtype=bool)
    empty = [str(name) for name in location_regions.columns[~inside.any(axis=0)]]
    if empty:
        raise PerlerInputError(f"expected locations in every region, found none in {few(empty)}")
    given = pd.Series(np.asarray(cell_regions, dtype=object))
    known = given.notna().to_numpy()
    codes = location_regions.columns.get_indexer(given[known])
    if (codes < 0).any():
        raise PerlerInputError(
            f"expected regions among {few(list(map(str, location_regions.columns)))}, found "
            f"{few(sorted(set(map(str, given[known][codes < 0]))))}"
        )
    features = np.zeros((len(given), inside.shape[1]))
    features[np.flatnonzero(known), codes] = 1.0
    outside = np.log(error) if error > 0 else _IMPOSSIBLE
    return CellEvidence(features, np.where(inside, np.log1p(-error), outside))


def coordinate_evidence(
    cell_coordinates: Float[np.ndarray, "cells dimensions"],
    location_coordinates: Float[np.ndarray, "locations _dimensions"],
    sd: Any,
) -> CellEvidence:
    """Cells of which rough coordinates are known: ``e_nk = -|c_n - z_k|^2 / (2 sd_n^2)``.

    Args:
        cell_coordinates: in the unit of the locations; NaN in a row where nothing is known.
        location_coordinates: of the locations.
        sd: standard deviation of the coordinates, one number or one per cell, in the same unit.

    Returns:
        Evidence in nats, of as many features as there are dimensions, and two.

    Raises:
        PerlerInputError: on shapes that do not fit, or an sd that is not positive.
    """
    c, z = np.asarray(cell_coordinates, np.float64), np.asarray(location_coordinates, np.float64)
    if c.ndim != 2 or z.ndim != 2 or c.shape[1] != z.shape[1]:
        raise PerlerInputError(
            "expected coordinates of cells and of locations in the same dimensions, found shapes "
            f"{c.shape} and {z.shape}"
        )
    spread = np.broadcast_to(np.asarray(sd, np.float64), len(c))
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise PerlerInputError(f"expected an sd > 0 of the coordinates, found {spread.min():g}")
    centre = z.mean(axis=0)  # distances are small differences of large squares
    c, z = c - centre, z - centre
    known = np.isfinite(c).all(axis=1)
    precision = np.where(known, spread**-2.0, 0.0)[:, None]
    c = np.where(known[:, None], c, 0.0)
    features = [precision * c, -0.5 * precision, -0.5 * precision * np.sum(c**2, axis=1, keepdims=True)]
    squares = np.sum(z**2, axis=1, keepdims=True)
    return CellEvidence(np.hstack(features), np.hstack([z, squares, np.ones_like(squares)]))


def check_evidence(evidence: Any, n_cells: int, n_locations: int) -> CellEvidence | None:
    """Evidence that fits the data and leaves every cell somewhere to be.

    Raises:
        PerlerInputError: on another type or shape, numbers that are not finite, or a cell without any
            possible location.
    """
    if evidence is None:
        return None
    if not isinstance(evidence, CellEvidence):
        raise PerlerInputError(
            f"expected CellEvidence, found {type(evidence).__name__}: make it by region_evidence or "
            "coordinate_evidence, or give CellEvidence(of_cells, of_locations)"
        )
    f, g = (np.asarray(jax.device_get(each)) for each in (evidence.of_cells, evidence.of_locations))
    if f.ndim != 2 or g.ndim != 2 or f.shape[1] != g.shape[1] or (len(f), len(g)) != (n_cells, n_locations):
        raise PerlerInputError(
            f"expected evidence of shapes ({n_cells}, features) and ({n_locations}, features), found "
            f"{f.shape} and {g.shape}: one row per cell and per location, in their order"
        )
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        raise PerlerInputError(
            f"expected finite evidence, found nan or infinity: use {_IMPOSSIBLE:g} for what is impossible"
        )
    for start in range(0, n_cells, 1024):
        best = (f[start : start + 1024] @ g.T).max(axis=1)
        if (best <= 0.5 * _IMPOSSIBLE).any():
            cell = start + int(np.argmin(best))
            raise PerlerInputError(
                f"expected a possible location for every cell, found none for cell {cell}: its evidence is "
                "zero everywhere"
            )
    return evidence
