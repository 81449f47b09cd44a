"""The words of the interface in use: an error names the argument that its reader can give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

__all__ = ["argument", "speaking"]

Interface = Literal["reader", "fit", "command line"]
_IN_USE: ContextVar[Interface] = ContextVar("interface", default="reader")
_WITHOUT_SIDE = (
    "layer",
    "gene_key",
    "use_raw",
    "table",
    "backed",
)  # options of the cells, on the command line


@contextmanager
def speaking(interface: Interface) -> Iterator[None]:
    """Inside this block, arguments are called as that interface does; the outermost block decides."""
    if _IN_USE.get() != "reader":
        yield
        return
    token = _IN_USE.set(interface)
    try:
        yield
    finally:
        _IN_USE.reset(token)


def argument(name: str, value: Any, side: str = "") -> str:
    """How to give an argument: ``scale='log2'``, ``cells_scale='log2'`` or ``--cells-scale log2``.

    Args:
        name: of the argument of `as_cells` and `as_reference`.
        value: to give; True is a flag of the command line, False and None leave it out.
        side: "cells" or "reference", where the interface has one argument for each.
    """
    in_use = _IN_USE.get()
    if in_use == "reader" or (in_use == "fit" and name == "table"):  # `fit_perler` takes tables themselves
        return f"{name}={value!r}" + (" of as_cells and as_reference" if in_use == "fit" else "")
    full = f"{side}_{name}" if side else name
    if in_use == "fit":
        return f"{full}={value!r}"
    option = f"--{(name if side == 'cells' and name in _WITHOUT_SIDE else full).replace('_', '-')}"
    if isinstance(value, bool) or value is None:
        return option if value else f"no {option}"
    return f"{option} {','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
