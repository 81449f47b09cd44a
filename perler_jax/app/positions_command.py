"""What `perler-jax positions` does: where cells are from, as a table, in the cells, as a sparse mapping."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import anndata as ad
import pandas as pd

from perler_jax.app.commands import shows_progress
from perler_jax.app.outputs import check_output, write_h5ad
from perler_jax.app.reading import fit_with_cells
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.given import same_cells
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.io import atomic_path
from perler_jax.inputs.labels import few
from perler_jax.trust.origins import Tempering
from perler_jax.trust.placement import CellPositions
from perler_jax.trust.positions import cell_positions
from perler_jax.trust.sharpness import choose_tempering, fitting_calibration
from perler_jax.trust.tissue import Midline

__all__ = ["positions"]

_AXES = "xyz"
_MANY = 20_000  # locations beyond which a medoid takes too long
_ENOUGH = 100  # new cells that can say how far landmarks agree


def positions(arguments: argparse.Namespace) -> None:
    """Place the cells, write what was asked for, and say how sure it is."""
    inputs = [arguments.fit, arguments.cells]
    check_output(arguments.out, ".csv", inputs)
    for path in (arguments.result, arguments.mapping):
        if path is not None:
            check_output(path, ".h5ad", inputs)
    if arguments.result is not None and arguments.cells.suffix != ".h5ad":
        raise PerlerInputError(
            f"expected cells in an .h5ad file for --result, which adds to it; found {arguments.cells}; leave "
            "out --result"
        )
    if arguments.top is not None and arguments.mapping is None:
        raise PerlerInputError("expected --mapping FILE with --top; found none; name it, or leave out --top")
    midline = _midline(arguments.midline)
    fitted, cells = fit_with_cells(arguments)
    regions = _regions(fitted, arguments.regions)
    fitted = _with_cells(fitted, cells, new=arguments.new)
    progress = shows_progress(arguments)
    tempering = _tempering(arguments.temperature, fitted, progress)
    found = cell_positions(
        fitted,
        tempering=tempering,
        regions=regions,
        midline=midline,
        medoid=len(fitted.reference.locations) <= _MANY,
        progress=progress,
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(arguments.out) as temporary:
        _with_coordinates(found).to_csv(temporary)
    print(_told(found, len(fitted.reference.locations)))
    print(f"written  {arguments.out}")
    if arguments.result is not None:
        write_h5ad(found.annotate(ad.read_h5ad(arguments.cells)), arguments.result)
        print(f"and      {arguments.result}")
    if arguments.mapping is not None:
        mapped = fitted.mapping(top=arguments.top, tempering=tempering, progress=progress)
        write_h5ad(mapped, arguments.mapping)
        print(f"and      {arguments.mapping}")


def _with_cells(fitted: PerlerFit, cells: CellExpression, *, new: bool) -> PerlerFit:
    """The fit with the cells that it was made of, or put onto new ones."""
    if new:
        return fitted.place(cells)
    same = same_cells(cells, fitted.cell_names, fitted.preprocessing, fitted.given)
    return dataclasses.replace(fitted, cells=same)


def _tempering(temperature: float | str, fitted: PerlerFit, progress: bool) -> Tempering:
    if not isinstance(temperature, str):
        return Tempering(temperature)
    how = fitting_calibration(fitted) if temperature == "auto" else temperature
    if how == "agreement" and len(fitted.cell_names) < _ENOUGH:
        raise PerlerInputError(
            f"expected --temperature NUMBER, as {len(fitted.cell_names)} cells are too few for landmarks to "
            "agree on; found none: give the number that `perler-jax positions` prints for the fitted cells"
        )
    return choose_tempering(fitted, how, progress=progress)


def _regions(fitted: PerlerFit, name: str | None) -> pd.Series | None:
    """One label for each location, from the reference's ``obs``."""
    if name is None:
        return None
    beside = fitted.reference.beside
    columns = [] if beside is None else [str(each) for each in beside.obs.columns]
    if beside is None or name not in columns:
        raise PerlerInputError(
            f"expected a column {name!r} in obs of the reference of the fit; found {few(columns) or 'none'}; "
            "name one of these, or add it to the reference and fit again"
        )
    return pd.Series(beside.obs[name].astype(object).to_numpy(), index=fitted.reference.locations)


def _midline(told: str | None) -> Midline | None:
    if told is None:
        return None
    axis, _, at = told.partition("=")
    try:
        return Midline(_AXES.index(axis), float(at or 0))
    except ValueError as error:
        raise PerlerInputError(f"expected --midline such as x or y=12.5; found {told!r}") from error


def _with_coordinates(found: CellPositions) -> pd.DataFrame:
    """The table with coordinates of mean and likeliest location, first."""
    places: dict[str, Any] = {}
    for name, values in (("mean", found.mean), ("top", found.top)):
        if values is not None:
            places |= {f"{name}_{_AXES[axis]}": values[:, axis] for axis in range(values.shape[1])}
    return pd.DataFrame(places, index=found.table.index).join(found.table)


def _told(found: CellPositions, n_locations: int) -> str:
    """A few lines on how sure the positions are."""
    table = found.table
    lines = [
        f"cells        {len(table)} on {n_locations} locations",
        f"temperature  {found.tempering.temperature:.3g} (1 is the model's own)",
        f"90 % region  {table['n_locations_90'].median():.0f} locations (median)",
    ]
    if found.spacing is not None:
        radius = table["radius_90"].median()
        lines.append(
            f"radius       {radius:.4g} (median), {radius / found.spacing:.1f} spacings of locations"
        )
    return "\n".join(lines)
