"""The scale that values are read with: as said, or by what they show; never on a guess."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

from perler_jax.errors import PerlerInputError, PerlerWarning
from perler_jax.inputs.interface import argument
from perler_jax.inputs.scale_evidence import Evidence, look_at, totals_seen, units_of_rows
from perler_jax.inputs.scales import LOGARITHMS, Scale, known_scale
from perler_jax.inputs.storage import Survey

__all__ = ["Reading", "read_scale"]

logger = logging.getLogger("perler_jax")

_LARGEST_LOG = 30.0  # log2 of more molecules than any row holds
_MANY_GENES = 1000  # so many that row sums tell of depth, whatever the genes are
_DEPTHS_DIFFER = 1.5  # 90 % over 10 % quantile of the row sums
_ALIKE, _SMALL = 0.975, 4.0  # intensities of order one, whose logarithm looks like them
_FORMULA = {"linear": "the values", "log1p": "e^x - 1", "log2": "2^x - 1", "log1p twice": "e^(e^x - 1) - 1"}


@dataclass(frozen=True)
class Reading:
    """How values are read.

    Attributes:
        scale: of the values.
        sentence: what decided it.
        raw: whether depth differs from row to row still: counts, or logarithms of them.
        smallest_unit: what one molecule became in the row where it became least; None if not known.
        middle_unit: the median of it over rows.
        total: that all rows have; None if they have none in common.
    """

    scale: Scale
    sentence: str
    raw: bool = False
    smallest_unit: float | None = None
    middle_unit: float | None = None
    total: float | None = None


def read_scale(scale: Scale, values: Any, seen: Survey, side: str, marked: str | None = None) -> Reading:
    """Decide how values of cells or locations are read, and say it.

    Args:
        scale: as said; "auto" lets the values tell.
        values: (rows, genes) of any layout.
        seen: range and kind of all values.
        side: "cells" or "reference".
        marked: scale that the data themselves name; it counts where the numbers leave the question open.

    Warns:
        PerlerWarning: values that contradict what was said, or that were read by their row sums alone.

    Raises:
        PerlerInputError: nothing decides.
    """
    if seen.integers and seen.minimum >= 0:
        return _whole(scale, seen, values, side)
    if seen.minimum < 0:
        return _told(Reading(scale, "as said"), side)
    evidence = look_at(values)
    found = _by_numbers(evidence, values, side)
    if scale != "auto":
        return _as_said(scale, found, evidence, side)
    if found is None:
        found = _by_circumstances(evidence, seen, values.shape[1], side, marked)
    return _told(found, side)


def _whole(scale: Scale, seen: Survey, values: Any, side: str) -> Reading:
    if scale == "auto":
        if side == "reference" and seen.maximum <= 1:
            return _told(Reading("binary", "only 0 and 1"), side)
        least, most = totals_seen(values)
        what = f"whole numbers, totals from {least:,.0f} to {most:,.0f}"
        return _told(Reading("counts", what, raw=True), side)
    if scale in LOGARITHMS and seen.maximum > _LARGEST_LOG:
        _warn(
            f"expected logarithms in the {side}, as said; found a maximum of {seen.maximum:g}, all values "
            f"are integers, as counts are; say {argument('scale', 'counts', side)} if they are"
        )
    return _told(Reading(scale, "as said", raw=scale == "counts"), side)


def _as_said(scale: Scale, found: Reading | None, evidence: Evidence, side: str) -> Reading:
    """What was said, with what the numbers tell of units; a contradiction is not passed over."""
    same = {"counts": "linear"}
    if found is not None and same.get(found.scale, found.scale) == same.get(scale, scale):
        raw = {"counts": True, "linear": False}.get(scale, found.raw)
        smallest, middle = (found.smallest_unit, found.middle_unit) if found.raw == raw else (None, None)
        known = Reading(scale, f"as said; {found.sentence}", raw, smallest, middle, found.total)
        return _told(known, side)
    if scale in ("log1p", "log2") and evidence.maximum > _LARGEST_LOG:
        _warn(
            f"expected logarithms in the {side}, as said; found a maximum of {evidence.maximum:g}, as of "
            f"linear values; say {argument('scale', 'linear', side)} if they were not logged"
        )
    elif found is not None and scale != "centred":
        _warn(
            f"the {side} are taken as {scale}, as said, but {found.sentence}, as in values of scale "
            f"{found.scale!r}; say {argument('scale', found.scale, side)} if that is what they are"
        )
    return _told(Reading(scale, "as said", raw=scale == "counts"), side)


def _by_numbers(evidence: Evidence, values: Any, side: str) -> Reading | None:
    """What multiples and totals decide between them; None where they do not."""
    by_units = {name: units.share for name, units in evidence.units.items()}
    possible = list(by_units or evidence.totals)
    if len(possible) > 1:
        both = [name for name in possible if name in evidence.totals]
        possible = both or sorted(possible, key=by_units.__getitem__)[-1:]
    if len(possible) != 1:
        return None
    name = possible[0]
    total, units = evidence.totals.get(name), evidence.units.get(name)
    if units is not None:
        units = units_of_rows(values, name) or units
    what = []
    if total is not None:
        what.append(f"sum to {total:,.6g}")
    if units is not None:
        same = f" ({units.middle:.3g} in all rows)" if units.same else ""
        what.append(f"are multiples of one number in {units.share:.0%} of the rows{same}")
    sentence = f"{_FORMULA[name]} {' and '.join(what)}"
    if name == "log1p twice":
        raise PerlerInputError(
            f"expected {side} whose logarithm was taken once; found that {sentence}: it was taken twice; "
            "give the counts, or values that were logged once"
        )
    raw = units is not None and units.same and total is None
    scale: Any = "counts" if raw and name == "linear" else name
    smallest, middle = (None, None) if units is None else (units.smallest, units.middle)
    return Reading(scale, sentence, raw, smallest, middle, total)


def _by_circumstances(
    evidence: Evidence, seen: Survey, n_genes: int, side: str, marked: str | None
) -> Reading:
    """What else may decide where neither totals nor multiples do."""
    what = f"a maximum of {seen.maximum:,.4g}"
    logged = seen.maximum <= _LARGEST_LOG
    if marked is not None and (logged or marked not in LOGARITHMS):
        return Reading(known_scale(marked), f"so the data themselves say; {what}", raw=marked == "counts")
    if evidence.below_whole:
        return Reading("counts", f"values lie just below whole numbers, as of corrected counts; {what}", True)
    if side == "reference" and not logged:  # counts would be treated alike
        return Reading("linear", f"{what}, which no logarithm reaches")
    if side == "reference" and evidence.alike >= _ALIKE and seen.maximum <= _SMALL:
        return Reading("linear", f"{what}; their logarithms look alike, so the choice matters little")
    if not logged and n_genes >= _MANY_GENES and evidence.spread >= _DEPTHS_DIFFER:
        _warn(
            f"the {side} are read as corrected counts: fractions with {what}, which no logarithm reaches, "
            f"and row sums that differ {evidence.spread:.1f}-fold; say {argument('scale', 'counts', side)} "
            f"to confirm, or {argument('scale', 'linear', side)} if depth was normalised already"
        )
        return Reading("counts", f"fractions with {what}, row sums differ as depths do", raw=True)
    likely = ("log1p", "log2") if logged and evidence.spread < 3 else ("log1p", "counts")
    seen_there = (
        f"{what}, {evidence.share_whole:.0%} whole numbers among the values above 0, row sums that differ "
        f"{evidence.spread:.2g}-fold (10 % to 90 % of the rows)"
    )
    raise _refusal(side, seen_there, likely if logged else ("counts", "linear"))


def _refusal(side: str, found: str, likely: tuple[str, str]) -> PerlerInputError:
    first, second = (argument("scale", name, side) for name in likely)
    return PerlerInputError(
        f"expected {side} whose values tell their scale; found {found}, which fits {likely[0]} as well as "
        f"{likely[1]} (or none of the two); say {first} or {second}, or another scale, or give raw counts"
    )


def _told(reading: Reading, side: str) -> Reading:
    logger.info("%s: read as %s: %s", side, reading.scale, reading.sentence)
    return reading


def _warn(message: str) -> None:
    warnings.warn(message, PerlerWarning, stacklevel=7)
