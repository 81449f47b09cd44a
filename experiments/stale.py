"""Which committed results are older than the code that makes them.

``python -m experiments.stale`` prints a list; ``--write`` puts it into experiments/README.md. A warning, not
an error: a result is run again where its figures may have moved.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.freshness import is_fresh, records

__all__ = ["described", "main", "stale"]

_HERE = Path(__file__).parent
_BEGIN, _END = "<!-- made by python -m experiments.stale --write -->", "<!-- end -->"


def main() -> None:
    """Print or write the list."""
    parser = argparse.ArgumentParser("python -m experiments.stale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into experiments/README.md")
    options = parser.parse_args()
    text = described(stale(_HERE, _HERE.parent))
    if options.write:
        readme = _HERE / "README.md"
        readme.write_text(replaced(readme.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(text)


def stale(folder: Path, root: Path) -> dict[str, str]:
    """Path of every result that is not fresh -> why.

    Args:
        folder: that holds the experiments; results are ``EXPERIMENT/results/NAME.json``.
        root: of the repository.
    """
    found = {}
    for path in sorted(folder.glob("*/results/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        known = dict(records(content))
        older = [_name(where) for where, record in known.items() if not is_fresh(record, root)]
        # Rows of a comparison are made one by one: each has a record, or is from before there were any.
        rows = {f"runs.{name}" for name, row in content.get("runs", {}).items() if "skipped" not in row}
        without = [_name(where) for where in sorted(rows - known.keys() if known else {""})]
        said = {"older than the code": older, "from before code was recorded": without}
        if any(said.values()):
            found[path.relative_to(folder).as_posix()] = "; ".join(
                f"{why}: {', '.join(names)}" for why, names in said.items() if names
            )
    return found


def described(found: dict[str, str]) -> str:
    """The list for people."""
    if not found:
        return "Every committed result was made by the code as it is."
    return "\n".join(
        ["Not made by the code as it is:", "", *(f"- `{name}`: {why}" for name, why in found.items())]
    )


def replaced(text: str, content: str) -> str:
    """A text with what stands between the marks exchanged.

    Raises:
        ValueError: the marks are not there.
    """
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"expected the lines {_BEGIN!r} and {_END!r}; found them not both")
    return f"{before}{_BEGIN}\n\n{content}\n\n{_END}{after}"


def _name(where: str) -> str:
    return where.removeprefix("runs.") or "the whole"


if __name__ == "__main__":
    main()
