"""The program `perler-jax`: run one command, tell failures in one line, end with a code that means something.

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
from typing import Any

from perler_jax.app.arguments import PROGRAM, build_parser
from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.interface import speaking

__all__ = ["main"]

logger = logging.getLogger("perler_jax")


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
    with _messages(arguments.quiet), speaking("command line"):
        try:
            _run(arguments)
            sys.stdout.flush()
        except PerlerInputError as error:
            logger.error(error)
            return 2
        except KeyboardInterrupt:
            logger.error("interrupted; the file being written, if any, was left as it was before")
            return 130
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception:
            traceback.print_exc()
            logger.error("this should not happen; please report it with the lines above")
            return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    """Import what the command needs and no more: help, versions and reports must not wait for JAX."""
    if arguments.command == "info" and not arguments.files:
        from perler_jax.app.installation import describe_installation

        print(describe_installation())
    elif arguments.command == "info" or (arguments.command == "evaluate" and arguments.outer is None):
        from perler_jax.app import reports

        getattr(reports, arguments.command)(arguments)
    else:
        from perler_jax.app import commands, onward_commands, positions_command
        from perler_jax.app.compiled import keep_compiled_programs

        keep_compiled_programs()
        modules = (commands, onward_commands, positions_command)
        module = next(each for each in modules if arguments.command in each.__all__)
        getattr(module, arguments.command)(arguments)


@contextmanager
def _messages(quiet: bool) -> Iterator[None]:
    """The package's log and warnings as single lines on stderr; all is as before afterwards."""
    handler, level = _Lines(), logger.level
    logger.addHandler(handler)
    of_jax = logging.getLogger("jax._src.xla_bridge")
    of_jax.addFilter(_said_by_us)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    with warnings.catch_warnings():
        if not sys.warnoptions:  # what libraries tell programmers is no use here, unless `python -W` asks
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", PerlerWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, PerlerWarning):
                logger.warning(message)
            else:
                others(message, category, *where, **options)

        warnings.showwarning = show
        try:
            yield
        finally:
            of_jax.removeFilter(_said_by_us)
            logger.removeHandler(handler)
            logger.setLevel(level)


def _said_by_us(record: logging.LogRecord) -> bool:
    """False for JAX's word on an idle card: ours (`idle_card`) names the line that mends it."""
    return "CUDA-enabled jaxlib is not installed" not in record.getMessage()


class _Lines(logging.Handler):
    """One line on stderr per message of the package; a running progress bar stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # here, not above: most runs that end at once say nothing

        kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tqdm.write(f"{PROGRAM}: {kind}{' '.join(record.getMessage().split())}", file=sys.stderr)
