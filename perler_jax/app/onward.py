"""What can be asked for once there is a fit: labels carried to the tissue, places of cells."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from perler_jax.app.options import add_cells

__all__ = ["add_onward"]

_TRANSFER = """\
Carries labels of the cells to the locations: of categories (cell types, clusters)
the probability of each, the likeliest, its probability and its entropy; of numbers
(a score, an age) the mean and its standard error. How sure it may be is learned on
cells that play locations; what that reached is printed. Writes an h5ad with
locations as rows: obs["transferred_NAME"] and obsm["transferred_NAME"]."""

Command = Callable[..., argparse.ArgumentParser]


def add_onward(command: Command) -> None:
    """Commands that start from a fit.

    Args:
        command: adds one: name, usage, summary, description, examples.
    """
    transfer = command(
        "transfer",
        "FIT CELLS --labels NAME -o LABELS.h5ad",
        "cell types and other labels of the cells, on the tissue",
        _TRANSFER,
        "perler-jax transfer fit.npz cells.h5ad --labels cell_type -o types.h5ad",
        "perler-jax transfer fit.npz cells.csv.gz --labels-table types.csv -o types.h5ad",
    )
    _add_fit_and_cells(transfer)
    which = transfer.add_mutually_exclusive_group(required=True)
    which.add_argument("--labels", metavar="NAME,NAME", help="columns of obs of the cells")
    which.add_argument(
        "--labels-table",
        type=Path,
        metavar="TABLE",
        help="csv or tsv: names of the cells, then columns of labels",
    )
    transfer.add_argument(
        "--kind",
        choices=("auto", "categories", "numbers"),
        default="auto",
        help="what the labels are; numbers of clusters are categories (default: auto, by their type)",
    )
    transfer.add_argument(
        "-o", "--out", type=Path, required=True, metavar="LABELS.h5ad", help="file to write"
    )


def _add_fit_and_cells(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    add_cells(parser, "the cells that were fitted, from the same file")
