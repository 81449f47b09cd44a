"""Where each cell came from, and how sure that is: points, credible regions, entropy, named regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.labels import positions
from perler_jax.settings import device_precision
from perler_jax.trust.credible import RowSummary, summarise_rows
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.placement import CellPositions, check_masses
from perler_jax.trust.sharpness import Sharpness, choose_tempering
from perler_jax.trust.tissue import Midline, fold, location_spacing, region_masks

__all__ = ["CellPositions", "cell_positions"]

SPACINGS = (1, 2, 4)  # distances from the mode, in spacings of neighbouring locations


def cell_positions(
    fit: PerlerFit | OriginPosterior,
    cells: Any = None,
    *,
    tempering: Tempering | Sharpness = "auto",
    masses: Sequence[float] = (0.5, 0.9),
    regions: Any = None,
    midline: Midline | None = None,
    medoid: bool = True,
    n_samples: int = 0,
    seed: int | None = None,
    progress: bool = False,
) -> CellPositions:
    """Where cells came from, and how sure that is; memory does not grow with cells x locations.

    Args:
        fit: a fit, or the arrays of one (`OriginPosterior`).
        cells: names, positions or a mask; None is every cell.
        tempering: how much to distrust the model's own posterior. "auto" chooses by the map
            (`choose_tempering`): "agreement" of disjoint sets of landmarks on a smooth atlas (some refits,
            and the fit must hold its expression), "map" where each location is a single cell.
            ``Tempering()`` is the paper's posterior; cells of known place: `calibrate_on_cells`.
        masses: of the credible regions and radii.
        regions: mapping from a name to locations (names, positions or a mask), or one label per location.
            None: the sections, where there are several.
        midline: for a tissue with mirror-image halves: lengths, means and places are then on one side.
        medoid: search the medoid; its work grows with cells x locations^2, so leave it out beyond some
            20,000 locations.
        n_samples: locations to draw from each cell's posterior.
        seed: of the draws. A cell's draws depend on the seed and the cell, not on which others are chosen.
        progress: show a progress bar.

    Returns:
        `CellPositions`.

    Raises:
        PerlerInputError: on inputs that cannot be used, before anything is computed.

    Note: The paper's posterior has temperature 1. On simulated embryos its 90 % regions hold the true origin
    of 6 or 7 cells in 10; see experiments/trust.
    """
    posterior = fit if isinstance(fit, OriginPosterior) else OriginPosterior.of_fit(fit)
    everything = np.arange(len(posterior.cells))
    rows = everything if cells is None else positions(cells, posterior.cells, "cell")
    if not len(rows):
        raise PerlerInputError("expected at least one cell, found none: check the selection")
    check_masses(masses)
    sections = posterior.sections
    names, masks = region_masks(sections if regions is None else regions, posterior.locations)
    if n_samples < 0 or (n_samples > 0 and seed is None):
        raise PerlerInputError(
            f"expected n_samples >= 0 and a seed where there are any, found n_samples={n_samples}, "
            f"seed={seed}"
        )
    if midline is not None and posterior.coordinates is None:
        raise PerlerInputError("expected coordinates of the locations where a midline is given, found none")
    where = None if posterior.coordinates is None else fold(posterior.coordinates, midline)
    spacing = None if posterior.places is None else location_spacing(posterior.places)
    tempering = choose_tempering(fit, tempering, progress=progress)

    with device_precision(posterior.precision):
        dtype = posterior.precision
        of_masses = jnp.asarray(masses, dtype)
        distances = jnp.asarray(SPACINGS, dtype) * (spacing or 0.0)
        key = jax.random.key(0 if seed is None else seed)

        def summarise(*tile: Any) -> RowSummary:
            return summarise_rows(
                *tile[:5], of_masses, distances, key, tile[5], medoid=medoid, n_samples=n_samples
            )

        # Leaves come back as NumPy, in shapes (cells, ...).
        found: Any = posterior.over_tiles(
            summarise, rows, rows, tempering=tempering, midline=midline, regions=masks, progress=progress
        )
    place = found.place
    return CellPositions(
        table=_table(found, posterior.cells[rows], posterior, masses, names, medoid),
        mean=None if place is None or sections is not None else place.mean,
        top=None if where is None else where[found.top],
        medoid=where[place.medoid] if where is not None and medoid else None,
        samples=found.samples,
        spacing=spacing,
        tempering=tempering,
        midline=midline,
        rows=rows,
        posterior=posterior,
    )


def _table(
    found: Any,
    cells: Shaped[np.ndarray, " cells"],
    posterior: OriginPosterior,
    masses: Sequence[float],
    regions: list[str],
    medoid: bool,
) -> pd.DataFrame:
    percent, locations = [f"{100 * mass:.6g}" for mass in masses], posterior.locations
    columns: dict[str, Any] = {
        "top_location": locations[found.top],
        "top_probability": found.top_probability,
        "entropy": found.entropy,
        "effective_locations": np.exp(found.entropy),
    }
    columns |= {f"n_locations_{q}": found.n_locations[:, i] for i, q in enumerate(percent)}
    if posterior.sections is not None:
        columns["top_section"] = posterior.sections[found.top]
    if found.place is not None:
        columns |= {f"radius_{q}": _radii(found, posterior)[:, i] for i, q in enumerate(percent)}
        for i, number in enumerate(SPACINGS):
            columns[f"within_{number}_spacing{'s' * (number > 1)}"] = found.place.within[:, i]
        if medoid:
            columns["medoid_location"] = locations[found.place.medoid]
    columns |= {f"probability_{name}": found.regions[:, i] for i, name in enumerate(regions)}
    return pd.DataFrame(columns, index=pd.Index(cells.astype(str), name="cell"))


def _radii(found: Any, posterior: OriginPosterior) -> np.ndarray:
    """Radii around the mode; infinite where other sections are needed to gather the mass."""
    radii = np.array(found.place.radius)
    if posterior.sections is not None and posterior.places is not None:
        radii[radii > np.diff(np.unique(posterior.places[:, -1])).min() / 2] = np.inf
    return radii
