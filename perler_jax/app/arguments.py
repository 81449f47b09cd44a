"""What can be asked for on the command line: every command with its help; `options.py` has the long lists."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from perler_jax.app.onward import add_onward
from perler_jax.app.options import (
    add_belief,
    add_cells,
    add_fit,
    add_genes,
    add_outer,
    add_simulation,
    at_least,
)
from perler_jax.versions import package_version

__all__ = ["PROGRAM", "build_parser"]

PROGRAM = "perler-jax"

_ABOUT = """\
Where in the tissue is every gene expressed? Given single-cell RNA-seq of a
dissociated tissue and a map of a few landmark genes (in situ images, an atlas,
zones), perler-jax reconstructs the spatial pattern of every gene that the cells
express, and says by held-out landmarks how far to trust it."""

_OVERVIEW = """\
example:
  perler-jax demo                                        # on a simulated embryo
  perler-jax info cells.h5ad reference.h5ad              # what is in your files
  perler-jax fit cells.h5ad reference.h5ad -o fit.npz    # a minute or a few
  perler-jax evaluate fit.npz                            # how far to trust it
  perler-jax reconstruct fit.npz cells.h5ad -o all.h5ad  # patterns of all genes
  perler-jax explore all.h5ad                            # look at them in a browser

Each command has its own help, such as `perler-jax fit --help`. Files are written
whole or not at all; they replace what had their name, but never an input.
Exit codes: 0 done; 2 wrong usage or unusable input; 1 unexpected failure;
130 interrupted."""

_DEMO = """\
Simulates an embryo (cells, an in situ reference, and the truth), fits,
reconstructs all genes and compares them with the truth: held-out landmarks, the
true positions of the cells, and 14-stripe genes that the reference never showed.
With --data, the same on the real fly embryo, whose truth nobody knows.
Leaves result.h5ad, fit.npz, patterns.png and scoreboard.json."""

_SIMULATE = """\
Writes three files of a fly-like embryo: cells.h5ad (counts of dissociated cells;
obs["true_location"] is where each came from), reference.h5ad (in situ intensity
of the landmarks; positions in micrometres in obsm["spatial"]) and truth.h5ad
(noise-free expression of all genes at all locations). The same seed and sizes
give the same data."""

_FIT = """\
Finds the landmarks (genes with the same name on both sides), fits the mapping
between the reference and the cells, then leaves landmarks out, predicts them and
chooses the predictor (weighted means of cells, regressions on landmarks, smoothing
and their shares) by how well they agree with the reference. Writes the fit and
prints its scores; "nested" is the one to report: the gene took part neither in the
mapping that predicts it nor in the choice of shares for it. The mappings of the other
folds, on which that choice rests, have seen it; with `evaluate --outer` nothing has."""

_RECONSTRUCT = """\
Averages the expression of the fitted cells at every location of the reference,
for genes that the reference never held. Writes an h5ad with locations as rows
and genes as columns: positions in obsm["spatial"], the scores of landmarks in
var, settings and versions in uns["perler"]. Units: log2 of the normalised cells."""

_EXPLORE = """\
Writes one HTML page that opens from disk in any browser of today, without a
network: type a gene, rotate the tissue, see its prediction and how sure it is
(layers standard_error, lower, upper; columns of var, where the result has them),
click a location for the genes that stand out there and, with --fit, the cells
that speak for it. Patterns are packed to keep the page small; how well shown and
exact ones agree is printed."""

_EVALUATE = """\
Prints how well each landmark was predicted, best and worst first, as the
correlation over locations with the reference (area under the ROC curve for the
roc objective). nested: the gene took part neither in the mapping that predicts it
nor in the choice of shares for it; report this. held-out: it took part in the choice.
reconstruction: it took part in both, so this says how well the fit describes it, not
how well it predicts. The mappings of the other folds have seen it: with --outer N,
landmarks leave the reference in N groups before anything else, and the whole fit is
made N times."""

_INFO = """\
Says what a file is. Of a fit: version, sizes, settings, scores, and whether it is
intact. Of data or a result: rows, columns, scale, positions, and what else could
be taken from it (layers, .raw, columns that name genes, tables). With two data
files: how many gene names they share exactly, which is how many landmarks a fit
would use at most. Without a file: the releases of perler-jax and of what it stands on,
the devices that JAX found, and whether a GPU is used."""


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options and help."""
    layout: Any = partial(argparse.RawDescriptionHelpFormatter, max_help_position=26)
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage="%(prog)s COMMAND [options]",
        description=_ABOUT,
        epilog=_OVERVIEW,
        formatter_class=layout,
    )
    parser.add_argument(
        "--version",
        action="version",
        help="print the version and exit",
        version=f"{PROGRAM} {package_version()}",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND [options]", title="commands", prog=PROGRAM
    )

    def command(name: str, usage: str, summary: str, about: str, *examples: str) -> argparse.ArgumentParser:
        epilog = "\n  ".join(["example:", *examples])
        added = commands.add_parser(
            name,
            usage=f"%(prog)s {usage} [options]",
            help=summary,
            description=about,
            epilog=epilog,
            formatter_class=layout,
        )
        added.add_argument(
            "--quiet", action="store_true", help="no progress bars and notes; warnings are still shown"
        )
        return added

    demo = command(
        "demo",
        "[-o DIR] [--data DIR]",
        "see the whole method work, from cells to patterns",
        _DEMO,
        "perler-jax demo -o demo",
        "perler-jax demo --data data/drosophila -o fly",
    )
    demo.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder to write to (default: demo)",
    )
    demo.add_argument("--data", type=Path, metavar="DIR", help="folder of the fly data set's files")
    add_simulation(demo, "simulated embryo (where --data is not given)")

    simulate = command(
        "simulate",
        "-o DIR",
        "write an experiment whose answer is known",
        _SIMULATE,
        "perler-jax simulate -o simulated --seed 1",
        "perler-jax fit simulated/cells.h5ad simulated/reference.h5ad -o fit.npz",
    )
    simulate.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_simulation(simulate, "sizes")

    fit = command(
        "fit",
        "CELLS REFERENCE -o FIT.npz",
        "map cells onto a reference; tune and score it",
        _FIT,
        "perler-jax fit cells.h5ad reference.h5ad -o fit.npz",
        "perler-jax fit cells.csv.gz atlas.csv --coordinates xyz.csv -o fit.npz \\",
        "    --result result.h5ad",
    )
    add_fit(fit)

    reconstruct = command(
        "reconstruct",
        "FIT CELLS -o RESULT.h5ad",
        "spatial patterns of all genes from a fit",
        _RECONSTRUCT,
        "perler-jax reconstruct fit.npz cells.h5ad -o stripes.h5ad --genes en,wg,hh",
    )
    reconstruct.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    add_cells(reconstruct, "the cells that were fitted, from the same file")
    reconstruct.add_argument(
        "-o", "--out", type=Path, required=True, metavar="RESULT.h5ad", help="file to write"
    )
    add_genes(reconstruct, "all of the cells")
    reconstruct.add_argument(
        "--z-score", action="store_true", help="each gene with mean 0 and variance 1 over the locations"
    )
    add_belief(reconstruct, "always")

    explore = command(
        "explore",
        "RESULT.h5ad [-o PAGE.html]",
        "one HTML page to look at every gene",
        _EXPLORE,
        "perler-jax explore result.h5ad",
        "perler-jax explore result.h5ad --fit fit.npz -o embryo.html --title 'Fly embryo'",
    )
    explore.add_argument("result", type=Path, metavar="RESULT.h5ad", help="what `reconstruct` or `fit` wrote")
    explore.add_argument(
        "-o", "--out", type=Path, metavar="PAGE.html", help="file to write (default: beside the result)"
    )
    explore.add_argument(
        "--fit",
        type=Path,
        metavar="FIT.npz",
        help="the fit behind the result, to name the cells and to show the maps of landmarks",
    )
    explore.add_argument(
        "--labels",
        type=Path,
        metavar="TYPES.h5ad",
        help="what `transfer` wrote, to colour the locations by it",
    )
    explore.add_argument("--title", default="Tissue explorer", help="of the page")
    explore.add_argument(
        "--megabytes",
        type=at_least(1),
        default=15,
        metavar="N",
        help="largest size of the page; a larger one holds patterns more exactly (default: 15)",
    )
    explore.add_argument(
        "--mirror",
        choices=("x", "y", "z", "none"),
        help="the map is one half: show its mirror image along this axis too (default: as the result says)",
    )
    explore.add_argument(
        "--axes",
        nargs="+",
        metavar="AXIS=LOW:HIGH",
        help="names of the ends of axes, such as x=anterior:posterior z=ventral:dorsal (default: as the "
        "result says)",
    )
    add_genes(explore, "all of the result")

    add_onward(command)

    evaluate = command(
        "evaluate",
        "FIT [CELLS --outer N] [-o TABLE.csv]",
        "scores of a fit, landmark by landmark",
        _EVALUATE,
        "perler-jax evaluate fit.npz",
        "perler-jax evaluate fit.npz -o scores.csv",
        "perler-jax evaluate fit.npz cells.h5ad --outer 10 -o outer.csv",
    )
    evaluate.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    add_outer(evaluate)
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="TABLE.csv", help="write the table, one row per landmark"
    )
    evaluate.add_argument(
        "--show",
        type=at_least(1),
        default=5,
        metavar="N",
        help="landmarks to print at either end (default: 5)",
    )

    info = command(
        "info",
        "[FILE ...]",
        "what a file holds; without one, what is installed",
        _INFO,
        "perler-jax info cells.h5ad reference.h5ad",
        "perler-jax info fit.npz",
        "perler-jax info",
    )
    info.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="a fit, a result, cells or a reference"
    )
    return parser
