"""Matrices that are computed or read when asked for: dask arrays and zarr arrays, seen like a backed file.

Nothing of dask is imported here: its arrays are known by what they are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr

from perler_jax.errors import PerlerInputError

__all__ = ["LazyMatrix", "is_lazy"]


@dataclass(frozen=True, eq=False)
class LazyMatrix:
    """A matrix of which parts come into memory, as NumPy arrays or SciPy matrices, when they are indexed.

    Attributes:
        source: (rows, columns) dask array with blocks of any layout, or dense zarr array.
    """

    source: Any

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.source.shape)):
            raise PerlerInputError(
                f"expected a dask array of known shape; found {self.source.shape}; call "
                "compute_chunk_sizes() on it"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self.source.dtype

    @property
    def format(self) -> str:
        """The order in which blocks are stored: "dense", "csr" or "csc"."""
        return getattr(getattr(self.source, "_meta", None), "format", "dense")

    @cached_property
    def n_stored(self) -> int:
        """How many entries there are: of sparse blocks as many, by the first one, as are not left out."""
        everything = int(np.prod(self.shape))
        if self.format == "dense":
            return everything
        first = self[: self.chunk(0), : self.chunk(1)]
        return int(everything * first.nnz / max(1, np.prod(first.shape)))

    def chunk(self, axis: int) -> int:
        """How many rows or columns are read at once, at the least."""
        along = self.source.chunks[axis]
        return int(along[0] if isinstance(along, tuple) else along)

    def __getitem__(self, key: Any) -> Any:
        block = self.source[key]
        block = block.compute() if hasattr(block, "compute") else block
        return block if sp.issparse(block) else np.asarray(block)


def is_lazy(values: Any) -> bool:
    """Whether the values are a dask array, or a zarr array."""
    of_dask = type(values).__module__.partition(".")[0] == "dask" and hasattr(values, "compute")
    return (of_dask and hasattr(values, "chunks")) or isinstance(values, zarr.Array)
