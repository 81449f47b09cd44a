"""What genes are also called: by columns of ``var``, in ``.raw``, or before repeats were made unique."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few

__all__ = ["BY_INDEX", "GeneNames", "OtherNames", "better_names", "require_unique"]

_VERSION = r"(?<=\d)\.\d+$"  # of an identifier: ENSMUSG00000051951.6
_IDENTIFIER = r"[A-Za-z]{2,}\d{5,}(\.\d+)?"


class OtherNames(NamedTuple):
    """Names that could have been taken, and the arguments that take them.

    Attributes:
        arguments: of `as_cells` and `as_reference`, such as (("use_raw", True),).
        names: (genes,) texts.
    """

    arguments: tuple[tuple[str, Any], ...]
    names: Any


@dataclass(frozen=True)
class GeneNames:
    """Where the names of genes are from, and what else the source offers.

    Attributes:
        gene_key: column of ``var`` that they were taken from; None is the index.
        use_raw: whether values and names are those of ``.raw``.
        others: that could have been taken.
        renamed: what repeated names were, by the unique name that stands for each.
    """

    gene_key: str | None = None
    use_raw: bool = False
    others: tuple[OtherNames, ...] = field(default=(), metadata={"saved": False})
    renamed: Mapping[str, str] = field(default_factory=dict)

    def with_renamed(self, renamed: Mapping[str, str]) -> "GeneNames":
        """The same, with repeats that were found later."""
        return replace(self, renamed={**self.renamed, **renamed}) if renamed else self


BY_INDEX = GeneNames()


def require_unique(names: GeneNames, landmarks: np.ndarray, side: str) -> None:
    """Refuse landmarks whose name is repeated on a side: which of the genes is meant cannot be guessed."""
    if not names.renamed:
        return
    touched = {*names.renamed, *names.renamed.values()}
    repeated = [name for name in map(str, landmarks) if name in touched]
    if repeated:
        raise PerlerInputError(
            f"expected unique names of landmarks in the {side}; found {len(repeated)} repeated "
            f"({few(repeated)}); merge or rename them: which one is meant cannot be guessed"
        )


def better_names(
    cells: np.ndarray, of_cells: GeneNames, reference: np.ndarray, of_reference: GeneNames, shared: int
) -> str:
    """Which other names would give more landmarks, as a clause to append to a message; empty if none would.

    Tried are the other columns of ``var`` and ``.raw`` on both sides, names that differ in case only, and
    identifiers that differ in their version only.

    Args:
        cells: (genes,) names in use.
        of_cells: what else the cells offer.
        reference: (landmarks,) names in use.
        of_reference: what else the reference offers.
        shared: how many names both have as they are.
    """
    left, right = _choices(cells, of_cells, "cells"), _choices(reference, of_reference, "reference")
    best, clause = shared, ""
    for change, advice in _CHANGES:
        changed = [[(arguments, change(names)) for arguments, names in side] for side in (left, right)]
        for (for_cells, a), (for_reference, b) in product(*changed):
            found = len(a.keys() & b.keys())
            if found > best:
                best, taken = found, [each for each in (for_cells, for_reference) if each]
                pair = next((f"{a[key]} ~ {b[key]}" for key in a if key in b and a[key] != b[key]), "")
                how = [f"pass {' and '.join(taken)}"] if taken else []
                how += [advice.format(pair)] if advice and pair else []
                clause = f"; {found} would be shared: {', and '.join(how)}"
    return clause


def _choices(names: np.ndarray, about: GeneNames, side: str) -> list[tuple[str, list[str]]]:
    """The names in use and the others, each with the arguments that take it."""
    others = [
        (" and ".join(argument(*each, side) for each in other.arguments) + f" for the {side}", other.names)
        for other in about.others
    ]
    return [(how, _as_texts(each)) for how, each in [("", names), *others]]


def _as_texts(names: Any) -> list[str]:
    return [str(name) for name in np.asarray(names, dtype=object) if not pd.isna(name)]


def _as_they_are(names: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(names, "")


def _without_case(names: Sequence[str]) -> dict[str, str]:
    return {name.casefold(): name for name in names}


def _without_version(names: Sequence[str]) -> dict[str, str]:
    texts = pd.Series(list(names), dtype=object)
    versioned = texts.str.fullmatch(_IDENTIFIER).to_numpy(bool)
    bare = texts.where(~versioned, texts.str.replace(_VERSION, "", regex=True))
    return dict(zip(bare, texts, strict=True))


_CHANGES: tuple[tuple[Any, str], ...] = (
    (_as_they_are, ""),
    (_without_case, "write them in the same case on both sides ({})"),
    (_without_version, "cut off the versions on both sides ({})"),
)
