"""The posterior over origins as a value: who is asked, on which map, how sharp; summarised in tiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.inputs.sections import apart
from perler_jax.mixture import MappingParams
from perler_jax.settings import Precision, device_precision
from perler_jax.trust.rows import Blur, Tissue, credible_levels, make_blur
from perler_jax.trust.tissue import Midline, fold

__all__ = ["OriginPosterior", "Tempering"]

_ROW_ELEMENTS = 1_400_000  # of a tile of rows: it stays in cache, as in `streaming.py`


@dataclasses.dataclass(frozen=True)
class Tempering:
    """How much less sure a posterior is than the model says.

    The model takes metagenes for independent and the map for exact, and has chosen its noise where cells fit
    best: its own posterior (temperature 1, spread 0; the paper's) is too sharp.

    Attributes:
        temperature: factor on the variance of the noise; the likelihood of a Gaussian model to the power of
            1 / temperature (the same as weights of alpha = 1 / (2 temperature), beta = 0).
        spread: standard deviation of a cell's place around the location that it looks like, in the unit of
            the coordinates. For maps whose locations are single cells: the neighbour of a cell may be of
            another type.

    Raises:
        PerlerInputError: on a temperature that is not positive, or a negative spread.
    """

    temperature: float = 1.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise PerlerInputError(f"expected a temperature > 0 (1 is the model's), found {self.temperature}")
        if not (math.isfinite(self.spread) and self.spread >= 0):
            raise PerlerInputError(f"expected a spread >= 0 (0 is none), found {self.spread}")

    def apply(self, params: MappingParams) -> MappingParams:
        """The mapping with its noise widened."""
        return dataclasses.replace(params, noise=params.noise * math.sqrt(self.temperature))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OriginPosterior:
    """Everything that the posterior over locations of each cell follows from.

    Attributes:
        params: fitted mapping.
        cell_metagenes: (cells, metagenes) x.
        reference_metagenes: (locations, metagenes) r.
        cells: (cells,) names.
        locations: (locations,) names.
        coordinates: (locations, axes), or None.
        evidence: what else is known of each cell.
        precision: of the work on the device.
        sections: (locations,) name of the section that each lies in; None: they are one.

    Raises:
        PerlerInputError: if shapes do not fit each other.
    """

    params: MappingParams
    cell_metagenes: Float[np.ndarray, "_cells metagenes"]
    reference_metagenes: Float[np.ndarray, "_locations metagenes"]
    cells: Shaped[np.ndarray, " cells"]
    locations: Shaped[np.ndarray, " locations"]
    coordinates: Float[np.ndarray, "located axes"] | None = None
    evidence: CellEvidence | None = None
    precision: Precision = "float32"
    sections: Shaped[np.ndarray, " located"] | None = None

    def __post_init__(self) -> None:
        n_cells, n_locations = len(self.cell_metagenes), len(self.reference_metagenes)
        located = n_locations if self.coordinates is None else len(self.coordinates)
        if (len(self.cells), len(self.locations), located) != (n_cells, n_locations, n_locations):
            raise PerlerInputError(
                f"expected {n_cells} cell names, {n_locations} location names and as many coordinates, found "
                f"{len(self.cells)}, {len(self.locations)} and {located}: one per row of the metagenes"
            )
        if self.evidence is not None:
            known = len(self.evidence.of_cells), len(self.evidence.of_locations)
            if known != (n_cells, n_locations):
                raise PerlerInputError(
                    f"expected evidence of {n_cells} cells at {n_locations} locations, found {known[0]} and "
                    f"{known[1]}"
                )

    def __repr__(self) -> str:
        where = "no coordinates" if self.coordinates is None else f"{self.coordinates.shape[1]}D"
        return f"OriginPosterior({len(self.cells)} cells on {len(self.locations)} locations, {where})"

    @classmethod
    def of_fit(cls, fit: PerlerFit) -> OriginPosterior:
        """That of a fit's cells on its reference."""
        return cls(
            params=fit.em.params,
            cell_metagenes=fit.cell_metagenes,
            reference_metagenes=fit.reference_metagenes,
            cells=fit.cell_names,
            locations=fit.reference.locations,
            coordinates=fit.reference.coordinates,
            evidence=fit.evidence,
            precision=fit.settings.dtype,
            sections=fit.reference.sections,
        )

    @property
    def places(self) -> Float[np.ndarray, "located more"] | None:
        """Coordinates in which sections lie too far apart to be neighbours, see `SpatialReference.places`."""
        return None if self.coordinates is None else apart(self.coordinates, self.sections)

    def take_locations(self, rows: Int[np.ndarray, " chosen"]) -> OriginPosterior:
        """The same cells on a part of the map."""
        params, evidence = self.params, self.evidence
        if params.log_location_weights is not None:
            weights = jnp.asarray(np.asarray(params.log_location_weights)[rows])
            params = dataclasses.replace(params, log_location_weights=weights)
        if evidence is not None:
            evidence = CellEvidence(evidence.of_cells, np.asarray(evidence.of_locations)[rows])
        return dataclasses.replace(
            self,
            params=params,
            reference_metagenes=self.reference_metagenes[rows],
            locations=self.locations[rows],
            coordinates=None if self.coordinates is None else self.coordinates[rows],
            evidence=evidence,
            sections=None if self.sections is None else self.sections[rows],
        )

    def over_tiles(
        self,
        summarise: Callable[..., Any],
        rows: Int[np.ndarray, " chosen"],
        *per_cell: Shaped[np.ndarray, "chosen ..."],
        tempering: Tempering,
        midline: Midline | None = None,
        regions: np.ndarray | None = None,
        shrink: Callable[[Any], Any] | None = None,
        progress: bool = False,
    ) -> Any:
        """Apply a function to tiles of cells, so that only one tile's rows of the posterior exist at a time.

        Args:
            summarise: (params, x, r, evidence, tissue, *per_cell), all of a tile -> pytree of (tile, ...).
            rows: indices of cells, in any order.
            per_cell: what else belongs to each chosen cell.
            tempering: of the posterior.
            midline: where distances fold.
            regions: (regions, locations) masks.
            shrink: what to keep of each tile's pytree of NumPy, called before the next tile is computed.
            progress: show a progress bar.

        Returns:
            The pytree with leaves of NumPy (chosen, ...); with ``shrink``, what it made of each tile, a list.
        """
        count = max(1, math.ceil(len(rows) * len(self.locations) / _ROW_ELEMENTS))
        tile = math.ceil(len(rows) / min(count, len(rows)))
        with device_precision(self.precision):
            params = tempering.apply(self.params)
            reference = jnp.asarray(self.reference_metagenes, self.precision)
            tissue = self._tissue(params, tempering, midline, regions)
            known = None if self.evidence is None else np.asarray(self.evidence.of_locations)
            parts = []
            with tqdm(
                total=len(rows), desc="positions", unit="cell", disable=not progress, leave=False
            ) as bar:
                for start in range(0, len(rows), tile):
                    # The last tile is filled up with its last cell: one shape, one compilation.
                    chosen = np.minimum(np.arange(start, start + tile), len(rows) - 1)
                    evidence = None
                    if self.evidence is not None and known is not None:
                        of_cells = np.asarray(self.evidence.of_cells)[rows[chosen]]
                        evidence = CellEvidence(of_cells, known).astype(self.precision)
                    cells = jnp.asarray(self.cell_metagenes[rows[chosen]], self.precision)
                    extra = [jnp.asarray(each[chosen]) for each in per_cell]
                    found = summarise(params, cells, reference, evidence, tissue, *extra)
                    n = min(tile, len(rows) - start)
                    found = jax.tree.map(lambda leaf, n=n: np.asarray(leaf[:n]), found)
                    parts.append(found if shrink is None else shrink(found))
                    bar.update(n)
        if shrink is not None:
            return parts
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def levels(
        self,
        rows: Int[np.ndarray, " chosen"],
        locations: Int[np.ndarray, " chosen"],
        tempering: Tempering,
    ) -> tuple[Float[np.ndarray, " chosen"], Float[np.ndarray, " chosen"]]:
        """How much is more probable than a given location of each cell, and that location's probability.

        The location lies in the cell's credible region of mass q exactly if the first is below q.
        """
        return self.over_tiles(credible_levels, rows, locations, tempering=tempering)

    def _tissue(
        self,
        params: MappingParams,
        tempering: Tempering,
        midline: Midline | None,
        regions: np.ndarray | None,
    ) -> Tissue:
        masks = np.zeros((0, len(self.locations))) if regions is None else regions
        of_regions = jnp.asarray(masks, self.precision)
        places = self.places
        if places is None:
            if tempering.spread > 0:
                raise PerlerInputError(
                    "expected coordinates of the locations where a cell's place is spread, found none: give "
                    "them with the reference, or Tempering(spread=0)"
                )
            return Tissue(None, of_regions)
        blur: Blur | None = None
        if tempering.spread > 0:
            unfolded = jnp.asarray(places, self.precision)
            blur = make_blur(params, unfolded, jnp.asarray(tempering.spread, self.precision))
        return Tissue(jnp.asarray(fold(places, midline), self.precision), of_regions, blur)
