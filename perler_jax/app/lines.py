"""Properties by name as lines of text."""

from __future__ import annotations

__all__ = ["Pairs", "as_lines"]

Pairs = dict[str, str]


def as_lines(pairs: Pairs, indent: str = "") -> str:
    """Names and texts in two columns."""
    width = max(map(len, pairs))
    return "\n".join(f"{indent}{name:<{width}}  {text}" for name, text in pairs.items())
