"""What the commands do that start from a fit and go further than predicting genes."""

from __future__ import annotations

import argparse

import pandas as pd
from anndata import AnnData

from perler_jax.app.advice import verdict
from perler_jax.app.commands import shows_progress
from perler_jax.app.outputs import check_output, write_h5ad
from perler_jax.app.reading import fit_with_cells
from perler_jax.app.unreadable import Unreadable
from perler_jax.errors import PerlerFileError
from perler_jax.files import load_fit
from perler_jax.inputs.tables import read_named

__all__ = ["report", "transfer"]


def transfer(arguments: argparse.Namespace) -> None:
    """Carry labels to the locations, write them, and say how they came out."""
    check_output(arguments.out, ".h5ad", [arguments.fit, arguments.cells, arguments.labels_table])
    with Unreadable() as unreadable:
        labels = unreadable.read(_labels, arguments)
        fitted, cells = fit_with_cells(arguments, unreadable)
    found = fitted.transfer(labels, kind=arguments.kind, cells=cells)
    write_h5ad(found, arguments.out)
    for name in [str(name) for name in (labels.columns if isinstance(labels, pd.DataFrame) else labels)]:
        print(_told(found, name))
    print(f"written  {arguments.out}")


def report(arguments: argparse.Namespace) -> None:
    """Write the page."""
    check_output(arguments.out, ".html", [arguments.fit, arguments.cells])
    if arguments.cells is None:
        fitted, cells = load_fit(arguments.fit), None
    else:
        fitted, cells = fit_with_cells(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    fitted.report(arguments.out, cells=cells, progress=shows_progress(arguments))
    print(verdict(fitted.scores, tuned=fitted.tuning is not None, area=fitted.settings.objective == "roc"))
    print(f"written  {arguments.out}")


def _labels(arguments: argparse.Namespace) -> list[str] | pd.DataFrame:
    """Names of columns, or the table."""
    if arguments.labels is not None:
        return [name.strip() for name in arguments.labels.split(",") if name.strip()]
    path = arguments.labels_table
    if not path.is_file():
        raise PerlerFileError(f"expected a table of labels at {path}; found no such file; check the path")
    separator = "," if ".csv" in path.suffixes else "\t"
    try:
        return read_named(path, separator=separator)
    except (ValueError, OSError, EOFError, IndexError) as error:
        raise PerlerFileError(
            f"expected a table with a heading, names of cells first, at {path}; found otherwise ({error})"
        ) from error


def _told(found: AnnData, name: str) -> str:
    """One line for each label, and one for each of its most frequent categories."""
    column = found.obs[f"transferred_{name}"]
    if f"transferred_{name}" not in found.uns:
        error = found.obs[f"transferred_{name}_standard_error"].median()
        return f"{name}  {column.min():.3g} to {column.max():.3g}, standard error {error:.2g} (median)"
    about = found.uns[f"transferred_{name}"]
    lines = [
        f"{name}  {len(about['categories'])} categories; of cells that played locations "
        f"{100 * about['right']:.0f} % right, calibration error {about['calibration_error']:.3f}"
    ]
    shares = found.obsm[f"transferred_{name}"].mean(axis=0)
    for at in shares.argsort()[::-1][:10]:
        lines.append(f"  {about['categories'][at]!s:<28} {100 * shares[at]:5.1f} % of the tissue")
    return "\n".join(lines)
