"""What can be asked for once there is a fit: labels carried to the tissue, places of cells."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from perler_jax.app.options import add_cells, at_least

__all__ = ["add_onward"]

_TRANSFER = """\
Carries labels of the cells to the locations: of categories (cell types, clusters)
the probability of each, the likeliest, its probability and its entropy; of numbers
(a score, an age) the mean and its standard error. How sure it may be is learned on
cells that play locations; what that reached is printed. Writes an h5ad with
locations as rows: obs["transferred_NAME"] and obsm["transferred_NAME"]."""

_POSITIONS = """\
Says where each cell is from: the likeliest location, the mean of the coordinates,
the number of locations in, and the radius of, the regions that hold it with 50 and
90 % probability, the medoid, and the probability of named regions. The model's own
posterior is too sure; by default it is made duller until disjoint sets of landmarks
agree as they should. With --new, cells that the fit has not seen are put on its map
with its parameters: the same landmarks on the same scale."""

_REPORT = """\
Writes one HTML page on a fit: what was read, how well landmarks predict one another
with a picture, what predicts, how many genes to believe and why, what to do next,
and versions. With CELLS it judges every gene, which takes a minute; without them it
takes seconds."""

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
    _add_positions(command)
    _add_report(command)


def _add_positions(command: Command) -> None:
    positions = command(
        "positions",
        "FIT CELLS -o TABLE.csv",
        "where cells are from; also cells that the fit has not seen",
        _POSITIONS,
        "perler-jax positions fit.npz cells.h5ad -o positions.csv --result cells_placed.h5ad",
        "perler-jax positions fit.npz other.h5ad --new --temperature 2.1 -o positions.csv",
        "perler-jax positions fit.npz cells.h5ad --regions layer -o positions.csv",
    )
    _add_fit_and_cells(positions, "the cells that were fitted, from the same file, or others with --new")
    positions.add_argument(
        "-o", "--out", type=Path, required=True, metavar="TABLE.csv", help="table to write, a cell a row"
    )
    positions.add_argument(
        "--new", action="store_true", help="CELLS are others than those of the fit: put them on its map"
    )
    positions.add_argument(
        "--result",
        type=Path,
        metavar="CELLS.h5ad",
        help="also write the cells (CELLS must be .h5ad) with all this in obs and obsm",
    )
    positions.add_argument(
        "--mapping",
        type=Path,
        metavar="MAPPING.h5ad",
        help="also write the probabilities, cells x locations, sparse",
    )
    positions.add_argument(
        "--top",
        type=at_least(1),
        metavar="N",
        help="of the mapping, keep at most N locations of each cell (default: what holds 95 %%)",
    )
    positions.add_argument(
        "--temperature",
        type=_temperature,
        default="auto",
        metavar="NUMBER",
        help="how much less sure than the model's the probabilities are; 1 is the model's (default: auto, "
        "which takes what fits the map: agreement of disjoint sets of landmarks, or map, its own cells)",
    )
    positions.add_argument(
        "--regions", metavar="NAME", help="column of obs of the reference: the probability of each value"
    )
    positions.add_argument(
        "--midline",
        metavar="AXIS[=AT]",
        help="the tissue has mirror-image halves on both sides of this plane, such as x or x=0",
    )


def _add_report(command: Command) -> None:
    report = command(
        "report",
        "FIT [CELLS] -o REPORT.html",
        "one page on a fit: scores, what to believe, what to do next",
        _REPORT,
        "perler-jax report fit.npz cells.h5ad -o report.html",
    )
    report.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    add_cells(report, "the cells that were fitted, from the same file", optional=True)
    report.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT.html", help="file to write")


def _temperature(text: str) -> float | str:
    return text if text in ("auto", "agreement", "map") else float(text)


def _add_fit_and_cells(
    parser: argparse.ArgumentParser, cells: str = "the cells that were fitted, from the same file"
) -> None:
    parser.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    add_cells(parser, cells)
