"""What a fit's scores mean for its reader, in sentences, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

__all__ = ["next_steps", "verdict"]

# Of docs/guides/scores.md: mean nested scores, and what they can be read as.
_READ_AS = (
    (0.6, "as good as real data allow: read patterns location by location; borders are a little blurred"),
    (
        0.4,
        "most genes are in the right region and fine patterns are flat: ask where a gene is highest, not how "
        "wide its stripe is",
    ),
    (
        0.2,
        "some genes are right and others are not, and the mean hides which: keep to genes flagged good",
    ),
    (0.05, "locate cell classes (which layer, which region), do not read single genes"),
    (
        -1.0,
        "nothing can be predicted: the two sides do not belong together, or one was read in the wrong way",
    ),
)
_FEW_LANDMARKS = 30
_NO_SCORE = "nothing was held out, so nothing is known of how good predictions are"


def verdict(scores: pd.DataFrame, *, tuned: bool, area: bool) -> str:
    """One sentence on the mean nested score.

    Args:
        scores: of the landmarks, as in a fit.
        tuned: whether landmarks were held out.
        area: scores are areas under the ROC curve (0.5 is chance), not correlations.
    """
    if not tuned:
        return f"{_NO_SCORE[0].upper()}{_NO_SCORE[1:]}: call fit_perler without weights."
    mean = float(scores["nested"].mean())
    as_correlation = 2 * mean - 1 if area else mean
    meaning = next(words for least, words in _READ_AS if as_correlation >= least or least < 0)
    measure = "area under the ROC curve" if area else "correlation"
    return f"Your landmarks predict one another at {mean:.2f} (mean {measure}, each unseen): {meaning}."


def next_steps(
    scores: pd.DataFrame,
    *,
    tuned: bool,
    area: bool,
    converged: bool,
    foreign: float,
    has_places: bool,
    flags: Mapping[str, int] | None = None,
) -> list[str]:
    """What to do next, the most useful first.

    Args:
        scores: of the landmarks, as in a fit.
        tuned: whether landmarks were held out.
        area: scores are areas under the ROC curve.
        converged: whether EM ended by its rule.
        foreign: share of cells that are thought to be from elsewhere.
        has_places: whether locations have coordinates.
        flags: how many genes are good, doubtful and poor; None where that is not known.
    """
    steps = []
    if not tuned:
        steps.append(f"Fit again without weights: {_NO_SCORE}.")
    if not converged:
        steps.append("EM did not end by its rule: raise max_steps; the result is usable meanwhile.")
    if tuned:
        steps += _about_scores(scores, area)
    if foreign > 0.2:
        steps.append(
            f"{foreign:.0%} of the cells look as if from elsewhere: is it the same tissue, age and condition?"
        )
    if flags is None:
        steps.append("Give the cells as well, to see which genes to believe: perler-jax report FIT CELLS.")
    elif flags.get("poor", 0) > flags.get("good", 0):
        steps.append(
            f"{flags['poor']} genes are poor: sort var by flag and predicted, and read the column reason "
            "before you show a gene."
        )
    if not has_places:
        steps.append("Give coordinates of the locations: smoothing, radii and pictures need them.")
    steps.append(
        "Report the nested score; for a paper the outer one: perler-jax evaluate FIT CELLS --outer 10."
    )
    return steps


def _about_scores(scores: pd.DataFrame, area: bool) -> list[str]:
    nested = scores["nested"].dropna()
    zero = 0.5 if area else 0.0
    worst = nested[nested < zero + 0.05].sort_values()
    steps = []
    if nested.mean() < zero + (0.1 if area else 0.2):
        steps.append(
            "Look at how both sides were read (below): a map of logarithms read as linear, or other names of "
            "genes, lower every score."
        )
    if len(worst):
        named = ", ".join(map(str, worst.index[:5]))
        steps.append(
            f"{len(worst)} landmarks are predicted no better than by chance ({named}): look at their maps; a "
            "bad stain or another gene of that name is best left out."
        )
    if len(scores) < _FEW_LANDMARKS:
        steps.append(f"{len(scores)} landmarks are few: suggest_landmarks says which genes to measure next.")
    if "nested_paper" in scores and np.isfinite(scores["nested_paper"]).any():
        gain = float(scores["nested"].mean() - scores["nested_paper"].mean())
        if gain < -0.01:
            steps.append(f"The plain weighted mean scores {-gain:.2f} higher: try PerlerSettings.paper().")
    return steps
