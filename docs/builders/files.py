"""Files that are written again only where they have changed: Sphinx then reads no more than it must."""

from __future__ import annotations

from pathlib import Path


def write_if_new(path: Path, content: str | bytes) -> None:
    """Write a file, with its folder, unless it already holds just that.

    Args:
        path: of the file.
        content: text (written as UTF-8) or bytes.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
