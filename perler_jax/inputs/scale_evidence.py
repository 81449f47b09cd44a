"""What values tell of their scale: measurements on a sample of rows, without a decision.

Counts are whole. Whatever was done to them afterwards leaves two marks. Normalised rows sum to one total; and
the values of a row are whole multiples of one number (what one molecule became), which stays true where genes
were left out and totals are lost. Both are looked for in the values as they are and in what logarithms hide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from perler_jax.inputs.scales import from_log
from perler_jax.inputs.storage import is_backed, layout, pieces, plain

__all__ = ["Evidence", "Units", "look_at", "totals_seen", "units_of_rows"]

_ROWS = 400  # looked at for evidence
_ROWS_OF_UNITS = 5000
_MOST_UNITS = 4  # a row's smallest value may be so many molecules
_VALUES = 48  # of a row: its smallest ones, where multiples are told apart best
_SLACK = 0.01  # of a unit, beyond the rounding of the values
_SHARE = 0.5  # of rows that must agree
_EQUAL_TOTALS = 5e-3
_LARGEST_LOG = 40.0  # beyond it e^x is no expression


@dataclass(frozen=True)
class Units:
    """What one molecule became in each row.

    Attributes:
        share: of the rows that have several different values, those that hold multiples of one number.
        same: whether it is one number for all rows.
        smallest: of the rows' units: that of the deepest row, where rows were brought to one total.
        middle: the median of the rows' units.
    """

    share: float
    same: bool
    smallest: float
    middle: float


@dataclass(frozen=True)
class Evidence:
    """Of one table.

    Attributes:
        maximum: of the sampled values.
        share_whole: of the values that are not zero.
        share_zero: of all values.
        spread: of the row sums: 90 % quantile over 10 % quantile.
        totals: by scale ("linear", "log1p", "log2", "log1p twice"): the total that rows have in common.
        units: by scale: multiples of one number, where rows hold them.
        below_whole: whether values gather just below whole numbers, as corrected counts do.
        alike: least correlation over columns between the values and their logarithm.
    """

    maximum: float
    share_whole: float
    share_zero: float
    spread: float
    totals: dict[str, float]
    units: dict[str, Units]
    below_whole: bool
    alike: float


Rows = list[np.ndarray]


def look_at(values: Any) -> Evidence:
    """Measure a sample of rows of non-negative values of any layout."""
    block, whole_rows = _sample(values, _ROWS)
    rows = _present(block)
    together = np.concatenate(rows) if rows else np.zeros(1)
    sums = np.array([row.sum() for row in rows]) if rows else np.ones(1)
    low, high = np.quantile(sums, (0.1, 0.9))
    error = _rounding(together, block.dtype)
    totals, units = {}, {}
    for scale in ("linear", "log1p", "log2", "log1p twice"):
        if scale != "linear" and together.max() > (3.0 if scale == "log1p twice" else _LARGEST_LOG):
            continue
        undone = [_undo(row, scale) for row in rows]
        common = _common_total(undone) if whole_rows else None
        if common is not None:
            totals[scale] = common
        found = _find_units(rows, scale, error) or (
            _common_unit(together, error) if scale == "linear" else None
        )
        if found is not None:
            units[scale] = found
    if len(totals) > 1:
        totals = {}  # rows are rearrangements of one another: any function of them sums to one total
    return Evidence(
        maximum=float(together.max()),
        share_whole=float((together == np.rint(together)).mean()),
        share_zero=1.0 - len(together) / max(block.shape[0] * block.shape[1], 1),
        spread=float(high / low) if low > 0 else np.inf,
        totals=totals,
        units=units,
        below_whole=_below_whole(together),
        alike=_alike(block),
    )


def units_of_rows(values: Any, scale: str) -> Units | None:
    """Of many rows more than evidence needs: the deepest row is to be among them."""
    block, _ = _sample(values, _ROWS_OF_UNITS)
    rows = _present(block)
    return _find_units(rows, scale, _rounding(np.concatenate(rows), block.dtype))


def totals_seen(values: Any) -> tuple[float, float]:
    """Least and largest row sum of a sample."""
    sums = [row.sum() for row in _present(_sample(values, _ROWS)[0])] or [0.0]
    return float(min(sums)), float(max(sums))


def _sample(values: Any, most: int) -> tuple[Any, bool]:
    """Evenly spaced rows in memory (dense or CSR), and whether they hold all columns.

    Of a file that is stored column by column, only the first columns are read.
    """
    chosen = np.unique(np.linspace(0, values.shape[0] - 1, min(most, values.shape[0])).astype(int))
    if is_backed(values) and layout(values) == "csc":
        _, window, block = next(iter(pieces(values)))
        return sp.csr_array(block)[chosen], window.stop - window.start == values.shape[1]
    block = values[chosen]
    return (sp.csr_array(plain(block)) if sp.issparse(block) else np.asarray(block)), True


def _find_units(rows: Rows, scale: str, error: tuple[float, float]) -> Units | None:
    """The number of which each row's values are multiples, once ``scale`` is undone; None if there is none.

    Args:
        rows: of each row the values that are not zero.
        scale: "linear", "log1p", "log2" or "log1p twice".
        error: relative and absolute error that the values were rounded with.
    """
    judged, fitting, expected = 0, [], 0.0
    for row in rows:
        found = _unit(row, scale, error)
        if found is None:
            continue
        unit, chance = found
        judged += 1
        expected += chance
        if unit is not None:
            fitting.append(unit)
    # Far more rows than chance lets fit, and a good part of all of them.
    few = len(fitting) < 4 or len(fitting) < _SHARE * judged
    if few or len(fitting) < 3 * expected + 5 * np.sqrt(expected):
        return None
    units = np.array(fitting)
    middle = float(np.median(units))
    same = float((np.abs(units / middle - 1) < 2e-3).mean()) > 0.8
    return Units(len(fitting) / judged, same, float(units.min()), middle)


def _common_unit(values: np.ndarray, error: tuple[float, float]) -> Units | None:
    """The number of which all values are multiples, where rows alone are too short: counts by a constant."""
    found = _unit(values, "linear", error)
    if found is None or found[0] is None or found[1] > 1e-6:
        return None
    return Units(1.0, True, found[0], found[0])


def _unit(row: np.ndarray, scale: str, error: tuple[float, float]) -> tuple[float | None, float] | None:
    """A row's unit (None: it has none) and the chance that random numbers had one; None: cannot tell."""
    given = np.unique(row)[: 4 * _VALUES]
    values = _undo(given, scale)
    # How far rounding of what was given moves what was logged.
    with np.errstate(
        over="ignore"
    ):  # values that no logarithm reaches: their blur is infinite, and rules it out
        slopes = {
            "linear": np.ones_like(given),
            "log1p": 1 + values,
            "log2": (1 + values) * np.log(2.0),
        }
        slope = slopes[scale] if scale in slopes else (1 + values) * np.exp(given)
    blur = slope * np.maximum(given * error[0], error[1])
    distinct = np.append(True, np.diff(values) > 2 * (blur[1:] + blur[:-1]) + 1e-6 * values[1:])
    values, blur = values[distinct][:_VALUES], blur[distinct][:_VALUES]
    if len(values) < 2 or values[0] <= 0:
        return None
    chance, unit, told = 0.0, None, False
    for parts in range(1, _MOST_UNITS + 1):
        ratio = values[1:] * parts / values[0]
        slack = _SLACK + parts * (blur[1:] + ratio * blur[0] / parts) / values[0]
        sharp = slack < 0.15
        if not sharp.any():
            continue
        told = True
        chance += float(np.prod(2 * slack[sharp]))
        if unit is None and (np.abs(ratio - np.rint(ratio))[sharp] <= slack[sharp]).all():
            unit = float(values[0] / parts)
    return (unit, min(chance, 1.0)) if told else None


def _undo(values: np.ndarray, scale: str) -> np.ndarray:
    if scale == "log1p twice":
        return np.expm1(np.expm1(values))
    return from_log(values, scale)


def _common_total(rows: Rows) -> float | None:
    """The total that nearly all rows have, where there are rows enough to say."""
    if len(rows) < 4 or max(map(len, rows)) < 3:
        return None
    sums = np.array([row.sum() for row in rows])
    middle = float(np.median(sums))
    return middle if float((np.abs(sums / middle - 1) < _EQUAL_TOTALS).mean()) > 0.95 else None


def _rounding(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Relative and absolute error of the values: of their type, of the decimals they were written with."""
    relative = {2: 2.0**-11, 4: 2.0**-23}.get(dtype.itemsize, 2.0**-44) if dtype.kind == "f" else 0.0
    for decimals in range(1, 7):
        shifted = values * 10.0**decimals
        blur = np.abs(shifted) * max(relative, 1e-13) * 2
        if blur.max() > 0.1:
            break
        if (np.abs(shifted - np.rint(shifted)) <= blur + 1e-9).all():
            return relative, 0.5 * 10.0**-decimals
    return relative, 0.0


def _below_whole(values: np.ndarray) -> bool:
    """Whether values between whole numbers lie mostly in the last quarter, in three intervals at least."""
    told = []
    for whole in range(1, 11):
        inside = values[(values > max(whole - 1, 0.5)) & (values <= whole)]
        if len(inside) >= 20:
            share = float((inside > whole - 0.25).mean())
            told.append(share > (0.7 if whole == 1 else 0.45))
    return len(told) >= 3 and sum(told) > 0.75 * len(told)


def _alike(block: Any) -> float:
    """Least correlation over columns of x with log(1 + x); 1 where no column varies."""
    x = np.asarray(block.toarray() if sp.issparse(block) else block, np.float64)[:, :2000]
    logs = np.log1p(np.maximum(x, 0))
    x, logs = x - x.mean(axis=0), logs - logs.mean(axis=0)
    size = np.sqrt((x**2).sum(axis=0) * (logs**2).sum(axis=0))
    return float(((x * logs).sum(axis=0)[size > 0] / size[size > 0]).min(initial=1.0))


def _present(block: Any) -> Rows:
    """Of each row the values that are not zero; rows without are left out."""
    rows = np.split(block.data, block.indptr[1:-1]) if sp.issparse(block) else list(block)
    rows = [row[row != 0].astype(np.float64) for row in rows]
    return [row for row in rows if len(row)]
