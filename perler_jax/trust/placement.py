"""Where cells came from, as a value: a table, places in space, and more that can be asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.annotated import layer_names
from perler_jax.inputs.labels import few, positions
from perler_jax.trust.credible import credible_masks
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.tissue import Midline, fold, nearest_locations

__all__ = ["CellPositions", "check_masses"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CellPositions:
    """Where cells came from. Lengths are in the unit of the coordinates, on the folded side of a midline.

    Attributes:
        table: one row per cell: ``top_location`` (the mode) and ``top_probability``; ``entropy`` in nats and
            ``effective_locations``, its exponential; for every mass q, ``n_locations_q`` of the smallest
            region that holds it and ``radius_q``, how far from the mode one must go to gather it;
            ``within_1_spacing``, ``within_2_spacings``, ``within_4_spacings``, the mass that near the mode;
            ``medoid_location``, the location with the smallest expected distance to the origin;
            ``probability_<name>`` of every region. Without coordinates nothing that is a length. With several
            sections also ``top_section``; a radius is infinite where its mass lies in more than one.
        mean: (cells, axes) posterior mean of the coordinates; None without them, or with several sections.
        top: (cells, axes) of the top location, likewise.
        medoid: (cells, axes) likewise; None also where it was not asked for.
        samples: (cells, samples) indices of locations drawn from the posterior.
        spacing: of neighbouring locations; None without coordinates.
        tempering: of the posterior.
        midline: where the coordinates are folded.
        rows: (cells,) index of each cell in the posterior.
        posterior: that all this was computed from.
    """

    table: pd.DataFrame
    mean: Float[np.ndarray, "cells axes"] | None
    top: Float[np.ndarray, "cells axes"] | None
    medoid: Float[np.ndarray, "cells axes"] | None
    samples: Int[np.ndarray, "cells samples"]
    spacing: float | None
    tempering: Tempering
    midline: Midline | None
    rows: Int[np.ndarray, " cells"]
    posterior: OriginPosterior

    def __repr__(self) -> str:
        typical = self.table["effective_locations"].median()
        return (
            f"CellPositions({len(self.table)} cells on {len(self.posterior.locations)} locations, effective "
            f"locations {typical:.3g} (median), {self.tempering})"
        )

    def credible_levels(self, truth: Any) -> Float[np.ndarray, " cells"]:
        """Mass of the smallest credible region that just leaves out the given location of each cell.

        If the posterior is honest these levels are uniform between 0 and 1: that is the test of it.

        Args:
            truth: one location per cell (names or positions), or coordinates (cells, axes), each of which
                stands for its nearest location.

        Returns:
            (cells,) between 0 and 1.

        Raises:
            PerlerInputError: on a wrong number, unknown names or coordinates of another space.
        """
        return self.posterior.levels(self.rows, self._as_locations(truth), self.tempering)[0]

    def contains(self, truth: Any, mass: float = 0.9) -> Bool[np.ndarray, " cells"]:
        """Whether each cell's credible region of this mass holds the given location (`credible_levels`).

        Args:
            truth: as of `credible_levels`.
            mass: of the region, between 0 and 1.

        Returns:
            (cells,) True where the region holds it.
        """
        check_masses((mass,))
        return self.credible_levels(truth) < mass

    def region(self, cell: Any, mass: float = 0.9) -> Bool[np.ndarray, " locations"]:
        """Mask of the locations in one cell's credible region.

        Args:
            cell: name or position.
            mass: of the region, between 0 and 1.

        Returns:
            (locations,) True inside; the smallest set that holds the mass.
        """
        check_masses((mass,))
        row = positions([cell], self.table.index.to_numpy(), "cell")
        masses = np.array([mass], self.posterior.precision)
        of_row = self.posterior.over_tiles(credible_masks, self.rows[row], masses, tempering=self.tempering)
        return of_row[0]

    def sampled_coordinates(self) -> Float[np.ndarray, "cells samples axes"]:
        """Coordinates of the sampled locations, on the folded side.

        Returns:
            (cells, samples, axes), in the unit of the coordinates.

        Raises:
            PerlerInputError: without coordinates.
        """
        if self.posterior.coordinates is None:
            raise PerlerInputError("expected coordinates of the locations, found none: see ``samples``")
        return fold(self.posterior.coordinates, self.midline)[self.samples]

    def annotate(self, cells: AnnData) -> AnnData:
        """The user's cells with their positions; expression is shared, the input stays as it is.

        Args:
            cells: holds every cell of the table; what other cells lack is NaN.

        Returns:
            AnnData with ``obs["origin_<column of the table>"]``, ``obsm["spatial_mean"]``,
            ``obsm["spatial_top"]``, ``obsm["spatial_medoid"]``, ``obsm["spatial_samples"]`` (cells, samples x
            axes: one sample after the other) and ``uns["positions"]``.

        Raises:
            PerlerInputError: if cells of the table are missing.
        """
        names = cells.obs_names
        if not np.isin(self.table.index, names).all():
            missing = self.table.index[~np.isin(self.table.index, names)]
            raise PerlerInputError(
                f"expected the {len(self.table)} cells of the table, found no {few(missing)}: names must "
                "agree exactly"
            )
        found = AnnData(
            cells.X,
            obs=cells.obs.join(self.table.add_prefix("origin_")),
            var=cells.var,
            uns=dict(cells.uns),
            obsm=dict(cells.obsm),
            varm=dict(cells.varm),
            layers={name: cells.layers[name] for name in layer_names(cells)},  # X is given above
            obsp=dict(cells.obsp),
            varp=dict(cells.varp),
            raw=cells.raw,
        )
        at = names.get_indexer(self.table.index)
        samples = None if self.top is None or not self.samples.size else self.sampled_coordinates()
        flat = None if samples is None else samples.reshape(len(samples), -1)
        places = {"mean": self.mean, "top": self.top, "medoid": self.medoid, "samples": flat}
        for name, values in places.items():
            if values is not None:
                full = np.full((len(names), values.shape[1]), np.nan, values.dtype)
                full[at] = values
                found.obsm[f"spatial_{name}"] = full
        found.uns["positions"] = self.describe()
        return found

    def describe(self) -> dict[str, Any]:
        """Plain values that say what the numbers mean.

        Returns:
            Tempering, spacing and midline: fit for ``uns`` and JSON.
        """
        notes: dict[str, Any] = dataclasses.asdict(self.tempering)
        if self.spacing is not None:
            notes["spacing"] = self.spacing
        if self.midline is not None:
            notes["midline"] = dataclasses.asdict(self.midline)
        return notes

    def _as_locations(self, truth: Any) -> Int[np.ndarray, " cells"]:
        given = np.asarray(truth)
        if given.ndim == 2 and self.posterior.sections is not None:
            raise PerlerInputError(
                "expected names of locations, as coordinates may be those of several sections; found "
                f"coordinates of shape {given.shape}; name the locations"
            )
        if given.ndim == 2 and self.posterior.coordinates is not None:
            places = fold(given.astype(np.float64), self.midline)
            given = nearest_locations(places, fold(self.posterior.coordinates, self.midline))
        if given.shape != (len(self.rows),):
            raise PerlerInputError(
                f"expected a location for each of {len(self.rows)} cells, or coordinates (cells, axes) where "
                f"the reference has some; found shape {given.shape}"
            )
        return positions(given, self.posterior.locations, "location")


def check_masses(masses: Sequence[float]) -> None:
    """Refuse what is no mass of a credible region."""
    values = np.asarray(masses, np.float64)
    if values.ndim != 1 or not values.size or not ((values > 0) & (values < 1)).all():
        raise PerlerInputError(
            f"expected masses of credible regions between 0 and 1 such as (0.5, 0.9), found {masses}"
        )
