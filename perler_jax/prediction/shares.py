"""What each expert and each polish share of a prediction, learned on held-out landmarks.

A prediction is V sum_e u_e y_e with V = sum_l v_l P_l; u, v >= 0, each summing to one; y_e is what expert e
makes of a gene, P_l are the polishes. With T_g the map of a landmark that was held out, centred and of
variance one, and s_g the spread of the experts' predictions of it (so that no gene counts more for being
expressed more), the shares make

    sum_g | T_g - V sum_e u_e y_eg / s_g |^2

smallest: non-negative least squares in u for fixed v, and in v for fixed u, in turn. All of it is algebra on
one small matrix per gene, the products of its polished predictions with one another and with its map. Without
the term of a fold it is the same algebra on the sum of the others: nested shares cost next to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
from jaxtyping import Float

__all__ = ["Shares", "correlations", "learn_shares", "nested_shares"]

_ROUNDS = 20
_LEAST_SHARE = 0.02  # of the whole: less is dropped, and the rest learned again
_RIDGE = 1e-5  # of the mean square of the predictions: two experts that agree are told apart by no noise

Grams = Float[np.ndarray, "genes products products"]


@dataclasses.dataclass(frozen=True, eq=False)
class Shares:
    """Shares of experts and of polishes, each summing to one.

    Attributes:
        experts: (experts,).
        polishes: (polishes,).
    """

    experts: Float[np.ndarray, " experts"]
    polishes: Float[np.ndarray, " polishes"]

    @property
    def flat(self) -> Float[np.ndarray, " pairs"]:
        """Share of every polished expert, polishes running fastest."""
        return np.outer(self.experts, self.polishes).ravel()


def learn_shares(grams: Grams, n_polishes: int, candidates: Sequence[int] | None = None) -> Shares:
    """Shares that fit the held-out maps best.

    Args:
        grams: of each gene, products over locations of its polished predictions (experts x polishes,
            polishes running fastest) and, last, its map.
        n_polishes: how many polishes there are.
        candidates: experts that may have a share; None: all.
    """
    n_pairs = grams.shape[1] - 1
    n_experts = n_pairs // n_polishes
    cross, target = _normalised(grams)
    cross = cross.reshape(n_experts, n_polishes, n_experts, n_polishes)
    target = target.reshape(n_experts, n_polishes)
    chosen = list(range(n_experts)) if candidates is None else list(candidates)
    polishes = np.full(n_polishes, 1.0 / n_polishes)
    while True:
        experts, polishes = _alternate(cross, target, chosen, polishes)
        if not experts.sum() > 0:  # nothing goes with the maps: all alike, which is honest about it
            return Shares(_only(n_experts, chosen, 1.0), np.eye(n_polishes)[0])
        small = [at for at in chosen if experts[at] < _LEAST_SHARE * experts.sum()]
        if not small or len(small) == len(chosen):
            return Shares(experts / experts.sum(), polishes / polishes.sum())
        chosen = [at for at in chosen if at not in small]


def nested_shares(
    grams: Grams, n_polishes: int, folds: Sequence[np.ndarray], candidates: Sequence[int] | None = None
) -> list[Shares]:
    """Shares of every fold, learned without its genes.

    Args:
        grams: as for `learn_shares`.
        n_polishes: how many polishes there are.
        folds: gene indices of each fold.
        candidates: experts that may have a share; None: all.
    """
    return [learn_shares(np.delete(grams, fold, axis=0), n_polishes, candidates) for fold in folds]


def correlations(grams: Grams, shares: Float[np.ndarray, "*genes pairs"]) -> Float[np.ndarray, " genes"]:
    """Correlation of each gene's mixed prediction with its map; zero where one is constant.

    Args:
        grams: as for `learn_shares`.
        shares: (pairs,), or one row per gene.
    """
    weights = np.broadcast_to(shares, (len(grams), grams.shape[1] - 1))
    covariance = np.einsum("gp,gp->g", weights, grams[:, :-1, -1])
    variance = np.einsum("gp,gpq,gq->g", weights, grams[:, :-1, :-1], weights) * grams[:, -1, -1]
    spread = np.sqrt(np.maximum(variance, 0.0))
    return np.divide(covariance, spread, out=np.zeros(len(grams)), where=spread > 0)


def _normalised(grams: Grams) -> tuple[np.ndarray, np.ndarray]:
    """Products of predictions, and with the map, averaged over genes of like spread."""
    squares = np.einsum("gpp->gp", grams)
    spread = squares[:, :-1].mean(axis=1)  # s^2
    used = (spread > 0) & (squares[:, -1] > 0)
    spread, grams = spread[used], grams[used]
    cross = np.einsum("gpq,g->pq", grams[:, :-1, :-1], 1.0 / spread) / max(len(spread), 1)
    maps = np.sqrt(grams[:, -1, -1])
    target = np.einsum("gp,g->p", grams[:, :-1, -1], 1.0 / (np.sqrt(spread) * maps)) / max(len(spread), 1)
    return cross, target


def _alternate(
    cross: np.ndarray, target: np.ndarray, chosen: list[int], polishes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative least squares in experts and in polishes by turns; the sum of squares never grows."""
    some = np.ix_(chosen, range(len(polishes)), chosen, range(len(polishes)))
    cross, target_of = cross[some], target[chosen]
    before = np.inf
    for _ in range(_ROUNDS):
        of_experts = _nnls(np.einsum("alcm,l,m->ac", cross, polishes, polishes), target_of @ polishes)
        if not of_experts.sum() > 0:
            break
        polishes = _nnls(np.einsum("alcm,a,c->lm", cross, of_experts, of_experts), of_experts @ target_of)
        loss = -float(of_experts @ target_of @ polishes)
        if before - loss < 1e-7:
            break
        before = loss
    experts = np.zeros(len(target))
    experts[chosen] = of_experts
    return experts, polishes


def _nnls(cross: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Argmin of x'Ax - 2 b'x over x >= 0."""
    root = np.linalg.cholesky(cross + _RIDGE * np.trace(cross) / len(cross) * np.eye(len(cross))).T
    return scipy.optimize.nnls(root, np.linalg.solve(root.T, target), maxiter=10_000)[0]


def _only(n_experts: int, chosen: list[int], value: float) -> np.ndarray:
    shares = np.zeros(n_experts)
    shares[chosen] = value / len(chosen)
    return shares
