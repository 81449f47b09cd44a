"""One message for all files of a command that cannot be read: who mends paths wants to know every one."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from perler_jax.errors import PerlerFileError, PerlerInputError

__all__ = ["Unreadable"]


class Unreadable:
    """Read files one after the other; at the end of the block, one error names all that failed.

    Example::

        with Unreadable() as unreadable:
            fit = unreadable.read(load_fit, path)
            cells = unreadable.read(read_cells, other)
    """

    def __init__(self) -> None:
        self.errors: list[PerlerFileError] = []

    def read(self, reader: Callable[..., Any], *arguments: Any) -> Any:
        """What the reader returns; None where its file cannot be read, which the end of the block tells."""
        try:
            return reader(*arguments)
        except PerlerFileError as error:
            self.errors.append(error)
        except PerlerInputError:
            if not self.errors:  # else it may be for want of the file before
                raise
        return None

    def __enter__(self) -> Unreadable:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if kind is not None or not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0]
        told = "; ".join(f"({at}) {error}" for at, error in enumerate(self.errors, 1))
        raise PerlerFileError(f"{len(self.errors)} files cannot be used: {told}") from self.errors[0]
