"""Forms that counts take on their way to a user: what is done to them, and in what they are handed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from anndata import AnnData

__all__ = ["GIVINGS", "Giving"]

Form = Callable[[np.ndarray], AnnData]


@dataclass(frozen=True)
class Giving:
    """One way to give both sides; a map that holds intensities, not counts, is given as it is.

    Attributes:
        name: in words.
        cells: form of the cells.
        reference: form of the map.
    """

    name: str
    cells: Form
    reference: Form


def counts(values: np.ndarray) -> AnnData:
    """As they were measured."""
    return AnnData(values.astype(np.float32))


def normalised(total: float | None, logarithm: str | None = None) -> Form:
    """Rows brought to one total (None: their median, as `scanpy.pp.normalize_total`), then logged."""

    def form(values: np.ndarray) -> AnnData:
        sums = values.sum(axis=1, keepdims=True)
        target = np.median(sums[sums > 0]) if total is None else total
        linear = values / np.where(sums > 0, sums, 1.0) * target
        table = AnnData({None: linear, "log1p": np.log1p(linear), "log2": np.log2(1 + linear)}[logarithm])
        table.X = table.X.astype(np.float32)
        if logarithm == "log1p":
            table.uns["log1p"] = {"base": None}  # the mark that `scanpy.pp.log1p` leaves
        return table

    return form


def share(values: np.ndarray) -> AnnData:
    """A constant share of each count: what a uniform correction for ambient molecules leaves."""
    return AnnData((values * 0.93).astype(np.float32))


def less_ambient(values: np.ndarray) -> AnnData:
    """Less the ambient molecules expected of each gene, a tenth of the cell: subtraction, as in SoupX."""
    profile = values.sum(axis=0) / values.sum()
    expected = 0.1 * values.sum(axis=1, keepdims=True) * profile
    return AnnData(np.maximum(values - expected, 0.0).astype(np.float32))


def part_contaminated(values: np.ndarray) -> AnnData:
    """Each count less a random share, mostly small: as DecontX leaves them."""
    taken = np.random.default_rng(0).beta(1, 25, values.shape)
    return AnnData((values * (1 - taken)).astype(np.float32))


def logged(values: np.ndarray) -> AnnData:
    """log1p of counts that were never normalised."""
    return AnnData(np.log1p(values).astype(np.float32))


def scaled(values: np.ndarray) -> AnnData:
    """Centred and brought to unit variance, as `scanpy.pp.scale` does after log1p."""
    logs = np.asarray(normalised(1e4, "log1p")(values).X)
    spread = logs.std(axis=0)
    return AnnData((logs - logs.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


MEDIAN, CP10K = normalised(None, "log1p"), normalised(1e4, "log1p")
GIVINGS = [
    Giving("counts on both sides", counts, counts),
    Giving("counts; map log1p of the median total", counts, MEDIAN),
    Giving("log1p of the median total on both sides", MEDIAN, MEDIAN),
    Giving("log1p of 10,000 on both sides", CP10K, CP10K),
    Giving("10,000 on both sides, not logged", normalised(1e4), normalised(1e4)),
    Giving("10,000, not logged; map counts", normalised(1e4), counts),
    Giving("shares of 1 on both sides", normalised(1.0), normalised(1.0)),
    Giving("log2 of the median total; map counts", normalised(None, "log2"), counts),
    Giving("counts; map log2 of 10,000", counts, normalised(1e4, "log2")),
    Giving("log1p of counts on both sides", logged, logged),
    Giving("counts x 0.93 on both sides", share, share),
    Giving("counts x 0.93; map counts", share, counts),
    Giving("counts less ambient ones; map counts", less_ambient, counts),
    Giving("counts less a random share; map counts", part_contaminated, counts),
    Giving("scaled to unit variance on both sides", scaled, scaled),
]
