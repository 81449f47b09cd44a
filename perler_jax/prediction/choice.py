"""The mixture that a fit has learned: experts and polishes with their shares, of the fit and of each fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from perler_jax.prediction.experts import Average, Expert, Polish, Space
from perler_jax.prediction.shares import Shares

__all__ = ["Choice", "ExpertMixture", "plain_choice"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Choice:
    """Experts and polishes with their shares: what a prediction is made by.

    Attributes:
        experts: those compared.
        polishes: likewise.
        shares: of both.
    """

    experts: tuple[Expert, ...]
    polishes: tuple[Polish, ...]
    shares: Shares

    def __repr__(self) -> str:
        rows = [(share, name) for name, share in self.table["share"].items() if share >= 0.005]
        return "; ".join(f"{share:.0%} {name}" for share, name in rows)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each expert and each polish that has a share, the largest first.

        Columns: ``kind`` ("expert" or "polish") and ``share``; the shares of a kind sum to one.
        """
        experts = zip(self.experts, self.shares.experts.tolist(), strict=True)
        polishes = zip(self.polishes, self.shares.polishes.tolist(), strict=True)
        rows = [("expert", each.name, share) for each, share in experts]
        rows += [("polish", each.name, share) for each, share in polishes]
        table = pd.DataFrame(rows, columns=["kind", "name", "share"]).set_index("name")
        return table[table["share"] > 0].sort_values(["kind", "share"], ascending=[True, False])

    @property
    def without_levels(self) -> bool:
        """Whether an expert with a share takes its distances in the mapping whose levels are taken off."""
        return any(each.average is not None and not each.average.space.levels for each, _ in self.used())

    def used(self) -> list[tuple[Expert, float]]:
        """Experts with a share, and it."""
        pairs = zip(self.experts, self.shares.experts.tolist(), strict=True)
        return [(each, share) for each, share in pairs if share > 0]


_PAPER = Space()


def plain_choice(alpha: float, beta: float, space: Space = _PAPER) -> Choice:
    """The paper's weighted mean alone."""
    one = np.ones(1)
    return Choice((Expert(Average(float(alpha), float(beta), space)),), (Polish(),), Shares(one, one))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExpertMixture:
    """All that was learned on held-out landmarks, as it is saved.

    Attributes:
        listed: plain values of the experts and polishes compared.
        experts: (experts,) shares.
        polishes: (polishes,) shares.
        fold_experts: (folds, experts) shares learned without each fold of landmarks.
        fold_polishes: (folds, polishes) likewise.
    """

    listed: dict[str, Any]
    experts: Float[np.ndarray, " experts"]
    polishes: Float[np.ndarray, " polishes"]
    fold_experts: Float[np.ndarray, "folds experts"]
    fold_polishes: Float[np.ndarray, "folds polishes"]

    def __repr__(self) -> str:
        return f"ExpertMixture({self.choice!r})"

    @classmethod
    def of(
        cls, experts: Sequence[Expert], polishes: Sequence[Polish], shares: Shares, folds: Sequence[Shares]
    ) -> ExpertMixture:
        """From what was compared, the shares, and those of each fold."""
        lists: dict[str, Sequence[Any]] = {"experts": experts, "polishes": polishes}
        return cls(
            {name: [dataclasses.asdict(each) for each in values] for name, values in lists.items()},
            shares.experts,
            shares.polishes,
            np.stack([each.experts for each in folds]),
            np.stack([each.polishes for each in folds]),
        )

    @property
    def choice(self) -> Choice:
        """Of the whole fit."""
        return self._choice(Shares(self.experts, self.polishes))

    def choice_of_fold(self, fold: int) -> Choice:
        """Of a fold, learned without its landmarks."""
        return self._choice(Shares(self.fold_experts[fold], self.fold_polishes[fold]))

    def _choice(self, shares: Shares) -> Choice:
        experts = tuple(_expert(**each) for each in self.listed["experts"])
        return Choice(experts, tuple(Polish(**each) for each in self.listed["polishes"]), shares)


def _expert(average: dict[str, Any] | None, **rest: Any) -> Expert:
    if average is None:
        return Expert(None, **rest)
    return Expert(Average(**{**average, "space": Space(**average["space"])}), **rest)
