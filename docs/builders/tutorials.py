"""Tutorials: the rendered notebooks, copied as they are committed."""

from __future__ import annotations

from pathlib import Path

from builders.files import write_if_new

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def make(folder: Path) -> None:
    """Copy every rendered notebook.

    Args:
        folder: to write to; what is there and unchanged stays as it is, so that Sphinx need not read it.
    """
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        write_if_new(folder / path.name, path.read_bytes())
