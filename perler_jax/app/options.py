"""Groups of command-line options: those that commands share, and the many of `fit`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from perler_jax.choices import (
    Missing,
    NamedCovariance,
    Noise,
    Normalisation,
    Objective,
    Precision,
    Reduction,
    ReferenceNormalisation,
    Scale,
    Search,
)
from perler_jax.settings import PerlerSettings

__all__ = ["add_belief", "add_cells", "add_devices", "add_fit", "add_outer", "add_simulation", "at_least"]


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Arguments of `fit`; those named like a field of `PerlerSettings` set it, and None leaves it alone."""
    add_cells(
        parser,
        "dissociated cells: .h5ad, .zarr (AnnData or SpatialData), 10x .h5 or folder, .npz, or a table "
        "(.csv, .tsv, .txt, also .gz; either way round); raw counts are best",
    )
    parser.add_argument(
        "reference",
        type=Path,
        metavar="REFERENCE",
        help="landmarks at known locations: the same, or a Space Ranger or Xenium folder; positions are "
        "those in obsm['spatial']",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FIT.npz", help="the fit, to write")
    parser.add_argument(
        "--result", type=Path, metavar="RESULT.h5ad", help="also write the patterns of all genes"
    )
    add_belief(parser, "with --result")
    inputs = parser.add_argument_group("the reference")
    inputs.add_argument(
        "--coordinates",
        metavar="WHERE",
        help="positions of the locations, where they are not in obsm['spatial']: a table with 2 or 3 columns "
        "and a header (matched by name if its first column holds names, else in order), or where they lie in "
        "REFERENCE: a key of obsm (X_spatial), or columns of obs or of the table (x,y or x,y,z)",
    )
    inputs.add_argument(
        "--section-key",
        metavar="COLUMN",
        help="column of obs of the reference that names the section of tissue that each location lies in: "
        "nothing is smoothed across sections, and their coordinates may repeat",
    )
    inputs.add_argument(
        "--location-weights",
        type=Path,
        metavar="TABLE",
        help="how many cells come from each location, in any unit (areas, nuclei): name and number "
        "(default: equally many)",
    )
    inputs.add_argument(
        "--reference-scale",
        choices=get_args(Scale),
        default="auto",
        help="what the values of the reference are, as of --cells-scale (default: auto, by the values)",
    )
    inputs.add_argument(
        "--reference-normalisation",
        choices=get_args(ReferenceNormalisation),
        default="auto",
        help="median brings every location of a map of counts to the median total (default: auto)",
    )
    inputs.add_argument(
        "--reference-layer", metavar="NAME", help="layer of the reference to use in place of X"
    )
    _add_names(inputs, "reference-")
    inputs.add_argument(
        "--missing",
        choices=get_args(Missing),
        default="refuse",
        help="values that were not measured (empty fields, NaN): refuse the reference, drop the landmarks "
        "that have any, or fill them in from the other landmarks; what is filled in is not scored (default: "
        "refuse)",
    )

    defaults = PerlerSettings()
    method = parser.add_argument_group("method")
    method.add_argument(
        "--preset",
        choices=("paper", "released"),
        help="start from the paper's method to the letter (one weighted mean of cells), or from what its "
        "released program does (default: a mixture of experts with shares learned on held-out landmarks)",
    )
    method.add_argument(
        "--n-metagenes",
        type=at_least(1),
        metavar="N",
        help=f"dimensions of the shared space (default: {defaults.n_metagenes})",
    )
    method.add_argument(
        "--learn-location-weights",
        action="store_true",
        default=None,
        help="learn how many cells come from each location instead of fixing it",
    )
    method.add_argument(
        "--foreign-cells",
        action="store_true",
        default=None,
        help="expect cells from elsewhere (debris, another tissue): the surer that is of a cell, the less it "
        "counts",
    )
    method.add_argument(
        "--batch-key",
        metavar="COLUMN",
        help="column of obs of the cells that names their donor or run: what differs between these for every "
        "gene by itself is taken off",
    )
    tuning = parser.add_argument_group("tuning and scores")
    tuning.add_argument(
        "--folds",
        type=at_least(2),
        metavar="N",
        help="hold landmarks out in N groups (default: one at a time up to 200 landmarks, else 10 groups)",
    )
    tuning.add_argument(
        "--weights",
        type=float,
        nargs=2,
        metavar=("ALPHA", "BETA"),
        help="use these weights: nothing is held out, tuned or scored, which is quick",
    )
    tuning.add_argument(
        "--seed", type=int, metavar="N", help=f"of the split into groups (default: {defaults.seed})"
    )
    for group, name, words, about in (
        (method, "reduction", Reduction, "how landmarks become metagenes"),
        (method, "normalisation", Normalisation, "total to which counts are scaled before log2(1 + x)"),
        (method, "noise", Noise, "how cells scatter around their location; student_t has heavy tails"),
        (method, "covariance", NamedCovariance, "spread that distances are measured in"),
        (method, "dtype", Precision, "precision of the computation"),
        (tuning, "objective", Objective, "what tuning maximises; roc is for binary references"),
        (tuning, "search", Search, "how to find the maximum"),
    ):
        default = getattr(defaults, name) or f"{defaults.search_used}; grid for roc"
        group.add_argument(f"--{name}", choices=get_args(words), help=f"{about} (default: {default})")
    add_devices(parser)


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Over how many devices and processes the work is spread."""
    group = parser.add_argument_group(
        "many devices and machines",
        "Several processes: run the same command on each, with its own\n--process-id; the first writes the "
        "files. Environment variables stand in\nfor the last three options.",
    )
    group.add_argument(
        "--devices",
        type=at_least(1),
        metavar="N",
        help="spread the work over N devices of each process; on the CPU N cores (default: 1; with several "
        "processes all)",
    )
    group.add_argument(
        "--coordinator",
        default=os.environ.get("JAX_COORDINATOR_ADDRESS"),
        metavar="HOST:PORT",
        help="where the first process listens (JAX_COORDINATOR_ADDRESS); `auto` asks Slurm, Open MPI, "
        "Kubernetes or the TPU pod for all three",
    )
    for name, variable, least, about in (
        ("processes", "JAX_NUM_PROCESSES", 1, "how many there are"),
        ("process-id", "JAX_PROCESS_ID", 0, "which of them this is, from 0"),
    ):
        group.add_argument(
            f"--{name}",
            type=at_least(least),
            default=os.environ.get(variable),
            metavar="N",
            help=f"{about} ({variable})",
        )


def add_outer(parser: argparse.ArgumentParser) -> None:
    """Outer cross-validation of a saved fit's settings."""
    add_cells(parser, "with --outer: the cells that were fitted, from the same file", optional=True)
    group = parser.add_argument_group("outer cross-validation")
    group.add_argument(
        "--outer",
        type=at_least(2),
        metavar="N",
        help="make the fit anew N times, each time without one group of landmarks, and score these",
    )
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="keep finished groups there, and go on from them after a kill; delete it at the end",
    )


def add_cells(parser: argparse.ArgumentParser, about: str, *, optional: bool = False) -> None:
    """The file of cells, and how to read it."""
    parser.add_argument("cells", type=Path, metavar="CELLS", nargs="?" if optional else None, help=about)
    group = parser.add_argument_group("the cells")
    group.add_argument("--layer", metavar="NAME", help="layer to use in place of X (h5ad, .zarr)")
    _add_names(group, "")
    group.add_argument(
        "--cells-scale",
        choices=get_args(Scale),
        default="auto",
        help="what the values are: counts (whole or corrected), linear (normalised, not logged), log1p "
        "(natural), log2, centred, binary (default: auto, by the values)",
    )
    group.add_argument(
        "--backed", action="store_true", help="leave the values on disk and read them piece by piece"
    )


def _add_names(group: argparse._ArgumentGroup, side: str) -> None:
    """Where names and values are taken from in an AnnData, and which table of a SpatialData."""
    group.add_argument(
        f"--{side}gene-key",
        metavar="COLUMN",
        help="column of var that names the genes (gene_symbols, gene_ids), where the names of the table are "
        "of another kind than those of the other side; `perler-jax info` shows the columns",
    )
    group.add_argument(
        f"--{side}use-raw",
        action="store_true",
        help="take .raw, where scanpy keeps all genes once X is cut down to variable ones",
    )
    group.add_argument(
        f"--{side}table", metavar="NAME", help="which table of a SpatialData (needed if there are several)"
    )


def add_genes(parser: argparse.ArgumentParser, default: str) -> None:
    """Which genes: by name or from a file."""
    genes = parser.add_mutually_exclusive_group()
    genes.add_argument("--genes", metavar="NAME,NAME", help=f"which genes (default: {default})")
    genes.add_argument("--genes-file", type=Path, metavar="FILE", help="text file with one name per line")


def add_belief(parser: argparse.ArgumentParser, when: str) -> None:
    """What a result says of how far to believe it.

    Args:
        parser: of the command.
        when: the options count.
    """
    group = parser.add_argument_group(
        f"what to believe ({when})",
        "Every gene has a flag (good, doubtful, poor) with its reason and the score\nto expect in var.",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="add standard errors and 90 %% intervals of every value, as layers (takes as long again)",
    )
    group.add_argument(
        "--no-reliability", action="store_true", help="leave flags and reasons out: quicker for many genes"
    )


def add_simulation(parser: argparse.ArgumentParser, title: str) -> None:
    """Sizes and seed of a simulated embryo."""
    group = parser.add_argument_group(title)
    for name, default, about in (
        ("seed", 0, "of the simulation"),
        ("cells", 1000, "dissociated cells"),
        ("locations", 2000, "locations of the reference; stripes need about 2000"),
        ("genes", 300, "genes that the cells express"),
        ("landmarks", 50, "genes of the reference"),
    ):
        group.add_argument(
            f"--{name}", type=at_least(0), default=default, metavar="N", help=f"{about} (default: {default})"
        )


def at_least(minimum: int) -> Callable[[str], int]:
    """A whole number that is not too small, as an argparse type."""

    def number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected at least {minimum}, found {value}")
        return value

    number.__name__ = "whole number"  # what argparse calls it in its own message
    return number
