"""What the commands that compute do with their parsed arguments: read, call the package, write, print.

Outputs are checked before any work is done, so that a long fit does not end on a misspelt folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perler_jax.app.believable import believable_result, flag_counts
from perler_jax.app.demo import run_demo
from perler_jax.app.describe import describe_fit, outer_table
from perler_jax.app.explore import read_result, write_explorer
from perler_jax.app.lines import as_lines
from perler_jax.app.outputs import check_folder, check_output, write_h5ad
from perler_jax.app.reading import fit_with_cells, inputs_of
from perler_jax.app.unreadable import Unreadable
from perler_jax.errors import PerlerFileError, PerlerInputError
from perler_jax.files import load_fit
from perler_jax.inputs.io import atomic_path
from perler_jax.outer import cross_validate_fit
from perler_jax.perler import fit_perler
from perler_jax.saved_fit import read_saved_fit
from perler_jax.scale.devices import is_first_process, join_processes, request_cpu_devices, use_devices
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

__all__ = ["demo", "evaluate", "explore", "fit", "reconstruct", "shows_progress", "simulate"]


def demo(arguments: argparse.Namespace) -> None:
    """Run the whole method end to end and print its scoreboard."""
    check_folder(arguments.out)
    report = run_demo(
        arguments.out, data=arguments.data, progress=shows_progress(arguments), **_simulation(arguments)
    )
    print(report)


def simulate(arguments: argparse.Namespace) -> None:
    """Write cells, reference and truth of a simulated embryo."""
    check_folder(arguments.out)
    embryo = simulate_embryo(**_simulation(arguments))
    for name, rows in (("cells", "cells"), ("reference", "locations"), ("truth", "locations")):
        table, path = getattr(embryo, name), arguments.out / f"{name}.h5ad"
        write_h5ad(table, path)
        print(f"{path}  {table.n_obs} {rows} x {table.n_vars} genes")


def fit(arguments: argparse.Namespace) -> None:
    """Fit, save, reconstruct if asked to, and print a summary."""
    where = None if arguments.coordinates is None else Path(arguments.coordinates)
    inputs = [arguments.cells, arguments.reference, where, arguments.location_weights]
    check_output(arguments.out, ".npz", inputs)
    if arguments.result is not None:
        check_output(arguments.result, ".h5ad", inputs)
    settings = _settings(arguments)
    with _devices(arguments):
        cells, reference, location_weights = inputs_of(arguments)
        progress = shows_progress(arguments) and is_first_process()
        fitted = fit_perler(
            cells,
            reference,
            settings=settings,
            location_weights=location_weights,
            batch_key=arguments.batch_key,
            weights=None if arguments.weights is None else tuple(arguments.weights),
            progress=progress,
        )
        first = is_first_process()  # all compute, one writes
        written = {"written": str(arguments.out)}
        if first:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            fitted.save(arguments.out)
        if arguments.result is not None:
            wanted = {"trust": arguments.trust, "reliability": not arguments.no_reliability}
            result = believable_result(fitted, **wanted, progress=progress)
            if first:
                write_h5ad(result, arguments.result)
            written["and"] = str(arguments.result)
            if flag_counts(result):
                written["genes"] = f"{flag_counts(result)} (column flag of var, with reasons)"
        if first:
            print(as_lines(describe_fit(read_saved_fit(arguments.out)) | written))


def reconstruct(arguments: argparse.Namespace) -> None:
    """Reconstruct genes from a saved fit."""
    check_output(arguments.out, ".h5ad", [arguments.fit, arguments.cells, arguments.genes_file])
    fitted, cells = fit_with_cells(arguments)
    result = believable_result(
        fitted,
        _genes(arguments),
        standardise=arguments.z_score,
        trust=arguments.trust,
        reliability=not arguments.no_reliability,
        cells=cells,
        progress=shows_progress(arguments),
    )
    write_h5ad(result, arguments.out)
    size = f"{result.n_obs} locations x {result.n_vars} genes"
    print(f"{arguments.out}  {size}, {result.uns['perler']['units']}")
    if flag_counts(result):
        print(f"genes  {flag_counts(result)} (column flag of var, with reasons)")


def evaluate(arguments: argparse.Namespace) -> None:
    """Outer cross-validation with the settings and the reference of a saved fit."""
    if arguments.cells is None:
        raise PerlerInputError("expected the file of cells after the fit with --outer; found none; name it")
    if arguments.out is not None:
        check_output(arguments.out, ".csv", [arguments.fit, arguments.cells])
    fitted, cells = fit_with_cells(arguments)
    found = cross_validate_fit(
        fitted,
        cells,
        outer=arguments.outer,
        checkpoint=arguments.checkpoint,
        progress=shows_progress(arguments),
    )
    measure = "AUC" if fitted.settings.objective == "roc" else "correlation"
    print(outer_table(found.scores, arguments.show, measure))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(arguments.out) as temporary:
            found.scores.to_csv(temporary)
        print(f"written  {arguments.out}")


def explore(arguments: argparse.Namespace) -> None:
    """Write the page that shows a result."""
    out = arguments.out or arguments.result.with_suffix(".html")
    check_output(out, ".html", [arguments.result, arguments.fit, arguments.labels, arguments.genes_file])
    with Unreadable() as unreadable:
        result = unreadable.read(read_result, arguments.result)
        fitted = None if arguments.fit is None else unreadable.read(load_fit, arguments.fit)
        labels = None if arguments.labels is None else unreadable.read(read_result, arguments.labels)
        genes = unreadable.read(_genes, arguments)
    report = write_explorer(
        result,
        out,
        fit=fitted,
        labels=labels,
        genes=genes,
        title=arguments.title,
        megabytes=arguments.megabytes,
        mirror=arguments.mirror,
        axes=None if arguments.axes is None else dict(_axis(each) for each in arguments.axes),
        progress=shows_progress(arguments),
    )
    print(f"{out}  {report}")


def _simulation(arguments: argparse.Namespace) -> dict[str, Any]:
    sizes = {f"n_{name}": getattr(arguments, name) for name in ("cells", "locations", "genes", "landmarks")}
    return {"seed": arguments.seed, **sizes}


@contextmanager
def _devices(arguments: argparse.Namespace) -> Iterator[None]:
    """The devices that were asked for; JAX is left alone where none were."""
    several = (arguments.coordinator, arguments.processes, arguments.process_id)
    if arguments.devices is None and several == (None, None, None):
        yield
        return
    if arguments.devices is not None:
        request_cpu_devices(arguments.devices)
    if several != (None, None, None):
        join_processes(*((None, None, None) if arguments.coordinator == "auto" else several))
    with use_devices(arguments.devices):
        yield


def _settings(arguments: argparse.Namespace) -> PerlerSettings:
    """The preset, or the defaults, with what was asked for on top."""
    start = getattr(PerlerSettings, arguments.preset)() if arguments.preset else PerlerSettings()
    given = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(start)}
    return dataclasses.replace(start, **{name: value for name, value in given.items() if value is not None})


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
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        found = f"{', '.join(twice)} repeated" if twice else "none"
        raise PerlerInputError(f"expected names of genes, each once; found {found}")
    return names


def _axis(told: str) -> tuple[str, str]:
    """Name of an axis and of its ends."""
    name, found, ends = told.partition("=")
    if not found:
        raise PerlerInputError(f"expected --axes such as x=anterior:posterior; found {told!r}")
    return name, ends


def shows_progress(arguments: argparse.Namespace) -> bool:
    """Bars are for people: not into files or pipes."""
    return not arguments.quiet and sys.stderr.isatty()
