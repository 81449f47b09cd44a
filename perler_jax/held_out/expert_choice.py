"""Choosing shares of experts on held-out landmarks, and scoring honestly what they make.

As with alpha and beta, the reported score of a landmark is nested: the shares are learned again without the
landmarks of its fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from perler_jax.held_out.search import Objective, all_but, objective_terms
from perler_jax.held_out.tuning import Tuning
from perler_jax.prediction.choice import ExpertMixture
from perler_jax.prediction.experts import Average, Expert, Polish
from perler_jax.prediction.shares import correlations, learn_shares, nested_shares

__all__ = ["ExpertTuning", "tune_experts"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExpertTuning:
    """Shares with the scores that they make.

    Attributes:
        mixture: experts and polishes with their shares, of all landmarks and without each fold.
        scores: (landmarks,) held-out score of the mixture.
        nested_scores: (landmarks,) the same with the shares learned without the landmark's fold.
        plain: the paper's weighted mean at those alpha and beta that are among the experts; None where none
            is.
    """

    mixture: ExpertMixture
    scores: Float[np.ndarray, " landmarks"]
    nested_scores: Float[np.ndarray, " landmarks"]
    plain: Tuning | None


def tune_experts(
    grams: Float[np.ndarray, "landmarks pairs pairs"],
    experts: tuple[Expert, ...],
    polishes: tuple[Polish, ...],
    folds: Sequence[np.ndarray],
    *,
    objective: Objective = "mutual_information",
) -> ExpertTuning:
    """Learn the shares from held-out landmarks, then again without each fold.

    Args:
        grams: from `ExpertScorer.grams_of_genes`.
        experts: that were compared.
        polishes: likewise.
        folds: landmark indices of each fold.
        objective: by which the plain weighted mean is chosen.
    """
    shares = learn_shares(grams, len(polishes))
    nested = nested_shares(grams, len(polishes), folds)
    per_gene = np.zeros((len(grams), len(experts) * len(polishes)))
    for fold, own in zip(folds, nested, strict=True):
        per_gene[fold] = own.flat
    return ExpertTuning(
        ExpertMixture.of(experts, polishes, shares, nested),
        correlations(grams, shares.flat),
        correlations(grams, per_gene),
        _plain(grams, experts, len(polishes), folds, objective),
    )


def _plain(
    grams: np.ndarray,
    experts: tuple[Expert, ...],
    n_polishes: int,
    folds: Sequence[np.ndarray],
    objective: Objective,
) -> Tuning | None:
    """The paper's weighted mean: the best of the points that are experts, by J; and without each fold."""
    at = [index for index, each in enumerate(experts) if each.is_plain]
    if not at:
        return None
    averages: list[Average] = [average for index in at if (average := experts[index].average) is not None]
    points = np.array([[each.alpha, each.beta] for each in averages])
    single = np.eye(len(experts) * n_polishes)
    table = np.stack([correlations(grams, single[index * n_polishes]) for index in at])
    terms = np.asarray(objective_terms(table, objective), np.float64)
    best = terms.sum(axis=1).argmax()
    chosen = np.empty(len(grams), int)
    for fold in folds:
        chosen[fold] = terms[:, all_but(fold, len(grams))].sum(axis=1).argmax()
    return Tuning(
        alpha=float(points[best, 0]),
        beta=float(points[best, 1]),
        objective=float(terms[best].sum()),
        scores=table[best],
        nested_alpha=points[chosen, 0],
        nested_beta=points[chosen, 1],
        nested_scores=table[chosen, np.arange(len(grams))],
        points=points,
        table=table,
        objectives=terms.sum(axis=1),
        path=np.zeros((0, 3)),
    )
