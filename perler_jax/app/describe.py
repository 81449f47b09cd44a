"""What a fit or a file holds, in words: properties by name, as texts ready to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.app.lines import Pairs
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.inputs.alignment import BatchAlignment
from perler_jax.inputs.annotated import layer_names
from perler_jax.inputs.data import SpatialReference
from perler_jax.inputs.frames import name_columns
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.inputs.labels import few
from perler_jax.inputs.places import places_elsewhere
from perler_jax.inputs.readers.anndata_files import H5AD
from perler_jax.inputs.readers.arrays import NPZ, open_npz
from perler_jax.inputs.readers.delimited import TABLE
from perler_jax.inputs.readers.known import find_reader
from perler_jax.inputs.readers.reader import Request
from perler_jax.inputs.readers.spatialdata_zarr import SPATIALDATA, table_names
from perler_jax.inputs.tables import TABLE_SUFFIXES, read_table
from perler_jax.saved_fit import SavedFit, read_saved_fit
from perler_jax.settings import PerlerSettings

__all__ = ["describe_file", "describe_fit", "is_table", "outer_table", "possible_genes", "score_table"]


def describe_fit(fit: SavedFit) -> Pairs:
    """A fit in a dozen lines."""
    folds, defaults = fit.scores["fold"].nunique(), PerlerSettings()
    changed = [
        f"{field.name}={value}"
        for field in dataclasses.fields(defaults)
        if (value := getattr(fit.settings, field.name)) != getattr(defaults, field.name)
    ]
    per_cell = fit.log_likelihood / len(fit.cell_names)
    steps = f"{fit.em_steps} steps, {'converged' if fit.em_converged else 'NOT converged'}"
    weights = f"alpha {fit.alpha:.4g}, beta {fit.beta:.4g}"
    made_by = f"weighted mean ({weights})" if fit.mixture is None else "mixture of experts"
    chosen = f"chosen on {folds} groups of held-out landmarks" if fit.tuned else "as given"
    measure = "AUC" if fit.settings.objective == "roc" else "correlation"
    means = fit.scores[["nested", "held_out", "reconstruction"]].mean()
    pairs = {
        "cells": f"{_few(fit.cell_names)}, {fit.preprocessing.describe()['formula']}",
        **_batches(fit.preprocessing.alignment),
        "locations": f"{_few(fit.reference.locations)}, {_extent(fit.reference.coordinates)}",
        **_sections(fit.reference),
        "landmarks": _few(fit.landmarks) + _gaps(fit.reference.measured_at(fit.landmarks)),
        "settings": ", ".join(changed) or "defaults",
        "metagenes": str(fit.n_metagenes),
        "EM": f"{steps}, log-likelihood {per_cell:.3f} nats per cell",
        "predictor": f"{made_by}, {chosen}",
        **_shares(fit),
    }
    if fit.tuned:
        pairs["nested score"] = f"{means['nested']:.3f} {measure}, landmark unseen by fit and choice"
        if fit.mixture is not None:
            plain = fit.scores["nested_paper"].mean()
            pairs["nested score, paper"] = f"{plain:.3f}, of the plain weighted mean"
        pairs["held-out score"] = f"{means['held_out']:.3f}, landmark unseen by the fit"
    pairs["reconstruction"] = f"{means['reconstruction']:.3f} {measure}, landmark in the fit"
    pairs["seconds"] = f"{sum(fit.seconds.values()):.1f}: " + ", ".join(
        f"{stage.replace('_', '-')} {value:.1f}" for stage, value in fit.seconds.items()
    )
    return pairs


def _batches(alignment: BatchAlignment | None) -> Pairs:
    """Names and sizes of batches, where there are several."""
    if alignment is None:
        return {}
    told = [f"{name} ({count})" for name, count in alignment.describe()["cells"].items()]
    return {"batches": f"{len(told)} ({alignment.key}): {few(told)}"}


def _sections(reference: SpatialReference) -> Pairs:
    """Names and sizes of sections, where there are several."""
    if reference.sections is None:
        return {}
    names, counts = np.unique(reference.sections, return_counts=True)
    told = [f"{name} ({count})" for name, count in zip(names, counts, strict=True)]
    return {"sections": f"{len(names)} ({reference.section_key}): {few(told)}"}


def _shares(fit: SavedFit) -> Pairs:
    """Experts and polishes with a share of a hundredth or more."""
    if fit.mixture is None:
        return {}
    table = fit.mixture.choice.table
    rows = [(kind, name, share) for name, kind, share in table.itertuples() if share >= 0.005]
    return {f"  {kind} {at}": f"{share:.0%} {name}" for at, (kind, name, share) in enumerate(rows, 1)}


def score_table(fit: SavedFit, show: int) -> str:
    """The scores of the best and the worst landmarks, and the mean of all."""
    columns = ["nested", "held_out", "reconstruction"] if fit.tuned else ["reconstruction"]
    measure = "AUC" if fit.settings.objective == "roc" else "correlation"
    return _best_and_worst(fit.scores[columns].rename(columns={"held_out": "held-out"}), show, measure)


def outer_table(scores: pd.DataFrame, show: int, measure: str) -> str:
    """The same of outer cross-validation, beside what the fits said of themselves."""
    return _best_and_worst(scores[["score", "nested"]].rename(columns={"score": "outer"}), show, measure)


def _best_and_worst(scores: pd.DataFrame, show: int, measure: str) -> str:
    ordered = scores.sort_values(scores.columns[0], ascending=False)
    means = ordered.mean().to_frame("mean of all").T
    undefined = int(ordered.isna().any(axis=1).sum())
    lines = [f"{measure} of {len(ordered)} landmarks, best first by {scores.columns[0]}"]
    if len(ordered) > 2 * show:
        lines[0] += f"; {len(ordered) - 2 * show} in the middle left out"
        ordered = pd.concat([ordered.head(show), ordered.tail(show)])
    lines.append(pd.concat([ordered, means]).to_string(float_format="{:.3f}".format))
    if undefined:
        lines.append(f"{undefined} without a score (a constant prediction), not in the mean")
    return "\n".join(lines)


def describe_file(path: Path) -> tuple[Pairs, Sequence[str] | None]:
    """What a file is, and the names of its genes where it is data.

    Raises:
        PerlerFileError: missing, damaged, or of an unknown kind.
    """
    reader = find_reader(path)
    if reader is TABLE:
        table = read_table(path)
        pairs = {"kind": "table", "rows": _few(table.index), "columns": _few(table.columns)}
        return pairs, possible_genes(table)
    if reader is NPZ:
        return _describe_npz(path)
    if reader is SPATIALDATA and len(names := table_names(path)) != 1:
        return {"kind": reader.name, "tables": ", ".join(names) or "none"}, None
    source = reader.read(path, Request(backed="backed" in reader.options)).source
    try:
        pairs = _describe_annotated(source)
        if reader is not H5AD:
            pairs = {"kind": f"{pairs.pop('kind')}, in {reader.name}"} | pairs
        return pairs, list(source.var_names)
    finally:
        if source.isbacked:
            source.file.close()


def is_table(path: Path) -> bool:
    """Whether the name is that of a csv or tsv file."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def possible_genes(table: pd.DataFrame) -> list[str]:
    """Row and column names, without an axis that only numbers its rows or columns: those are never genes."""
    names: list[str] = []
    for axis in (table.columns, table.index):
        labels = axis.astype(str)
        counted = [np.arange(start, start + len(labels)).astype(str) for start in (0, 1)]
        if not any(np.array_equal(labels, count) for count in counted):
            names += list(labels)
    return names


def _describe_npz(path: Path) -> tuple[Pairs, Sequence[str] | None]:
    keys = _npz_keys(path)
    if not keys & {"cells", "locations"}:  # a fit, or the reader says what else
        fit = read_saved_fit(path)
        made = {
            "kind": f"fit by perler_jax {fit.written_by or '(release not kept)'}",
            "intact": "yes, by checksums",
        }
        return made | describe_fit(fit), None
    if "locations" in keys:
        reference = read_reference(path)
        return _describe_reference(reference), list(reference.genes)
    try:
        cells = read_cells(path)
    except PerlerFileError:
        raise
    except PerlerInputError as error:  # e.g. values that do not tell their scale: described all the same
        return {"kind": "cells", "not to be used as it is": str(error)}, None
    pairs = {"kind": "cells", "cells": _few(cells.cells), "genes": _few(cells.genes), "scale": cells.scale}
    return pairs, list(cells.genes)


def _describe_annotated(table: AnnData) -> Pairs:
    rows, genes = _few(table.obs_names), _few(table.var_names)
    if "perler" in table.uns:
        made = table.uns["perler"]
        return {
            "kind": f"reconstruction by perler_jax {made['perler_jax']}",
            "locations": f"{rows}, {_extent(table.obsm.get('spatial'))}",
            "genes": genes,
            "units": str(made["units"]),
            "weights": f"alpha {made['alpha']:.4g}, beta {made['beta']:.4g}",
            "landmarks": str(made["n_landmarks"]),
        } | _offers(table)
    if "spatial" in table.obsm:
        return _describe_map(table, rows, genes) | _offers(table)
    known = {"kind": "cells (or a reference without positions)", "cells": rows, "genes": genes}
    try:
        known["scale"] = as_cells(table).scale
    except PerlerInputError as error:
        known["not to be used as it is"] = str(error)
    return known | _offers(table)


def _offers(table: AnnData) -> Pairs:
    """What else could be taken from an AnnData, and by which option; only what there is."""
    names = [f"{name} ({_example(table.var[name])})" for name in name_columns(table.var)]
    shapes = [f"{key} ({' x '.join(map(str, np.shape(table.obsm[key])))})" for key in table.obsm]
    lying = "" if "spatial" in table.obsm else places_elsewhere(table)
    raw = "" if table.raw is None else f"{_few(table.raw.var_names)} genes: --use-raw"
    names_in_raw = [] if table.raw is None else name_columns(table.raw.var)
    offered = {
        "layers": ", ".join(layer_names(table)),
        "raw": raw + (f", with names in {', '.join(names_in_raw)}" if names_in_raw else ""),
        "obs": ", ".join(map(str, table.obs.columns)),
        "names in var": f"{', '.join(names)}: --gene-key" if names else "",
        "obsm": ", ".join(shapes),
        "positions": lying,
    }
    return {name: text for name, text in offered.items() if text}


def _example(column: pd.Series) -> str:
    return next((str(each) for each in column if not pd.isna(each)), "")


def _describe_map(table: AnnData, rows: str, genes: str) -> Pairs:
    """A file with positions; one that cannot be used as it is is described too, with the reason."""
    try:
        return _describe_reference(as_reference(table))
    except PerlerInputError as error:
        kind = "reference (or cells with positions)"
        return {"kind": kind, "locations": rows, "landmarks": genes, "not to be used as it is": str(error)}


def _describe_reference(reference: SpatialReference) -> Pairs:
    return {
        "kind": "reference (or cells with positions)",
        "locations": f"{_few(reference.locations)}, {_extent(reference.coordinates)}",
        "landmarks": _few(reference.genes),
        "scale": reference.scale + (", only 0 and 1" if reference.is_binary else ""),
    }


def _npz_keys(path: Path) -> set[str]:
    """Names of the arrays; none of a damaged file, which the reader of fits explains."""
    try:
        with open_npz(path) as archive:
            return set(archive.files)
    except Exception:  # zipfile, zlib and NumPy each have their own ways to fail
        return set()


def _few(names: Sequence[Any] | pd.Index | np.ndarray) -> str:
    """How many, and the first ones."""
    shown = ", ".join(map(str, names[:3]))
    return f"{len(names)} ({shown}{', ...' if len(names) > 3 else ''})"


def _gaps(measured: np.ndarray | None) -> str:
    """How much of a map was not measured."""
    if measured is None:
        return ""
    genes, locations = (int((~measured).any(axis=axis).sum()) for axis in (0, 1))
    share = 100 * float((~measured).mean())
    return (
        f"; {genes} of them not measured at all of the locations ({share:.1f} % of the values, {locations} "
        "locations): filled in, not scored"
    )


def _extent(coordinates: Any) -> str:
    if coordinates is None:
        return "no positions"
    spans = " x ".join(f"{span:.3g}" for span in np.ptp(np.asarray(coordinates, np.float64), axis=0))
    return f"{np.shape(coordinates)[1]}D, {spans} units"
