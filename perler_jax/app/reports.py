"""The commands that only read files: they start without JAX, which takes as long as the rest of them."""

from __future__ import annotations

import argparse

from perler_jax.app.describe import describe_file, score_table
from perler_jax.app.lines import as_lines
from perler_jax.app.outputs import check_output
from perler_jax.app.unreadable import Unreadable
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.io import atomic_path
from perler_jax.saved_fit import read_saved_fit

__all__ = ["evaluate", "info"]


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the scores of a fit, and write them if asked to."""
    if arguments.cells is not None:
        raise PerlerInputError(
            "expected --outer N with a file of cells: they are needed to make the fit anew; found no --outer"
        )
    if arguments.out is not None:
        check_output(arguments.out, ".csv", [arguments.fit])
    fitted = read_saved_fit(arguments.fit)
    print(score_table(fitted, arguments.show))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(arguments.out) as temporary:
            fitted.scores.to_csv(temporary)
        print(f"written  {arguments.out}")


def info(arguments: argparse.Namespace) -> None:
    """Print what files hold, and what two of them share."""
    names = []
    with Unreadable() as unreadable:
        for path in arguments.files:
            described = unreadable.read(describe_file, path)
            if described is None:
                continue
            pairs, genes = described
            names += [] if genes is None else [set(genes)]
            print(path)
            print(as_lines(pairs, indent="  "))
    if len(names) == 2:
        shared = sorted(names[0] & names[1])
        some = f": {', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}" if shared else ""
        print(f"gene names in both: {len(shared)}{some}")
