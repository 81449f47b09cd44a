"""Evidence: README and pictures of each experiment, as committed, as pages with links that work here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from builders.figures import EXPERIMENTS
from builders.files import write_if_new

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:)([^)\s]+)\)")


def sources() -> dict[str, Path]:
    """Name of every page and the document that it is made of, those of the most general use first."""
    readmes = {path.parent.name: path for path in sorted(EXPERIMENTS.glob("*/README.md"))}
    return {"overview": EXPERIMENTS / "README.md", "claims": EXPERIMENTS / "claims.md", **readmes}


def page(path: Path, folder: Path) -> str:
    """The text of a document, pictures copied beside it and links led to the pages of the site.

    Args:
        path: of the document, below experiments/.
        folder: of the pages.
    """
    names = {source.resolve(): name for name, source in sources().items()}

    def lead(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path.resolve()
        if picture:
            shown = os.path.relpath(there, EXPERIMENTS.resolve())
            write_if_new(folder / shown, there.read_bytes())
            return f"![{text}]({shown})"
        there = there / "README.md" if there.is_dir() else there
        if there in names:
            return f"[{text}]({names[there]}.md{'#' + anchor if anchor else ''})"
        return f"{text} (`{os.path.relpath(there, EXPERIMENTS.parent.resolve())}` of the repository)"

    return _LINK.sub(lead, path.read_text(encoding="utf-8"))


def make(folder: Path) -> None:
    """Write a page for every experiment.

    Args:
        folder: to write to.
    """
    for name, path in sources().items():
        write_if_new(folder / f"{name}.md", page(path, folder))
