"""Experts: ways to carry a gene from the cells to the locations, each linear in the cells' expression.

An expert is a weighted mean of cells (Eqs. 21-22 of Okochi et al. 2021), a regression on landmarks that the
map carries over, or the regression with the weighted mean of what it leaves (the regression, or difference,
estimator of survey sampling):

    y_k = h_k B + sum_n w_nk (y_n - l_n B) / sum_n w_nk,     B = (l'l / N + ridge)^-1 l'y / N,

with l and h the landmarks of cells and of locations, each centred and scaled to variance one. Experts are
mixed, and the mixture is *polished*: smoothed over positions, drawn to the span of the landmarks' maps, or
both. `EXPERTS` and `POLISHES` are the lists that a fit chooses from; the share of each is learned on held-out
landmarks (`shares.py`). Nothing outside of this folder knows what is in the lists.

Note: the paper has the weighted mean alone (`PerlerSettings.paper()`).
"""

from __future__ import annotations

import dataclasses

from perler_jax.choices import NamedCovariance
from perler_jax.errors import PerlerInputError

__all__ = ["EXPERTS", "POLISHES", "Average", "Expert", "Polish", "Space", "usable_experts", "usable_polishes"]


@dataclasses.dataclass(frozen=True)
class Space:
    """Where distances between cells and locations are taken.

    Attributes:
        levels: whether each cell and each location keeps its own level, the mean over its landmarks. Taken
            off, the mapping is fitted without it: a factor on all genes of a cell (its depth, its size) is
            then not taken for expression.
        covariance: of the distance, "fitted" (Eq. 23) or "pooled" (what the released program computed).
        neighbours: share of the squared distance that a cell has from its neighbours in expression, found
            among genes that are no landmark; 0: none.
    """

    levels: bool = True
    covariance: NamedCovariance = "fitted"
    neighbours: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether distances are the paper's (or, pooled, the released program's)."""
        return self.levels and not self.neighbours

    @property
    def name(self) -> str:
        """In words; empty: as in the paper."""
        words = {
            "pooled": self.covariance == "pooled",
            "levels off": not self.levels,
            "neighbours": self.neighbours > 0,
        }
        return ", ".join(word for word, is_so in words.items() if is_so)


@dataclasses.dataclass(frozen=True)
class Average:
    """A weighted mean of cells.

    Attributes:
        alpha: weight of the squared distance.
        beta: weight of the distance.
        space: of the distances.
    """

    alpha: float
    beta: float
    space: Space = Space()


@dataclasses.dataclass(frozen=True)
class Expert:
    """One way to carry a gene from cells to locations.

    Attributes:
        average: of the cells; None: the regression alone.
        ridge: penalty of the regression on landmarks, in units of a landmark's variance; None: none.
        levels: whether the regression sees each row's own level, see `Space`.

    Raises:
        PerlerInputError: neither part, or a number out of range.
    """

    average: Average | None = None
    ridge: float | None = None
    levels: bool = True

    def __post_init__(self) -> None:
        if self.average is None and self.ridge is None:
            raise PerlerInputError("expected an expert with an average, a regression or both; found neither")
        if self.average is not None and not min(self.average.alpha, self.average.beta) >= 0:
            raise PerlerInputError(f"expected alpha and beta >= 0; found {self.average}")
        if self.ridge is not None and not self.ridge > 0:
            raise PerlerInputError(f"expected ridge > 0; found {self.ridge}")

    @property
    def name(self) -> str:
        """In words and numbers, as tables show it."""
        parts = []
        if self.ridge is not None:
            parts.append(f"regression (ridge {self.ridge:g}{'' if self.levels else ', levels off'})")
        if self.average is not None:
            at = self.average
            words = f"; {at.space.name}" if at.space.name else ""
            parts.append(f"weighted mean (alpha {at.alpha:g}, beta {at.beta:g}{words})")
        return " + ".join(parts)

    @property
    def regression(self) -> tuple[float, bool] | None:
        """Penalty and levels of the regression; None where there is none."""
        return None if self.ridge is None else (self.ridge, self.levels)

    @property
    def uses_neighbours(self) -> bool:
        """Whether cells share distances with their neighbours in expression."""
        return self.average is not None and self.average.space.neighbours > 0

    @property
    def is_plain(self) -> bool:
        """Whether it is the paper's weighted mean, at its alpha and beta."""
        return self.ridge is None and self.average is not None and self.average.space.is_plain


@dataclasses.dataclass(frozen=True)
class Polish:
    """What is done to a predicted pattern.

    Attributes:
        smoothing: standard deviation of a Gaussian mean over positions, in spacings of neighbouring
            locations; 0: none.
        span: penalty with which patterns are projected on the span of the landmarks' maps, in units of a
            landmark's variance; 0: they are not.
    """

    smoothing: float = 0.0
    span: float = 0.0

    @property
    def name(self) -> str:
        """In words and numbers."""
        words = [f"smoothed over {self.smoothing:g} spacings"] if self.smoothing else []
        words += ["drawn to the landmarks' maps"] if self.span else []
        return ", ".join(words) or "as it is"


_LEVELLED = Space(levels=False)
_LEVELLED_POOLED = Space(levels=False, covariance="pooled")
_NEIGHBOURS = Space(levels=False, neighbours=0.35)
_RIDGE = 2.0  # beside a weighted mean: between 0.5 and 8 it hardly matters

EXPERTS = (
    # The paper's weighted mean, over the range of alpha and beta in which data sets differ.
    *(Expert(Average(*point)) for point in ((0.5, 0.0), (0.15, 0.4), (0.05, 0.4), (0.015, 0.4), (0.0, 1.6))),
    Expert(Average(0.05, 0.0, _LEVELLED_POOLED)),
    # With what landmarks explain carried over by the map.
    *(Expert(Average(*point), _RIDGE) for point in ((0.15, 0.4), (0.015, 0.4), (0.0, 1.6))),
    *(Expert(Average(*point, _LEVELLED), _RIDGE) for point in ((0.05, 0.4), (0.0, 1.6), (0.0, 3.2))),
    Expert(Average(0.05, 0.0, _LEVELLED_POOLED), _RIDGE),
    Expert(Average(0.3, 0.4, _NEIGHBOURS), _RIDGE),
    # The regression alone.
    *(Expert(ridge=ridge) for ridge in (2.0, 8.0)),
    *(Expert(ridge=ridge, levels=False) for ridge in (0.1, 0.5, 2.0)),
)
POLISHES = (Polish(), Polish(smoothing=1.1), Polish(span=0.05), Polish(smoothing=1.1, span=0.05))


def usable_experts(
    *, neighbours: bool, covariance: NamedCovariance = "fitted", experts: tuple[Expert, ...] = EXPERTS
) -> tuple[Expert, ...]:
    """The experts that the data and the settings allow, each once.

    Args:
        neighbours: whether neighbours in expression are known.
        covariance: of the distance; "pooled" leaves no expert with the fitted one.
        experts: to choose from.
    """

    def allowed(expert: Expert) -> Expert:
        if expert.average is None or covariance == "fitted":
            return expert
        space = dataclasses.replace(expert.average.space, covariance=covariance)
        return dataclasses.replace(expert, average=dataclasses.replace(expert.average, space=space))

    known = (
        each for each in experts if neighbours or each.average is None or not each.average.space.neighbours
    )
    return tuple(dict.fromkeys(map(allowed, known)))


def usable_polishes(*, positions: bool, polishes: tuple[Polish, ...] = POLISHES) -> tuple[Polish, ...]:
    """The polishes that the data allow: without positions nothing is smoothed."""
    return tuple(each for each in polishes if positions or not each.smoothing)
