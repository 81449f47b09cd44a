"""The matrix behind the labels: dense, sparse or backed by a file; walked over in pieces and read in part.

Rows are cells or locations, columns are genes. Nothing here knows of names or scales; nothing is written to.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset
from jaxtyping import Bool, Float

from perler_jax.inputs.lazy import LazyMatrix, is_lazy

_PIECE = 2**23  # entries (as if dense) looked at in one go: 64 MB of float64
_PASS_BYTES = 2**28  # what one pass over a backed file may keep in memory


class Survey(NamedTuple):
    """What one pass over the values tells; backed values: the first piece only, and no ``empty``."""

    minimum: float
    maximum: float
    integers: bool
    finite: bool
    empty: Bool[np.ndarray, " rows"] | None


def is_backed(values: Any) -> bool:
    """Whether the values lie in a file, or are a dask array, and are read when asked for."""
    return isinstance(values, h5py.Dataset | CSRDataset | CSCDataset | LazyMatrix) or is_lazy(values)


def layout(values: Any) -> str:
    """The order in which values are stored: "dense", "csr" or "csc"."""
    return getattr(values, "format", "dense")


def read_only(values: np.ndarray) -> np.ndarray:
    """A view that cannot be written through; the array itself stays as it is."""
    view = values.view()
    view.setflags(write=False)
    return view


def plain(values: Any) -> Any:
    """Sparse values as a SciPy CSR or CSC array that shares their memory, dense ones as a read-only view."""
    if is_backed(values):
        return LazyMatrix(values) if is_lazy(values) else values
    if not sp.issparse(values):
        return read_only(np.asarray(values))
    values = sp.csc_array(values) if values.format == "csc" else sp.csr_array(values)
    if not values.has_canonical_format:  # duplicated entries would be seen as two small values
        values = values.copy()
        values.sum_duplicates()
    return values


def dense_float(values: Any) -> Float[np.ndarray, "rows columns"]:
    """Values in memory as a dense array: float32 if they are float32 or smaller floats, else float64."""
    dtype = np.float32 if values.dtype in (np.float32, np.float16) else np.float64
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=dtype)


def pieces(values: Any) -> Iterator[tuple[slice, slice, Any]]:
    """Walk over values of any layout along the axis cheap to cut: (rows, columns, block in memory)."""
    n_rows, n_columns = values.shape
    by_column = layout(values) == "csc"
    length, across = (n_columns, n_rows) if by_column else (n_rows, n_columns)
    step = max(1, _PIECE // across)
    if isinstance(values, LazyMatrix):  # whole blocks, none of them read twice, if they are not too large
        block = values.chunk(1 if by_column else 0)
        step = max(1, step // block) * block if block <= 4 * step else step
    for start in range(0, length, step):
        window = slice(start, min(start + step, length))
        if by_column:
            yield slice(0, n_rows), window, plain(values[:, window])
        else:
            yield window, slice(0, n_columns), plain(values[window])


def survey(values: Any) -> Survey:
    """Range and kind of the values, zeros included."""
    low, high, integers, finite = 0.0, 0.0, True, True
    seen = np.zeros(values.shape[0], dtype=np.int64)
    for rows, _, block in pieces(values):
        entries = block.data if sp.issparse(block) else block
        if entries.size:
            low, high = min(low, float(entries.min())), max(high, float(entries.max()))
        if entries.dtype.kind == "f":
            finite = finite and bool(np.isfinite(entries).all())
            integers = integers and bool((entries == np.rint(entries)).all())
        seen[rows] += np.asarray((block != 0).sum(axis=1)).ravel()
        if is_backed(values):
            return Survey(low, high, integers, finite, None)
    return Survey(low, high, integers, finite, seen == 0)


def row_sums(values: Any, change: Callable[[Any], Any] = lambda block: block) -> Float[np.ndarray, " rows"]:
    """Sum over the columns, in float64, of the values or of what ``change`` makes of them."""
    total = np.zeros(values.shape[0])
    for rows, _, block in pieces(values):
        total[rows] += np.asarray(change(block).sum(axis=1, dtype=np.float64)).ravel()
    return total


def count_positive(values: Any) -> Float[np.ndarray, " columns"]:
    """Number of rows above zero, column by column."""
    count = np.zeros(values.shape[1])
    for _, columns, block in pieces(values):
        count[columns] += np.asarray((block > 0).sum(axis=0)).ravel()
    return count


def gather(values: Any, columns: np.ndarray | slice = slice(None), rows: np.ndarray | None = None) -> Any:
    """The chosen columns (and rows) in memory, dense or sparse; quick for dense and CSC values.

    A file that is stored row by row is walked over once, whatever is chosen.
    """
    if not is_backed(values) or layout(values) == "csc":
        block = plain(values[:, columns]) if is_backed(values) else values[:, columns]
        return block if rows is None else block[rows]
    keep = np.zeros(values.shape[0], dtype=bool)
    keep[slice(None) if rows is None else rows] = True
    parts = [piece[keep[window]][:, columns] for window, _, piece in pieces(values)]
    together: Any = sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)
    del parts  # so that never more than two copies are in memory
    block = together.tocsc() if sp.issparse(together) else together
    return block if rows is None else block[np.cumsum(keep)[rows] - 1]


def dense_columns(values: Any, columns: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """The chosen columns as a dense array, piece by piece: quick where they are many and values CSR."""
    dtype = dense_float(values[:1]).dtype
    dense = np.empty((values.shape[0], len(columns)), dtype)
    for window, _, piece in pieces(values):
        dense[window] = dense_float(piece[:, columns])
    return dense


def column_passes(values: Any, columns: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut the columns into what to gather at once: ``size`` of them, more where a file is read row by row.

    Then it is a multiple of ``size``, as large as the memory budget of one pass allows.
    """
    at_once = size
    if is_backed(values) and layout(values) != "csc":
        dense = layout(values) == "dense"
        if isinstance(values, LazyMatrix):
            entries = values.n_stored
        else:
            entries = values.size if dense else values.group["data"].shape[0]
        bytes_of_column = entries * (values.dtype.itemsize + (0 if dense else 8)) / values.shape[1]
        at_once = max(size, int(_PASS_BYTES // max(bytes_of_column, 1.0)) // size * size)
    for start in range(0, len(columns), at_once):
        yield columns[start : start + at_once]
