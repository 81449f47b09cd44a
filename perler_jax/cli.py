"""The command line: what can be asked for, how failures are told, and nothing else.

Only the standard library is imported until a command runs, so help is instant.

Exit codes: 0 done; 2 wrong usage or an input that cannot be used (one line on stderr); 1 a failure nobody
expected (with a traceback); 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["build_parser", "main"]

PROGRAM = "perler-jax"

_ABOUT = """\
Where in the tissue is every gene expressed? Given single-cell RNA-seq of a dissociated tissue and a map of a
few landmark genes (in situ images, an atlas, zones), perler-jax reconstructs the spatial pattern of every
gene that the cells express, and says by held-out landmarks how far to trust it."""

_OVERVIEW = """\
example:
  perler-jax demo                                        # on a simulated embryo
  perler-jax info cells.h5ad reference.h5ad              # what is in your files
  perler-jax fit cells.h5ad reference.h5ad -o fit.npz    # about a minute
  perler-jax evaluate fit.npz                            # how far to trust it
  perler-jax reconstruct fit.npz cells.h5ad -o all.h5ad  # patterns of all genes

Each command has its own help, such as `perler-jax fit --help`. Files are written
whole or not at all; they replace what had their name, but never an input.
Exit codes: 0 done; 2 wrong usage or unusable input; 1 unexpected failure;
130 interrupted."""

_CELLS_HELP = (
    "dissociated cells: .h5ad, .npz, a 10x folder, or a table (.csv, .tsv, .txt, also .gz; either way "
    "round); raw counts are best"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments after the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as ended:  # argparse has said why: 0 after help, 2 on wrong usage
        return int(ended.code or 0)
    # A sub-module of the package, so that `--help` pays for neither JAX nor pandas.
    from perler_jax import commands
    from perler_jax.errors import PerlerInputError

    with _messages(arguments.quiet):
        try:
            getattr(commands, arguments.command)(arguments)
            sys.stdout.flush()
        except PerlerInputError as error:
            _say("error", error)
            return 2
        except KeyboardInterrupt:
            _say("interrupted", "the file being written, if any, was left as it was before")
            return 130
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception:
            traceback.print_exc()
            _say("error", "this should not happen; please report it with the lines above")
            return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options and help."""
    parser = argparse.ArgumentParser(PROGRAM, description=_ABOUT, epilog=_OVERVIEW, formatter_class=_Help)
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in (_add_demo, _add_simulate, _add_fit, _add_reconstruct, _add_evaluate, _add_info):
        add(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "see the whole method work, from cells to patterns",
        """\
Simulates an embryo (cells, an in situ reference, and the truth), fits, reconstructs all genes and compares
them with the truth: held-out landmarks, the true positions of the cells, and 14-stripe genes that the
reference never showed. With --data, the same on the real fly embryo, whose truth nobody knows. Takes well
under a minute on two idle CPU cores (the fly: about one).""",
        "perler-jax demo -o demo\n  perler-jax demo --data data/drosophila -o fly",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder to write to (default: demo)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the fly data set's files")
    _add_simulation_sizes(parser)
    _add_quiet(parser)


def _add_simulate(commands: Any) -> None:
    parser = _command(
        commands,
        "simulate",
        "write an experiment whose answer is known",
        """\
Writes three files of a fly-like embryo: cells.h5ad (counts of dissociated cells; obs["true_location"] is
where each came from), reference.h5ad (in situ intensity of the landmarks; positions in micrometres in
obsm["spatial"]) and truth.h5ad (noise-free expression of all genes at all locations). The same seed and sizes
give the same data.""",
        "perler-jax simulate -o simulated --seed 1\n"
        "  perler-jax fit simulated/cells.h5ad simulated/reference.h5ad -o fit.npz",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write to; made if needed"
    )
    _add_simulation_sizes(parser)
    _add_quiet(parser)


def _add_fit(commands: Any) -> None:
    parser = _command(
        commands,
        "fit",
        "map cells onto a reference; tune and score it",
        """\
Finds the landmarks (genes with the same name on both sides), fits the mapping between the reference and the
cells, then leaves landmarks out, predicts them and tunes the two weights of the reconstruction (alpha, beta)
so that the predictions agree with the reference. Writes the fit and prints its scores; "nested" is the one
to report: no part of it has seen the gene that it scores.""",
        "perler-jax fit cells.h5ad reference.h5ad -o fit.npz\n"
        "  perler-jax fit cells.csv.gz atlas.csv --coordinates xyz.csv -o fit.npz \\\n"
        "      --result result.h5ad",
    )
    parser.add_argument("cells", type=Path, metavar="CELLS", help=_CELLS_HELP)
    parser.add_argument(
        "reference",
        type=Path,
        metavar="REFERENCE",
        help="expression of landmarks at known locations: .h5ad (positions in obsm['spatial']), .npz, table",
    )
    outputs = parser.add_argument_group("output")
    outputs.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FIT.npz", help="the fit, for the other commands"
    )
    outputs.add_argument(
        "--result", type=Path, metavar="RESULT.h5ad", help="also write the patterns of all genes (log2 units)"
    )
    _add_quiet(outputs)

    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "--coordinates",
        type=Path,
        metavar="TABLE",
        help="positions of the locations, 2 or 3 columns with a header; matched by name if the first column "
        "holds names, else in order",
    )
    inputs.add_argument(
        "--location-weights",
        type=Path,
        metavar="TABLE",
        help="how many cells come from each location, in any unit (areas, nuclei): location name and number "
        "(default: equally many)",
    )
    _add_cells_options(inputs)
    inputs.add_argument(
        "--reference-scale",
        choices=("auto", "linear", "log"),
        default="auto",
        help="unit of the reference; linear values become log2(1 + x) (default: auto, log if any is below 0)",
    )

    method = parser.add_argument_group("method")
    method.add_argument(
        "--preset", choices=("released",), help="start from what the authors' released program does"
    )
    method.add_argument(
        "--n-metagenes", type=int, metavar="N", help="dimensions of the shared space (default: 60)"
    )
    method.add_argument(
        "--reduction",
        choices=("plsc", "pca", "none"),
        help="how landmarks become metagenes (default: plsc, partial least squares correlation)",
    )
    method.add_argument(
        "--normalisation",
        choices=("max_total", "median", "cp10k", "none"),
        help="total to which counts are scaled before log2(1 + x) (default: max_total, the largest cell's)",
    )
    method.add_argument(
        "--covariance",
        choices=("fitted", "pooled"),
        help="spread that distances are measured in (default: fitted, each metagene's noise; pooled: as the "
        "released program)",
    )
    method.add_argument(
        "--learn-location-weights",
        action="store_true",
        default=None,
        help="learn how many cells come from each location instead of fixing it",
    )
    method.add_argument(
        "--dtype", choices=("float32", "float64"), help="precision of the computation (default: float32)"
    )

    tuning = parser.add_argument_group("tuning and scores")
    tuning.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="hold landmarks out in N groups (default: one at a time up to 200 landmarks, else 10 groups)",
    )
    tuning.add_argument(
        "--objective",
        choices=("mutual_information", "signed", "roc"),
        help="what tuning maximises over held-out landmarks (default: mutual_information; roc: for binary "
        "references)",
    )
    tuning.add_argument(
        "--search",
        choices=("gradient", "grid"),
        help="how to find the maximum (default: gradient; grid for roc)",
    )
    tuning.add_argument(
        "--weights",
        type=float,
        nargs=2,
        metavar=("ALPHA", "BETA"),
        help="use these weights: nothing is held out, tuned or scored, which is quick",
    )
    tuning.add_argument("--seed", type=int, metavar="N", help="of the split into groups (default: 0)")


def _add_reconstruct(commands: Any) -> None:
    parser = _command(
        commands,
        "reconstruct",
        "spatial patterns of all genes from a fit",
        """\
Averages the expression of the fitted cells at every location of the reference, for genes that the reference
never held. Writes an h5ad with locations as rows and genes as columns: positions in obsm["spatial"], the
scores of landmarks in var, settings and versions in uns["perler"]. Units: log2 of the normalised cells.""",
        "perler-jax reconstruct fit.npz cells.h5ad -o stripes.h5ad --genes en,wg,hh",
    )
    parser.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    parser.add_argument(
        "cells", type=Path, metavar="CELLS", help="the cells that were fitted, from the same file"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RESULT.h5ad", help="file to write")
    genes = parser.add_argument_group("what to reconstruct").add_mutually_exclusive_group()
    genes.add_argument(
        "--genes", metavar="NAME,NAME", help="names, separated by commas (default: every gene of the cells)"
    )
    genes.add_argument("--genes-file", type=Path, metavar="FILE", help="text file with one name per line")
    parser.add_argument(
        "--z-score", action="store_true", help="each gene with mean 0 and variance 1 over the locations"
    )
    _add_cells_options(parser.add_argument_group("input", "as they were given to `perler-jax fit`"))
    _add_quiet(parser)


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "scores of a fit, landmark by landmark",
        """\
Prints how well each landmark was predicted, best and worst first, as the correlation over locations with the
reference (area under the ROC curve for the roc objective). nested: the gene took part neither in the fit nor
in tuning, as a new gene would not; report this. held-out: it took part in tuning. reconstruction: it took
part in both, so this says how well the fit describes it, not how well it predicts.""",
        "perler-jax evaluate fit.npz\n  perler-jax evaluate fit.npz -o scores.csv",
    )
    parser.add_argument("fit", type=Path, metavar="FIT", help="what `perler-jax fit` wrote")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="TABLE.csv", help="write the whole table, one row per landmark"
    )
    parser.add_argument(
        "--show", type=int, default=5, metavar="N", help="landmarks to print at either end (default: 5)"
    )
    _add_quiet(parser)


def _add_info(commands: Any) -> None:
    parser = _command(
        commands,
        "info",
        "what a file holds",
        """\
Says what a file is. Of a fit: version, sizes, settings, scores, and whether it is intact. Of data or a
result: rows, columns, scale, positions. With two data files: how many gene names they share exactly, which is
how many landmarks a fit would use.""",
        "perler-jax info cells.h5ad reference.h5ad\n  perler-jax info fit.npz",
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="a fit, a result, cells or a reference"
    )
    _add_quiet(parser)


def _command(
    commands: Any, name: str, summary: str, description: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=_Help,
    )


def _add_cells_options(group: Any) -> None:
    group.add_argument("--layer", metavar="NAME", help="layer of the cells' h5ad to use in place of X")
    group.add_argument(
        "--cells-scale",
        choices=("auto", "counts", "log"),
        default="auto",
        help="unit of the cells; counts are normalised, logs left alone (default: auto, counts if all are "
        "whole numbers)",
    )
    group.add_argument(
        "--backed", action="store_true", help="leave the cells' h5ad on disk and read it piece by piece"
    )


def _add_simulation_sizes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("simulated embryo")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the simulation (default: 0)")
    sizes = (
        ("cells", 1000, "dissociated cells"),
        ("locations", 2000, "locations of the reference; stripes need about 2000"),
        ("genes", 300, "genes that the cells express"),
        ("landmarks", 50, "genes of the reference"),
    )
    for name, default, what in sizes:
        group.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )


def _add_quiet(group: Any) -> None:
    group.add_argument(
        "--quiet", action="store_true", help="no progress bars and notes; warnings and errors are still shown"
    )


class _Help(argparse.HelpFormatter):
    """Paragraphs as wide as the terminal, examples line by line."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 26, **options})
        self._action_max_length = (
            17  # argparse leaves the indent of command names out: "reconstruct" would wrap
        )

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("perler_jax")
        except PackageNotFoundError:
            found = "unknown (not installed)"
        print(f"{PROGRAM} {found}")
        parser.exit()


class _Lines(logging.Handler):
    """One line on stderr per message of the package."""

    def emit(self, record: logging.LogRecord) -> None:
        _say("warning" if record.levelno >= logging.WARNING else "", record.getMessage())


def _say(kind: str, message: object) -> None:
    from tqdm import tqdm  # its write() keeps a running progress bar whole

    prefix = f"{PROGRAM}: {kind}: " if kind else f"{PROGRAM}: "
    tqdm.write(prefix + " ".join(str(message).split()), file=sys.stderr)


@contextmanager
def _messages(quiet: bool) -> Iterator[None]:
    """The package's log and warnings as single lines on stderr; all is as before afterwards."""
    from perler_jax.errors import PerlerWarning

    logger, handler = logging.getLogger("perler_jax"), _Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    with warnings.catch_warnings():
        if (
            not sys.warnoptions
        ):  # what libraries tell programmers is no use here, unless python -W asks for it
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", PerlerWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, PerlerWarning):
                _say("warning", message)
            else:
                others(message, category, *where, **options)

        warnings.showwarning = show
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
