"""Which code made a result: a hash of the files that were imported, and whether they are still the same.

Comments, docstrings and empty lines do not count; nor do files that only draw, or only write results.
Standard library only: methods of the comparison are run by other programs' Pythons.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["code_hash", "code_of", "imported_code", "is_fresh", "records"]

_PACKAGES = ("perler_jax", "experiments")
_ONLY_WRITE = {"experiments/common.py", "experiments/freshness.py", "experiments/compare/report.py"}


def imported_code() -> dict[str, str]:
    """Files of this repository that the running program has imported: ``files`` and ``sha256``.

    Call it when the work is done: some modules are imported when they are first needed.
    """
    roots = {Path(sys.modules[name].__file__ or "").parents[1] for name in _PACKAGES if name in sys.modules}
    files = {Path(each.__file__) for each in list(sys.modules.values()) if getattr(each, "__file__", None)}
    found = {
        file.relative_to(root).as_posix(): root
        for root in roots
        for file in files
        if file.suffix == ".py" and file.is_relative_to(root) and _counts(file.relative_to(root))
    }
    digest = _joined(
        (name, (root / name).read_text(encoding="utf-8")) for name, root in sorted(found.items())
    )
    return {"files": " ".join(sorted(found)), "sha256": digest}


def code_of(files: str, root: Path) -> str | None:
    """The hash of those files as they are now; None where one is gone.

    Args:
        files: names as `imported_code` gives them.
        root: folder of the repository.
    """
    names = files.split()
    if not all((root / name).is_file() for name in names):
        return None
    return _joined((name, (root / name).read_text(encoding="utf-8")) for name in names)


def is_fresh(record: dict[str, str], root: Path) -> bool:
    """Whether the code of a result is still what made it."""
    return code_of(record["files"], root) == record["sha256"]


def records(content: Any, where: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Every record of code in a result, with the place where it stands ("" is the whole result)."""
    if isinstance(content, dict):
        if isinstance(content.get("code"), dict) and "sha256" in content["code"]:
            yield where, content["code"]
        for name, each in content.items():
            if name != "code":
                yield from records(each, f"{where}.{name}" if where else name)


def code_hash(text: str) -> str:
    """SHA-256 of a file of code without its comments, docstrings and empty lines."""
    lines = text.splitlines()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                left_out |= set(range(first.lineno - 1, first.end_lineno or first.lineno))
    kept = [line.rstrip() for at, line in enumerate(lines) if at not in left_out]
    kept = [line for line in kept if line and not line.lstrip().startswith("#")]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _counts(file: Path) -> bool:
    name = file.as_posix()
    is_ours = name.startswith(tuple(f"{package}/" for package in _PACKAGES))
    only_draws = "/plotting/" in name or "/app/" in name or file.stem.endswith("pictures")
    return is_ours and not only_draws and name not in _ONLY_WRITE


def _joined(texts: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for name, text in texts:
        digest.update(f"{name} {code_hash(text)}\n".encode())
    return digest.hexdigest()
