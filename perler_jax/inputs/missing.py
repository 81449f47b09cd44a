"""What becomes of values that a reference lacks (NaN: "this gene was not measured here").

They are refused unless the user says otherwise; left out gene by gene; or filled in (`filling.py`), with a
mask that says which values were measured: those alone are scored.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped

from perler_jax.choices import Missing
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.data import SpatialReference
from perler_jax.inputs.filling import choose_penalty, fill_gaps
from perler_jax.inputs.interface import argument
from perler_jax.inputs.labels import few

__all__ = [
    "FEWEST_LANDMARKS",
    "Missing",
    "check_missing",
    "fill_reference",
    "genes_to_keep",
    "placeholders",
    "refilled",
]

logger = logging.getLogger("perler_jax")

FEWEST_LANDMARKS = 3
_FEWEST_MEASURED = 10  # locations of a gene from which a regression can be learned
_MOST_GENES = 3000  # of which each is regressed on all others


def check_missing(missing: str) -> None:
    """Refuse a word that is none of the three."""
    if missing not in get_args(Missing):
        raise PerlerInputError(f"expected missing to be {', '.join(get_args(Missing))}; found {missing!r}")


def genes_to_keep(
    measured: Bool[np.ndarray, "locations genes"],
    locations: Shaped[np.ndarray, " locations"],
    genes: Shaped[np.ndarray, " genes"],
    missing: Missing,
) -> Bool[np.ndarray, " genes"]:
    """Which genes of a map with gaps are used; those that are not are named in the log.

    Args:
        measured: whether each value was measured; not everywhere.
        locations: names.
        genes: names.
        missing: what the user chose.

    Raises:
        PerlerInputError: gaps that nobody allowed, a location where no gene was measured, or too few genes
            left.
    """
    check_missing(missing)
    _require_some_gene(measured, locations)
    whole = measured.all(axis=0)
    if missing == "refuse":
        raise PerlerInputError(
            "expected every gene measured at every location of the reference; found "
            f"{(~measured).sum()} values missing (NaN), of {(~whole).sum()} of {len(genes)} genes "
            f"({few(genes[~whole])}) at {(~measured.all(axis=1)).sum()} of {len(locations)} locations; pass "
            f"{_say('drop')} to leave these genes out, or {_say('fill')} to fill them in from the other genes"
        )
    enough = measured.sum(axis=0) >= min(_FEWEST_MEASURED, len(locations))
    keep = np.asarray(whole if missing == "drop" else enough)
    if keep.sum() < FEWEST_LANDMARKS:
        raise PerlerInputError(
            f"expected at least {FEWEST_LANDMARKS} genes with enough measured values ({_say(missing)}); "
            f"found {keep.sum()} of {len(genes)}; {_otherwise(missing)}"
        )
    if missing == "fill" and keep.sum() > _MOST_GENES:
        raise PerlerInputError(
            f"expected at most {_MOST_GENES} genes in a reference that is to be filled in; found "
            f"{keep.sum()}; choose the landmarks first, or pass {_say('drop')}"
        )
    if not keep.all():
        why = (
            "not measured everywhere"
            if missing == "drop"
            else f"measured at fewer than {_FEWEST_MEASURED} locations"
        )
        logger.warning(
            "%s: left out %d of %d genes of the reference, %s (%s)",
            *(_say(missing), (~keep).sum(), len(genes), why, few(genes[~keep], 20)),
        )
        _require_some_gene(measured[:, keep], locations)
    return keep


def placeholders(
    values: Float[np.ndarray, "locations genes"], measured: Bool[np.ndarray, "locations genes"]
) -> Float[np.ndarray, "locations genes"]:
    """The same with a measured value of each gene, the one in the middle, in its gaps: of the same kind."""
    ordered = np.sort(np.where(measured, values, np.inf), axis=0)
    middle = (measured.sum(axis=0) - 1) // 2
    return np.where(measured, values, np.take_along_axis(ordered, middle[None], axis=0))


def fill_reference(reference: SpatialReference) -> SpatialReference:
    """The reference with its gaps filled, and the penalty that was chosen for that."""
    if reference.measured is None:
        return reference
    measured = np.asarray(reference.measured)
    values = _to_log2(reference)
    penalty = choose_penalty(values, measured)
    filled = _from_log2(fill_gaps(values, measured, penalty), reference.scale)
    holes = np.asarray(~measured.all(axis=0))
    logger.warning(
        "%s: %d values of %d of %d genes of the reference were not measured and are filled in by "
        "ridge regression on the other genes (penalty %g; %s); they are not scored",
        *(_say("fill"), (~measured).sum(), holes.sum(), len(holes), penalty, few(reference.genes[holes], 20)),
    )
    values = np.where(measured, reference.values, filled).astype(reference.values.dtype)
    return replace(reference, values=values, penalty=penalty)


def refilled(
    reference: SpatialReference, without: Shaped[np.ndarray, " some"]
) -> Float[np.ndarray, "locations genes"]:
    """Values of all genes, on their scale, with the gaps filled without a trace of some: those held out.

    Args:
        reference: filled already (`fill_reference`).
        without: names of the genes from which nothing may be learned.
    """
    assert reference.measured is not None
    assert reference.penalty is not None
    keep = ~np.isin(reference.genes, without)
    values = fill_gaps(_to_log2(reference), reference.measured, reference.penalty, keep=keep)
    return np.where(reference.measured, reference.values, _from_log2(values, reference.scale))


def _say(missing: str) -> str:
    """The argument, as the interface in use calls it."""
    return argument("missing", missing)


def _otherwise(missing: str) -> str:
    if missing == "drop":
        return f"pass {_say('fill')} to fill gaps in, or leave out locations where little was measured"
    return "leave out locations where little was measured, or give more genes"


def _require_some_gene(measured: np.ndarray, locations: np.ndarray) -> None:
    empty = ~measured.any(axis=1)
    if empty.any():
        raise PerlerInputError(
            f"expected at least one measured gene at every location; found {empty.sum()} locations without "
            f"any ({few(locations[empty])}); leave these locations out"
        )


def _to_log2(reference: SpatialReference) -> np.ndarray:
    values = np.asarray(reference.values, np.float64)
    if reference.scale in ("centred", "binary", "log2"):
        return values
    return values / np.log(2.0) if reference.scale == "log1p" else np.log1p(values) / np.log(2.0)


def _from_log2(values: np.ndarray, scale: str) -> np.ndarray:
    """The way back, to values that the scale can have."""
    if scale == "binary":
        return (values >= 0.5).astype(values.dtype)
    if scale in ("centred", "log2"):
        return values
    # Rounding must not take a zero below zero.
    return np.maximum(values * np.log(2.0) if scale == "log1p" else np.expm1(values * np.log(2.0)), 0.0)
