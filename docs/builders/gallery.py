"""Gallery: every script of docs/gallery, shown with the picture that it makes, at build time.

A script draws with one function of ``perler_jax.plotting`` and names its figure ``figure`` or its axes
``ax``. What it may use without making it (a small simulated embryo and its fit) is in ``prepare.py``.
"""

from __future__ import annotations

import ast
import hashlib
import io
from pathlib import Path
from typing import Any

from builders.files import write_if_new

SCRIPTS = Path(__file__).parents[1] / "gallery"
PACKAGE = Path(__file__).parents[2] / "perler_jax"

HEAD = """# Gallery

What each function of `perler_jax.plotting` draws, with the lines that draw it. All take `ax=` and return it;
none computes anything or sets a style. The pictures are made when this site is built, from a small simulated
embryo:

```python
{prepare}
```
"""


def scripts() -> list[Path]:
    """One script per function."""
    return sorted(SCRIPTS.glob("plot_*.py"))


def parts(path: Path) -> tuple[str, str]:
    """Docstring and code of a script."""
    text = path.read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text)) or ""
    first = ast.parse(text).body[0]
    return said, "\n".join(text.splitlines()[(first.end_lineno or 0) :]).strip()


def run(code: str, path: Path, names: dict[str, Any]) -> dict[str, Any]:
    """The names that a script leaves, errors with its own lines."""
    found = dict(names)
    exec(compile(code, str(path), "exec"), found)
    return found


def picture(found: dict[str, Any]) -> bytes:
    """The figure of a script as PNG."""
    figure = found["figure"] if "figure" in found else found["ax"].figure
    kept = io.BytesIO()
    figure.savefig(kept, dpi=110, bbox_inches="tight")
    return kept.getvalue()


def state() -> str:
    """What the pictures depend on: while it is the same, they are."""
    sources = [*sorted(SCRIPTS.glob("*.py")), *sorted(PACKAGE.rglob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def make(folder: Path) -> None:
    """Run the scripts and write the page.

    Args:
        folder: to write to; pictures that are those of the present code are kept.
    """
    mark = folder / "made-of"
    if mark.exists() and mark.read_text() == state():
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    prepare = SCRIPTS / "prepare.py"
    names = run(prepare.read_text(encoding="utf-8"), prepare, {})
    page = [HEAD.format(prepare=parts(prepare)[1])]
    for path in scripts():
        said, code = parts(path)
        write_if_new(folder / f"{path.stem}.png", picture(run(code, path, names)))
        pyplot.close("all")
        page.append(
            f"## {path.stem}\n\n{said}\n\n{{py:func}}`perler_jax.plotting.{path.stem}`\n\n"
            f"```python\n{code}\n```\n\n![{path.stem}]({path.stem}.png)\n"
        )
    write_if_new(folder / "index.md", "\n".join(page))
    write_if_new(mark, state())
