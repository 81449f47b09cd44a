"""Names of cells, genes and locations: made into labels, looked up, and shown in messages.

Names must agree exactly. Near misses are pointed out, never matched.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

from perler_jax.errors import PerlerInputError

Names: TypeAlias = Sequence[str] | np.ndarray | pd.Index


def as_labels(names: Any, what: str, axis: str, expected: int) -> np.ndarray:
    """Names as a read-only array of str of its own; refuse a wrong number, blanks and repeats."""
    texts = _texts(names, what, axis, expected)
    repeated = pd.Index(texts).duplicated()
    if repeated.any():
        raise PerlerInputError(
            f"expected unique {what} names; found {repeated.sum()} repeated "
            f"({few(pd.unique(np.asarray(texts)[repeated]))}); merge or rename them: which one is meant "
            "cannot be guessed"
        )
    return _sealed(texts)


def as_gene_labels(names: Any, what: str, expected: int) -> tuple[np.ndarray, dict[str, str]]:
    """Names of genes; repeated ones are made unique as AnnData does ("a", "a-1", "a-2").

    Returns:
        (genes,) names as of :func:`as_labels`, and what each of the repeated ones was called.
    """
    texts = pd.Index(_texts(names, what, "column", expected))
    if texts.is_unique:
        return _sealed(texts), {}
    unique = make_index_unique(texts)
    repeated = texts.duplicated(keep=False)
    return _sealed(unique), dict(zip(unique[repeated], texts[repeated], strict=True))


def _texts(names: Any, what: str, axis: str, expected: int) -> list[str]:
    raw = np.asarray(names, dtype=object)
    if raw.shape != (expected,):
        raise PerlerInputError(
            f"expected {expected} {what} names, one per {axis}; found shape {raw.shape}; check the names and "
            "the orientation of the table"
        )
    texts = [name.decode() if isinstance(name, bytes) else str(name) for name in raw]
    blank = pd.isna(raw) | np.array([not text.strip() for text in texts])
    if blank.any():
        raise PerlerInputError(
            f"expected a name for every {what}; found {blank.sum()} missing (first at position "
            f"{int(np.argmax(blank))}); name or drop them"
        )
    return texts


def _sealed(texts: Any) -> np.ndarray:
    labels = np.array(texts, dtype=str)
    labels.setflags(write=False)
    return labels


def name_positions(wanted: Any, names: np.ndarray, what: str) -> np.ndarray:
    """Position of each wanted name; refuse unknown ones, with near misses."""
    if isinstance(wanted, str):
        text = str(wanted)  # NumPy's own text shows itself as np.str_('...')
        raise PerlerInputError(
            f"expected a list of {what} names; found the single text {text!r}; pass [{text!r}]"
        )
    shape = getattr(wanted, "shape", (0,))
    if len(shape) != 1:  # a table in the place of names
        kind = type(wanted).__name__
        raise PerlerInputError(f"expected a list of {what} names; found {kind} of shape {tuple(shape)}")
    wanted = np.asarray(wanted, dtype=object).astype(str)
    found = pd.Index(names).get_indexer(wanted)
    unknown = wanted[found < 0]
    if len(unknown):
        raise PerlerInputError(
            f"expected names among the {len(names)} {what}s; found {len(unknown)} unknown ({few(unknown)})"
            f"{near_misses(unknown, names)}; names must agree exactly"
        )
    return found


def positions(selection: Any, names: np.ndarray, what: str) -> np.ndarray:
    """Positions chosen by a slice, a mask, positions (negative ones count from the end) or names."""
    everything = np.arange(len(names))
    if isinstance(selection, slice):
        return everything[selection]
    chosen = np.asarray(selection)
    if chosen.dtype.kind in "OUT":
        return name_positions(selection, names, what)
    with suppress(IndexError):
        if chosen.ndim == 1:
            return everything[chosen if chosen.size else slice(0)]
    raise PerlerInputError(
        f"expected names, positions below {len(names)} or a mask of {len(names)} {what}s; found "
        f"{chosen.dtype} of shape {chosen.shape}; check the selection"
    )


def near_misses(missing: np.ndarray, names: np.ndarray) -> str:
    """Names that agree but for case and punctuation, as a clause to append; empty if there are none."""

    def key(name: str) -> str:
        return re.sub(r"[\W_]", "", name.casefold())

    known = {key(name): name for name in names[::-1]}  # of several, the first
    pairs = [f"{name!s} ~ {known[key(name)]!s}" for name in missing if key(name) in known]
    return f" (near misses: {few(pairs)})" if pairs else ""


def few(names: Any, most: int = 5) -> str:
    """The first few names as text, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
