"""One HTML file of everything: the page's own files, the program that draws, and the packed arrays."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from perler_jax.app.explorer.codec import squeeze
from perler_jax.errors import PerlerInputError

__all__ = ["Blobs", "drawing_program", "fill_page"]

_SCRIPTS = ("data.js", "tissue.js", "overlay.js", "search.js", "panels.js", "main.js")
_KINDS = ("int8", "uint8", "uint16", "uint32", "float32")


class Blobs:
    """Compressed arrays and texts on their way into the page, each under an id of its own."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Characters that they take in the page."""
        return sum(map(len, self._texts.values()))

    def add(self, name: str, content: np.ndarray | Sequence[str] | str) -> dict[str, str]:
        """Pack an array, lines of text or a text; the record by which the page finds it."""
        if isinstance(content, np.ndarray):
            kind = content.dtype.name
            assert kind in _KINDS, f"{name} is {kind}, which the page cannot read"
            packed = squeeze(content)
        else:
            kind = "text" if isinstance(content, str) else "lines"
            text = content if isinstance(content, str) else "\n".join(content)
            packed = zlib.compress(text.encode("utf-8"), 9)
        key = f"data-{name}"
        assert key not in self._texts, f"{name} is in the page already"
        self._texts[key] = base64.b64encode(packed).decode("ascii")
        return {"id": key, "kind": kind}

    def elements(self) -> str:
        """The page's elements that hold them."""
        return "\n".join(
            f'<script type="text/plain" id="{key}">{text}</script>' for key, text in self._texts.items()
        )


def drawing_program() -> str:
    """The source of plotly.js, as the Python package carries it.

    Raises:
        PerlerInputError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise PerlerInputError(
            "expected the package plotly, which draws the page; found none; pip install 'perler_jax[explore]'"
        ) from error
    return str(get_plotlyjs())


def fill_page(page: Mapping[str, Any], texts: Mapping[str, str], meanings: str, blobs: Blobs) -> str:
    """The whole page.

    Args:
        page: what the page's scripts need to know, plain values.
        texts: plain texts of the page: title, summary, footer, version.
        meanings: HTML of the help's second part.
        blobs: packed arrays.
    """
    folder = files(__package__)
    source = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "style.css")}
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    # "<" in a string could end the element that holds it.
    plain = json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    record = f'<script type="application/json" id="page-data">{plain}</script>'
    filled = source["page.html"]
    escaped = {name: html.escape(text) for name, text in texts.items()}
    content = escaped | {
        "meanings": meanings,
        "style": source["style.css"],
        "data": f"{record}\n{blobs.elements()}",
        "script": script,
    }
    for name, text in content.items():
        before, mark, after = filled.partition(f"{{{{{name}}}}}")
        assert mark, f"the page has no place for {name}"
        filled = before + text + after.replace(mark, text)
    return filled
