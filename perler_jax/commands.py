"""What each command does with its parsed arguments: read, call the package, write whole files, print.

Outputs are checked before any work is done, so that a long fit does not end on a misspelt folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import jax
import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.data import CellExpression, SpatialReference
from perler_jax.demo import run_demo, write_h5ad
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.files import describe_file, load_fit, save_fit
from perler_jax.fit import PerlerFit
from perler_jax.io import atomic_path, read_cells, read_reference
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulate import simulate_embryo
from perler_jax.tables import TABLE_SUFFIXES, read_table

__all__ = ["demo", "evaluate", "fit", "info", "reconstruct", "simulate"]


def demo(arguments: argparse.Namespace) -> None:
    """Run the whole method end to end and print its scoreboard."""
    _check_folder(arguments.out)
    report = run_demo(
        arguments.out,
        data=arguments.data,
        seed=arguments.seed,
        n_cells=arguments.cells,
        n_locations=arguments.locations,
        n_genes=arguments.genes,
        n_landmarks=arguments.landmarks,
        progress=_progress(arguments),
    )
    print(report)


def simulate(arguments: argparse.Namespace) -> None:
    """Write cells, reference and truth of a simulated embryo."""
    _check_folder(arguments.out)
    embryo = simulate_embryo(
        seed=arguments.seed,
        n_cells=arguments.cells,
        n_locations=arguments.locations,
        n_genes=arguments.genes,
        n_landmarks=arguments.landmarks,
    )
    for name in ("cells", "reference", "truth"):
        table = getattr(embryo, name)
        path = write_h5ad(table, arguments.out / f"{name}.h5ad")
        print(f"{path}  {table.n_obs} {'cells' if name == 'cells' else 'locations'} x {table.n_vars} genes")


def fit(arguments: argparse.Namespace) -> None:
    """Fit, save, reconstruct if asked to, and print a summary."""
    inputs = [arguments.cells, arguments.reference, arguments.coordinates, arguments.location_weights]
    outputs = [_check_output(arguments.out, ".npz", inputs)]
    if arguments.result is not None:
        outputs.append(_check_output(arguments.result, ".h5ad", inputs))
    settings = _settings(arguments)
    reference = read_reference(
        arguments.reference,
        coordinates=arguments.coordinates,
        landmarks=_gene_names(arguments.cells) if _is_table(arguments.reference) else None,
        scale=arguments.reference_scale,
    )
    cells = _cells(arguments, reference.genes)
    weights = arguments.location_weights
    result = fit_perler(
        cells,
        reference,
        settings=settings,
        location_weights=None if weights is None else _location_weights(weights, reference.locations),
        weights=None if arguments.weights is None else tuple(arguments.weights),
        progress=_progress(arguments),
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_fit(result, arguments.out)
    if arguments.result is not None:
        write_h5ad(result.reconstruct(progress=_progress(arguments)), arguments.result)
    _print_pairs(_summary(result, cells, reference) | {"written": ", ".join(map(str, outputs))})


def reconstruct(arguments: argparse.Namespace) -> None:
    """Reconstruct genes from a saved fit."""
    _check_output(arguments.out, ".h5ad", [arguments.fit, arguments.cells, arguments.genes_file])
    fitted = load_fit(arguments.fit)
    result = fitted.reconstruct(
        _genes(arguments),
        standardise=arguments.z_score,
        cells=_cells(arguments, fitted.landmarks),
        progress=_progress(arguments),
    )
    write_h5ad(result, arguments.out)
    print(
        f"{arguments.out}  {result.n_obs} locations x {result.n_vars} genes, {result.uns['perler']['units']}"
    )


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the scores of a fit, and write them if asked to."""
    if arguments.out is not None:
        _check_output(arguments.out, ".csv", [arguments.fit])
    if arguments.show < 1:
        raise PerlerInputError(f"expected --show of at least 1; found {arguments.show}")
    fitted = load_fit(arguments.fit)
    scores, by = fitted.scores, "nested" if fitted.tuning is not None else "reconstruction"
    columns = ["nested", "held_out", "reconstruction"] if fitted.tuning is not None else ["reconstruction"]
    ordered = scores[columns].sort_values(by, ascending=False, na_position="last")
    print(f"{_measure(fitted.settings)} of {len(scores)} landmarks, best first by {by}")
    if len(ordered) > 2 * arguments.show:
        ordered = ordered.iloc[[*range(arguments.show), *range(-arguments.show, 0)]]
    means = scores[columns].mean().to_frame("mean of all").T
    lines = (
        pd.concat([ordered, means])
        .rename(columns={"held_out": "held-out"})
        .to_string(float_format="{:.3f}".format)
    )
    print(lines)
    if (undefined := int(scores[columns].isna().any(axis=1).sum())) > 0:
        print(
            f"{undefined} landmarks have an undefined score (a constant prediction) and are not in the mean"
        )
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(arguments.out) as temporary:
            scores.to_csv(temporary)
        print(f"written: {arguments.out}")


def info(arguments: argparse.Namespace) -> None:
    """Print what files hold, and what two of them share."""
    names = []
    for path in arguments.files:
        pairs, genes = _describe(path)
        names += [] if genes is None else [set(genes)]
        print(path)
        _print_pairs(pairs, indent="  ")
    if len(names) == 2:
        shared = sorted(names[0] & names[1])
        some = f": {', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}" if shared else ""
        print(f"gene names in both: {len(shared)}{some}")


def _describe(path: Path) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Properties of a file as text, and the names of its genes where it is data."""
    if not path.exists():
        raise PerlerFileError(f"expected a file at {path}; found none; check the path")
    if path.suffix == ".npz" and _has_header(path):
        found = describe_file(path)
        changed = dataclasses.asdict(PerlerSettings())
        settings = {name: value for name, value in found.pop("settings").items() if value is not None}
        chosen = [f"{name}={value}" for name, value in settings.items() if changed.get(name) != value]
        found["settings"] = ", ".join(chosen) or "defaults"
        found["seconds"] = _seconds(found.pop("seconds"))
        return {name.replace("_", " "): _plain(value) for name, value in found.items()}, None
    if path.suffix == ".h5ad":
        return _describe_h5ad(path)
    if _is_table(path):
        table = read_table(path)
        pairs = {"kind": "table", "rows": _few(table.index), "columns": _few(table.columns)}
        return pairs, [*map(str, table.columns), *map(str, table.index)]
    cells = read_cells(path) if path.is_dir() or not _has_locations(path) else None
    if cells is not None:
        pairs = {
            "kind": "cells",
            "cells": _few(cells.cells),
            "genes": _few(cells.genes),
            "scale": cells.scale,
        }
        return pairs, list(cells.genes)
    reference = read_reference(path)
    return _describe_reference(reference), list(reference.genes)


def _describe_h5ad(path: Path) -> tuple[dict[str, Any], Sequence[str]]:
    where = _h5ad(path)
    try:
        names = list(where.var_names)
        record = where.uns.get("perler")
        spatial = where.obsm.get("spatial")
        layers = {"layers": ", ".join(where.layers)} if len(where.layers) else {}
        columns = {"obs": ", ".join(where.obs.columns)} if len(where.obs.columns) else {}
        rows, genes = _few(where.obs_names), _few(where.var_names)
    finally:
        where.file.close()
    if record is not None:
        pairs = {"kind": "reconstruction", "locations": rows, "genes": genes, "units": record["units"]}
        made = {
            key: _plain(record[key]) for key in ("perler_jax", "alpha", "beta", "n_landmarks", "n_metagenes")
        }
        return pairs | {"positions": _extent(spatial)} | {
            k.replace("_", " "): v for k, v in made.items()
        }, names
    if spatial is not None:
        return _describe_reference(read_reference(path)) | layers | columns, names
    cells = read_cells(path, backed=True)
    kind = {"kind": "cells (or a reference without positions)"}
    return kind | {"cells": rows, "genes": genes, "scale": cells.scale} | layers | columns, names


def _describe_reference(reference: SpatialReference) -> dict[str, Any]:
    return {
        "kind": "reference (or cells with positions)",
        "locations": _few(reference.locations),
        "landmarks": _few(reference.genes),
        "scale": reference.scale + (", only 0 and 1" if reference.is_binary else ""),
        "positions": _extent(reference.coordinates),
    }


def _summary(result: PerlerFit, cells: CellExpression, reference: SpatialReference) -> dict[str, str]:
    """A fit in a few words."""
    per_cell = result.em.log_likelihood / len(result.cell_names)
    state = "converged" if bool(result.em.converged) else "NOT converged"
    folds = result.scores["fold"].nunique()
    alpha, beta = float(result.weights.alpha[0]), float(result.weights.beta[0])
    tuned = "as given" if result.tuning is None else f"tuned on {folds} held-out groups of landmarks"
    pairs = {
        "cells": f"{cells.n_cells}, {cells.scale}",
        "locations": f"{reference.n_locations}, {reference.scale}",
        "landmarks": f"{len(result.landmarks)} shared, of {len(reference.genes)} in the reference and "
        f"{cells.n_genes} genes in the cells",
        "metagenes": str(result.cell_metagenes.shape[1]),
        "EM": f"{int(result.em.n_steps)} steps, {state}, log-likelihood {per_cell:.3f} nats per cell",
        "weights": f"alpha {alpha:.4g}, beta {beta:.4g}, {tuned}",
    }
    means = result.scores[["nested", "held_out", "reconstruction"]].mean()
    measure = f"mean {_measure(result.settings)}"
    if result.tuning is not None:
        pairs["nested score"] = (
            f"{means['nested']:.3f}, {measure}, landmark unseen by fit and tuning (report this)"
        )
        pairs["held-out score"] = f"{means['held_out']:.3f}, landmark unseen by the fit"
    pairs["reconstruction"] = f"{means['reconstruction']:.3f}, landmark in the fit"
    pairs["seconds"] = _seconds(result.seconds)
    pairs["computed on"] = f"{jax.devices()[0].device_kind}, {result.settings.dtype}"
    return pairs


def _settings(arguments: argparse.Namespace) -> PerlerSettings:
    """The preset, or the defaults, with what was asked for on top."""
    start = PerlerSettings.released() if arguments.preset == "released" else PerlerSettings()
    names = [field.name for field in dataclasses.fields(PerlerSettings)]
    given = {name: getattr(arguments, name, None) for name in names}
    if arguments.folds is not None and arguments.folds < 2:
        raise PerlerInputError(f"expected --folds of at least 2; found {arguments.folds}")
    return dataclasses.replace(start, **{name: value for name, value in given.items() if value is not None})


def _cells(arguments: argparse.Namespace, landmarks: np.ndarray) -> CellExpression:
    return read_cells(
        arguments.cells,
        landmarks=landmarks,
        layer=arguments.layer,
        scale=arguments.cells_scale,
        backed=arguments.backed,
    )


def _gene_names(cells: Path) -> list[str] | None:
    """Names that may be genes in a file of cells: they tell which way round a table of the reference lies."""
    if not cells.exists() or cells.is_dir():  # a missing file is reported by its reader
        return None
    if _is_table(cells):
        table = read_table(cells)
        return [*map(str, table.columns), *map(str, table.index)]
    if cells.suffix == ".h5ad":
        opened = _h5ad(cells)
        try:
            return list(opened.var_names)
        finally:
            opened.file.close()
    return list(read_cells(cells).genes)


def _genes(arguments: argparse.Namespace) -> list[str] | None:
    """Names that were asked for; None is all."""
    if arguments.genes is not None:
        names = arguments.genes.split(",")
    elif arguments.genes_file is not None:
        try:
            names = arguments.genes_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PerlerFileError(
                f"expected a text file of gene names at {arguments.genes_file}; found otherwise ({error})"
            ) from error
    else:
        return None
    names = [name.strip() for name in names if name.strip()]
    if not names or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PerlerInputError(
            f"expected names of genes, each once; found {'none' if not names else ', '.join(twice) + ' twice'}"
        )
    return names


def _location_weights(path: Path, locations: np.ndarray) -> np.ndarray:
    """One number per location, by name."""
    table = read_table(path) if path.exists() else None
    if table is None:
        raise PerlerFileError(f"expected a file at {path}; found none; check the path")
    table.index = table.index.astype(str)
    numbers = table.select_dtypes("number")
    missing = [name for name in map(str, locations) if name not in table.index]
    if numbers.shape[1] != 1 or missing or not table.index.is_unique:
        raise PerlerInputError(
            f"expected a header, the name of each location once and one column of numbers in {path}; found "
            f"{numbers.shape[1]} columns of numbers and no row for {len(missing)} of {len(locations)} "
            f"locations ({', '.join(missing[:3]) or 'but repeated names'}); name the rows as the reference does"
        )
    return numbers.iloc[:, 0].loc[list(map(str, locations))].to_numpy(np.float64)


def _check_output(path: Path, suffix: str, inputs: Sequence[Path | None]) -> Path:
    """Refuse an output that could not be written, or would replace an input."""
    if path.suffix != suffix:
        raise PerlerFileError(f"expected an output that ends in {suffix}; found {path}; add the ending")
    if path.is_dir():
        raise PerlerFileError(f"expected a file name to write to; found the folder {path}; add a file name")
    if any(
        source is not None and source.exists() and path.resolve() == source.resolve() for source in inputs
    ):
        raise PerlerFileError(
            f"expected an output beside the inputs; found {path}, an input; choose another name"
        )
    _check_folder(path.parent)
    return path


def _check_folder(folder: Path) -> None:
    """Refuse a folder that neither exists nor could be made; nothing is made yet."""
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = "a folder that may not be written to" if nearest.is_dir() else "a file of that name"
        raise PerlerFileError(f"expected a folder to write to at {folder}; found {what}, {nearest}")


def _h5ad(path: Path) -> AnnData:
    try:
        return anndata.read_h5ad(path, backed="r")
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PerlerFileError(
            f"expected a complete h5ad file at {path}; found otherwise ({reason})"
        ) from error


def _has_header(path: Path) -> bool:
    """Whether an npz looks like a fit; a damaged one does, so that the reader of fits explains it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "genes" not in archive.files
    except Exception:  # zipfile, zlib and NumPy each have their own ways to fail
        return True


def _has_locations(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as archive:
        return "locations" in archive.files


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(TABLE_SUFFIXES)


def _progress(arguments: argparse.Namespace) -> bool:
    """Bars are for people: not into files or pipes."""
    return not arguments.quiet and sys.stderr.isatty()


def _measure(settings: PerlerSettings) -> str:
    return "AUC" if settings.objective == "roc" else "correlation"


def _few(names: Sequence[Any] | pd.Index | np.ndarray) -> str:
    """How many, and the first ones."""
    shown = ", ".join(str(name) for name in names[:3])
    return f"{len(names)} ({shown}{', ...' if len(names) > 3 else ''})"


def _extent(coordinates: Any) -> str:
    if coordinates is None:
        return "none"
    spans = " x ".join(f"{span:.4g}" for span in np.ptp(np.asarray(coordinates, np.float64), axis=0))
    return f"{np.shape(coordinates)[1]}D, {spans} units wide"


def _seconds(seconds: dict[str, float]) -> str:
    stages = ", ".join(f"{name.replace('_', '-')} {value:.1f}" for name, value in seconds.items())
    return f"{sum(seconds.values()):.1f} ({stages})"


def _plain(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "not scored" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _print_pairs(pairs: dict[str, Any], indent: str = "") -> None:
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{indent}{name:<{width}}  {value}")
