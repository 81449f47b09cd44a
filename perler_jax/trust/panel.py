"""Which landmarks to keep: backward elimination from the whole panel (`panel_criteria.py` says by what)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Shaped
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.labels import name_positions
from perler_jax.trust.landmark_space import LandmarkSpace, space_of_fit
from perler_jax.trust.panel_criteria import CANDIDATES_PER_PASS, RemainingEntropy, UnpredictedLandmarks

__all__ = ["PanelChoice", "choose_panel", "panel_entropy"]

_CRITERIA: dict[str, type[RemainingEntropy] | type[UnpredictedLandmarks]] = {
    "entropy": RemainingEntropy,
    "loo": UnpredictedLandmarks,
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PanelChoice:
    """A panel, and the order in which the other landmarks went.

    Attributes:
        panel: (n,) the landmarks to keep; the one that would be missed most comes first.
        trace: one row per landmark that went, in that order: ``size`` of the panel left, and its ``value``.
            "entropy": nats that it leaves unknown of a cell's place. "loo": one minus the mean correlation of
            all landmarks with what it says of them.
        criterion: "entropy" or "loo".
    """

    panel: Shaped[np.ndarray, " n"]
    trace: pd.DataFrame
    criterion: str

    def __repr__(self) -> str:
        return f"PanelChoice({len(self.panel)} of {len(self.panel) + len(self.trace)}, {self.criterion})"

    def of_size(self, size: int) -> Shaped[np.ndarray, " size"]:
        """The larger panel that was passed on the way to this one.

        Raises:
            PerlerInputError: a size below that of the panel, or above the number of landmarks.
        """
        more = size - len(self.panel)
        if not 0 <= more <= len(self.trace):
            raise PerlerInputError(
                f"expected a size from {len(self.panel)} to {len(self.panel) + len(self.trace)}, found "
                f"{size}: choose a smaller panel and take the larger ones from it"
            )
        return np.concatenate([self.panel, self.trace.index.to_numpy()[::-1][:more]])


def choose_panel(
    data: PerlerFit | LandmarkSpace,
    n: int,
    *,
    criterion: str = "entropy",
    keep: Sequence[str] = (),
    progress: bool = True,
) -> PanelChoice:
    """Choose the n landmarks that together tell most.

    Landmarks leave one at a time, each time the one whose loss costs least; one run to a small panel gives
    the larger ones as well (`PanelChoice.of_size`).

    Args:
        data: a fit, or cells and locations in `landmark_space`.
        n: size of the panel.
        criterion: "entropy": about where cells are from; "loo": about genes that were not measured.
        keep: landmarks that must stay.
        progress: show a progress bar.

    Returns:
        The panel, and the order in which the other landmarks went.

    Raises:
        PerlerInputError: an unknown criterion or landmark, or a size that leaves nothing to choose.
    """
    if criterion not in _CRITERIA:
        raise PerlerInputError(f"expected criterion {' or '.join(_CRITERIA)}; found {criterion!r}")
    space = space_of_fit(data) if isinstance(data, PerlerFit) else data
    n_landmarks = len(space.genes)
    locked = _members(space, keep)
    if not max(1, locked.sum()) <= n < n_landmarks:
        raise PerlerInputError(
            f"expected a panel of {max(1, locked.sum())} to {n_landmarks - 1} landmarks ({n_landmarks} "
            f"measured, {locked.sum()} must stay); found n = {n}"
        )
    with tqdm(total=n_landmarks - n, desc="panel", unit="landmark", disable=not progress, leave=False) as bar:
        gone, values, left = _eliminate(_CRITERIA[criterion](space), n, locked, bar.update)
    trace = pd.DataFrame(
        {"size": n_landmarks - 1 - np.arange(len(gone)), "value": values},
        index=pd.Index(space.genes[gone].astype(str), name="landmark"),
    )
    return PanelChoice(space.genes[left], trace, criterion)


def panel_entropy(data: PerlerFit | LandmarkSpace, genes: Sequence[str] | Shaped[np.ndarray, " n"]) -> float:
    """What a panel leaves unknown of a cell's place, H(place | panel) in nats; a mean over cells.

    Its exponential is a number of locations that the panel cannot tell apart.

    Raises:
        PerlerInputError: an unknown landmark.
    """
    space = space_of_fit(data) if isinstance(data, PerlerFit) else data
    return RemainingEntropy(space).of(_members(space, genes))


def _members(space: LandmarkSpace, genes: Sequence[str] | np.ndarray) -> np.ndarray:
    """(landmarks,) booleans from names."""
    members = np.zeros(len(space.genes), bool)
    members[name_positions(list(genes), space.genes, "landmark")] = True
    return members


_Report = Callable[[int], object]
_Found = tuple[list[int], list[float], np.ndarray]  # who went, the values, who is left (best first)


def _eliminate(
    criterion: RemainingEntropy | UnpredictedLandmarks,
    n: int,
    locked: np.ndarray,
    report: Callable[[int], object],
) -> tuple[list[int], list[float], np.ndarray]:
    """Who went, the values, and who is left, the one who would be missed most first.

    Where losses only grow (Minoux 1978), those of earlier rounds are lower bounds, and few candidates are
    looked at again in a round.
    """
    kept = np.ones(len(locked), bool)
    value, bounds = criterion.of(kept), np.full(len(locked), -np.inf)
    gone: list[int] = []
    values: list[float] = []

    def losses(candidates: np.ndarray) -> np.ndarray:
        return criterion.without(kept, candidates) - value

    while kept.sum() > n:
        if not criterion.submodular:
            bounds[:] = -np.inf
        least = _least(bounds, np.flatnonzero(kept & ~locked), losses)
        kept[least], value = False, value + bounds[least]
        gone.append(least)
        values.append(float(value))
        report(1)
    left = np.flatnonzero(kept)
    return gone, values, left[np.argsort(-losses(left), kind="stable")]


def _least(bounds: np.ndarray, candidates: np.ndarray, losses: Callable[[np.ndarray], np.ndarray]) -> int:
    """The candidate with the smallest loss, by lower bounds that are replaced by losses where they matter."""
    fresh = np.zeros(len(bounds), bool)
    while True:
        order = candidates[np.argsort(bounds[candidates], kind="stable")]
        if fresh[order[0]]:
            return int(order[0])
        stale = order[~fresh[order]][:CANDIDATES_PER_PASS]
        bounds[stale], fresh[stale] = losses(stale), True
