"""Which landmarks are predicted well, which poorly, and does their correlation structure tell?"""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy.stats import mannwhitneyu, spearmanr

from perler_jax import PerlerFit
from perler_jax.trust.signals import reference_agreement
from perler_jax.trust.subsets import landmark_expression

__all__ = ["landmark_table", "structure"]


def landmark_table(fits: dict[str, PerlerFit], poor_below: float) -> pd.DataFrame:
    """One row per landmark: scores by either distance, and agreement of its correlations with the others'.

    The agreement is between the correlations that the landmark has with the other landmarks among cells and
    over locations; no fit has a part in it.
    """
    first = next(iter(fits.values()))
    table = pd.DataFrame({"agreement": reference_agreement(*landmark_expression(first))}, first.scores.index)
    for name, fit in fits.items():
        for column in ("held_out", "reconstruction"):
            table[f"{column}_{name}"] = fit.scores[column]
        table[f"poor_{name}"] = table[f"held_out_{name}"] < poor_below
    return table


def structure(table: pd.DataFrame, distance: str) -> dict[str, Any]:
    """Well- against poorly-predicted landmarks by one distance."""
    poor = table[f"poor_{distance}"]
    held_out, agreement = table[f"held_out_{distance}"], table["agreement"]
    lost = table[f"reconstruction_{distance}"] - held_out
    test = mannwhitneyu(agreement[~poor], agreement[poor])
    return {
        "n_well": int((~poor).sum()),
        "n_poor": int(poor.sum()),
        "poor": sorted(table.index[poor]),
        "held_out_acc_well": float(held_out[~poor].mean()),
        "held_out_acc_poor": float(held_out[poor].mean()),
        "lost_well": float(lost[~poor].mean()),
        "lost_poor": float(lost[poor].mean()),
        "agreement_well_mean": float(agreement[~poor].mean()),
        "agreement_poor_mean": float(agreement[poor].mean()),
        "auc_of_agreement": float(test.statistic / ((~poor).sum() * poor.sum())),
        "p_of_agreement": float(test.pvalue),
        "spearman_agreement_held_out": float(spearmanr(agreement, held_out).statistic),
        "spearman_agreement_lost": float(spearmanr(agreement, lost).statistic),
    }
