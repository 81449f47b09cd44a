"""What a reader is: it says which paths are its own, and turns one into something `as_cells` understands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Content", "Reader", "Request"]


class Request(NamedTuple):
    """What a reader may need to know beside the path.

    Attributes:
        rows: "cells" or "locations".
        landmarks: names of genes to expect, where they are known.
        backed: leave the values in the file.
        table: which of several tables.
    """

    rows: str = "cells"
    landmarks: Sequence[str] | np.ndarray | None = None
    backed: bool = False
    table: str | None = None

    @property
    def side(self) -> str:
        """What arguments call it: "cells" or "reference"."""
        return "cells" if self.rows == "cells" else "reference"


class Content(NamedTuple):
    """What was read: an AnnData or a DataFrame with its own names, or an array and the names beside it."""

    source: Any
    rows: Any = None
    genes: Any = None
    coordinates: Any = None


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        name: what users call it, for messages ("an h5ad file").
        ending: how its name ends, or what a folder holds, for messages (".h5ad").
        recognises: whether a path is of this kind, by its name and, of a folder, by what is in it.
        read: the content of a path; raises PerlerFileError in one sentence if it is broken.
        options: those of `read_cells` and `read_reference` that mean something here.
    """

    name: str
    ending: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Request], Content]
    options: frozenset[str] = frozenset()
