"""Two halves of the cells predict alone: what they agree on is no accident of which cells there are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from perler_jax.prediction.predictor import Predictor

__all__ = ["SplitHalves", "random_halves"]

_MOST_ENTRIES, _MOST_COLUMNS = 30_000_000, 256  # of all halves and points side by side

Patterns = Float[np.ndarray, "locations genes"]
Half: TypeAlias = tuple[np.ndarray, Predictor]  # which cells, and what they predict with


def random_halves(n_cells: int, splits: int, *, seed: int) -> Int[np.ndarray, "splits 2 half"]:
    """Cells of two random halves of one size, several times; of an odd number one cell is in neither."""
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(n_cells)[: n_cells // 2 * 2] for _ in range(splits)])
    return np.sort(orders.reshape(splits, 2, -1))


@dataclasses.dataclass(frozen=True, eq=False)
class SplitHalves:
    """A predictor from each of many halves of its cells.

    Attributes:
        predictor: of the fit or a fold.
        rows: cells of each half, from `random_halves`.
    """

    predictor: Predictor
    rows: Int[np.ndarray, "splits 2 half"]

    def patterns(
        self,
        names: Shaped[np.ndarray, " genes"],
        values: Float[np.ndarray, "cells genes"],
        *,
        width: int | None = None,
    ) -> Iterator[tuple[Patterns, Patterns]]:
        """Patterns of genes that both halves of each split give, before they are smoothed.

        Args:
            names: of the genes: a landmark takes no part in its own regression.
            values: centred log2 expression of all cells.
            width: pad blocks to so many genes, so that one compiled program serves blocks of all sizes.
        """
        source, columns = self.predictor.source, 2 * len(self.rows) * (values.shape[1] + 1)
        entries = 0 if source is None else columns * source.shares.size * len(source.locations)
        if source is not None and columns <= _MOST_COLUMNS and entries <= _MOST_ENTRIES:
            yield from self._together(names, values)
            return
        for one, other in self._halves:
            yield self._alone(one, names, values, width), self._alone(other, names, values, width)

    def _together(self, names: np.ndarray, values: np.ndarray) -> Iterator[tuple[Patterns, Patterns]]:
        """All halves in one pass over cells and locations, which is less work for few genes."""
        source = self.predictor.source
        assert source is not None
        halves = [half for pair in self._regressions for half in pair]
        rests = np.zeros((len(values), len(halves), values.shape[1]), self.predictor.dtype)
        present = np.zeros((len(values), len(halves)), self.predictor.dtype)
        carried = []
        for at, (rows, own) in enumerate(halves):
            rests[rows, at], of_map = own.split(names, _centred(values[rows]))
            present[rows, at] = 1.0
            carried.append(of_map)
        means = np.asarray(source.part_means(jnp.asarray(rests), jnp.asarray(present)))
        found = np.einsum("p,pkhg->hkg", np.asarray(source.shares), means) + np.stack(carried)
        yield from zip(found[::2], found[1::2], strict=True)

    @staticmethod
    def _alone(half: Half, names: np.ndarray, values: np.ndarray, width: int | None) -> Patterns:
        rows, own = half
        rest, carried = own.split(names, _centred(values[rows]))
        return own.total(rest, width=width) + carried

    @functools.cached_property
    def _halves(self) -> list[tuple[Half, Half]]:
        """Each half with its own weights."""
        take = self.predictor.take
        return [((one, take(one)), (other, take(other))) for one, other in self.rows]

    @functools.cached_property
    def _regressions(self) -> list[tuple[Half, Half]]:
        """Each half with its own regressions, and the weights of all cells."""
        take = functools.partial(self.predictor.take, weights=False)
        return [((one, take(one)), (other, take(other))) for one, other in self.rows]


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)
