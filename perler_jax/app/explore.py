"""A result as one HTML page that opens from disk: any gene, the tissue in 3D, how sure, which cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from anndata import AnnData
from tqdm import tqdm

from perler_jax._typing import Real
from perler_jax.app.explorer.facts import colour_categories, help_text, pack_columns, with_labels
from perler_jax.app.explorer.maps import pack_maps
from perler_jax.app.explorer.page import Blobs, drawing_program, fill_page
from perler_jax.app.explorer.quantities import SCALES, colour_stops, pack_quantities, short_unit
from perler_jax.app.explorer.sides import section_labels, sides_of, views_of
from perler_jax.app.explorer.top_cells import find_top_cells
from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.annotated import layer_names
from perler_jax.inputs.axes import SpatialAxes, as_axes
from perler_jax.inputs.io import atomic_path
from perler_jax.inputs.sections import sections_of_result, side_by_side
from perler_jax.inputs.tables import reading
from perler_jax.plotting.canvas import spacing
from perler_jax.versions import package_version

__all__ = ["ExplorerReport", "read_result", "write_explorer"]

_MEGABYTES = 15
_OF_MAPS = 0.1  # of the page, at most
_OWN_FILES = 1e5  # bytes that the page's own files take, and a little more


@dataclasses.dataclass(frozen=True)
class ExplorerReport:
    """What was written, and how finely.

    Attributes:
        n_genes: that can be chosen.
        n_locations: of the tissue.
        megabytes: size of the page.
        median: correlation over locations between a gene as shown and as it is in the result, in the middle.
        lowest_percent: the correlation that 99 % of the genes exceed.
    """

    n_genes: int
    n_locations: int
    megabytes: float
    median: float
    lowest_percent: float

    def __str__(self) -> str:
        return (
            f"{self.n_genes} genes at {self.n_locations} locations, {self.megabytes:.1f} MB; packed patterns "
            f"correlate with the exact ones by {_cut(self.median)} (99 % of the genes: more than "
            f"{_cut(self.lowest_percent)})"
        )


def read_result(path: Path) -> AnnData:
    """Read what `perler-jax reconstruct` or `fit` wrote.

    Raises:
        PerlerFileError: missing, broken, or no h5ad file.
    """
    with reading(path):
        return anndata.read_h5ad(path)


def write_explorer(
    result: AnnData,
    path: str | PathLike[str],
    *,
    fit: PerlerFit | None = None,
    labels: AnnData | None = None,
    genes: Sequence[str] | None = None,
    title: str = "Tissue explorer",
    megabytes: Real = _MEGABYTES,
    mirror: str | None = None,
    axes: SpatialAxes | Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ExplorerReport:
    """Write one self-contained HTML page that shows a result; it needs no network.

    Args:
        result: locations x genes, as ``PerlerFit.reconstruct`` returns it, with positions in
            ``obsm["spatial"]``; sections lie side by side. Shown where they are there: the layers
            ``standard_error``, ``lower``, ``upper``, and all columns of ``var`` and ``obs``.
        path: the page.
        fit: the fit behind the result; with it a location names the cells that count most there, and the map
            of a landmark stands beside its prediction.
        labels: what `PerlerFit.transfer` made of the same locations: its columns of ``obs`` are shown as
            well.
        genes: names to show; None is all.
        title: of the page.
        megabytes: largest size of the page. Patterns are packed as finely as fits.
        mirror: "x", "y" or "z": the map is one half, and its image with that coordinate turned round is shown
            as well; "none": all of it is given. None: what ``uns["spatial_axes"]`` says, or "none".
        axes: names of the ends of each axis, such as ``{"x": "anterior:posterior"}``; None: as the result
            says.
        progress: show a progress bar.

    Raises:
        PerlerInputError: no positions, values missing, unknown genes, a fit of other locations, no plotly, or
            no room for patterns; nothing is written.
    """
    program = drawing_program()
    own, sections = _coordinates(result), sections_of_result(result)
    coordinates = side_by_side(own, sections)
    solid = coordinates.shape[1] == 3
    frame = _axes(result, mirror, axes) if solid else SpatialAxes()
    if fit is not None:
        _check_fit(fit, result)
    if labels is not None:
        result = with_labels(result, labels)
    if genes is not None:
        result = result[:, _known(genes, result)]
    blobs = Blobs()
    bar = tqdm(total=4, desc="explorer", unit="step", disable=not progress, leave=False)
    places = pack_columns(result.obs, "place", blobs)
    colour_categories(places, result)
    bar.set_postfix_str("the cells of each location")
    page: dict[str, Any] = {
        "title": title,
        "plotly": blobs.add("plotly", program),
        "short_unit": short_unit(result),
        "scales": {name: colour_stops(cmap) for name, cmap in SCALES.items()},
        "tissue": {
            "dimensions": coordinates.shape[1],
            "spacing": spacing(coordinates),
            "mirror": frame.mirrored,
            "views": views_of(frame) if solid else [],
            "sides": sides_of(frame) if solid else [],
            "sections": section_labels(coordinates, sections),
        },
        "first": _first(result),
        "columns": pack_columns(result.var, "gene", blobs),
        "places": places,
        "arrays": {
            "genes": blobs.add("genes", list(map(str, result.var_names))),
            "locations": blobs.add("locations", list(map(str, result.obs_names))),
            "coordinates": blobs.add("coordinates", coordinates.astype(np.float32)),
        }
        | ({} if sections is None else {"own": blobs.add("own", own.astype(np.float32))})
        | ({} if fit is None else _top_cells(fit, blobs)),
    }
    bar.update()
    if fit is not None:
        page["maps"] = pack_maps(fit, result, blobs, _OF_MAPS * megabytes * 1e6)
    bar.update()
    bar.set_postfix_str("patterns of all genes")
    # Base64 makes four characters of three bytes. Per gene and quantity four numbers go beside the patterns.
    beside = 16 * result.n_vars * (1 + len(layer_names(result)))
    quantities, agreement = pack_quantities(
        result, blobs, 0.75 * (megabytes * 1e6 - blobs.size - _OWN_FILES) - beside
    )
    page |= quantities
    bar.update()
    bar.set_postfix_str("writing")
    median, lowest = np.quantile(agreement, [0.5, 0.01]) if len(agreement) else (1.0, 1.0)
    texts = {
        "title": title,
        "summary": f"{result.n_vars} genes at {result.n_obs} locations",
        "version": package_version(),
        "last_view": str(len(views_of(frame))),
        "views": ", ".join(view["name"] for view in views_of(frame)),
        "footer": f"{_origin(result)}Patterns are packed to fit one file: shown and exact ones correlate by "
        f"{_cut(median)} in the middle, by more than {_cut(lowest)} for 99 % of the genes.",
    }
    told = [*page["quantities"], *page["columns"], *page["places"]]
    meanings = {each["label"]: each["meaning"] for each in told if "meaning" in each}
    text = fill_page(page, texts, help_text(meanings), blobs)
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    bar.update()
    bar.close()
    size = Path(path).stat().st_size / 1e6
    return ExplorerReport(result.n_vars, result.n_obs, size, float(median), float(lowest))


def _coordinates(result: AnnData) -> np.ndarray:
    """Positions of a result that can be shown."""
    if "spatial" not in result.obsm:
        raise PerlerInputError(
            "expected positions of the locations in obsm['spatial']; found none; give the fit coordinates"
        )
    coordinates = np.asarray(result.obsm["spatial"], np.float64)
    known = bool(np.isfinite(coordinates).all())
    if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3) or not known:
        raise PerlerInputError(
            f"expected 2 or 3 coordinates of every location in obsm['spatial']; found an array of shape "
            f"{coordinates.shape}{'' if known else ' with values missing'}"
        )
    if result.n_obs < 2 or result.n_vars < 1:
        raise PerlerInputError(
            f"expected two locations and one gene at least; found {result.n_obs} and {result.n_vars}"
        )
    return coordinates


def _axes(result: AnnData, mirror: str | None, axes: SpatialAxes | Mapping[str, Any] | None) -> SpatialAxes:
    """What is said of the axes here, and else by the result."""
    known = as_axes(result.uns.get("spatial_axes"))
    if axes is not None:
        given = as_axes(axes)
        known = dataclasses.replace(given, mirror=given.mirror or known.mirror)
    return (
        known if mirror is None else dataclasses.replace(known, mirror=None if mirror == "none" else mirror)
    )


def _check_fit(fit: PerlerFit, result: AnnData) -> None:
    if list(map(str, fit.reference.locations)) != list(map(str, result.obs_names)):
        raise PerlerInputError(
            f"expected the fit behind the result, with its {result.n_obs} locations in their order; found a "
            f"fit of {len(fit.reference.locations)} locations; give the one that made the result, or none"
        )


def _known(genes: Sequence[str], result: AnnData) -> list[str]:
    unknown = [str(name) for name in genes if name not in result.var_names]
    if unknown or not len(genes):
        found = f"{len(unknown)} unknown ({', '.join(unknown[:3])})" if unknown else "none"
        raise PerlerInputError(f"expected names of genes of the result; found {found}; spell them as it does")
    return list(genes)


def _top_cells(fit: PerlerFit, blobs: Blobs) -> dict[str, dict[str, str]]:
    top = find_top_cells(fit)
    positions = top.cells.astype(np.uint32 if len(fit.cell_names) > 65535 else np.uint16)
    return {
        "cells": blobs.add("cells", list(map(str, fit.cell_names))),
        "top": blobs.add("top", positions),
        "shares": blobs.add("shares", top.shares.astype(np.float32)),
    }


def _first(result: AnnData) -> int:
    """The gene to begin with: the landmark that was predicted best, or simply the first."""
    if "score_nested" not in result.var or not result.var["score_nested"].notna().any():
        return 0
    return int(np.nanargmax(result.var["score_nested"].to_numpy(np.float64)))


def _origin(result: AnnData) -> str:
    made = result.uns.get("perler", {})
    if "perler_jax" not in made:
        return ""
    return f"Made by perler_jax {made['perler_jax']} (alpha {made['alpha']:.3g}, beta {made['beta']:.3g}). "


def _cut(correlation: float) -> str:
    """Three digits, never rounded up."""
    return f"{np.floor(correlation * 1000) / 1000:.3f}"
