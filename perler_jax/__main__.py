"""The program `perler-jax`, also `python -m perler_jax`."""

import os
import sys


def main() -> int:
    """Run one command of the command line (see ``perler-jax --help``); returns the exit code."""
    # JAX reads this when it is imported. What its compiler logs no user can mend (jaxlib 0.10.1 calls each
    # program from its cache a danger, on the machine that compiled it); failures raise all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from perler_jax.app.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
