"""What may be chosen, by name: the words of the settings and of the command line, each written here once.

Nothing is imported that takes time, so that `perler-jax --help` can name them at once.
"""

from __future__ import annotations

import math
from typing import Literal

from perler_jax.errors import PerlerInputError

__all__ = [
    "Missing",
    "NamedCovariance",
    "Noise",
    "Normalisation",
    "Objective",
    "Precision",
    "PredictorKind",
    "Reduction",
    "ReferenceNormalisation",
    "Scale",
    "Search",
    "StopRule",
    "degrees_of_freedom",
]

# Of the inputs. counts: molecules, whole or corrected, whose sum differs from row to row with depth; linear:
# normalised, not logged; log1p: ln(1 + x); log2: log2(1 + x); centred: of any kind, below zero as well;
# binary: 0 and 1.
Scale = Literal["auto", "counts", "linear", "log1p", "log2", "centred", "binary"]
ReferenceNormalisation = Literal["auto", "none", "median"]
Missing = Literal["refuse", "drop", "fill"]

# Of the method: `PerlerSettings` says what each does.
Reduction = Literal["plsc", "pca", "none"]
Normalisation = Literal["max_total", "median", "cp10k", "none"]
PredictorKind = Literal["experts", "mean"]
NamedCovariance = Literal["fitted", "pooled"]
Noise = Literal["gaussian", "student_t"]
StopRule = Literal["relative", "released"]
Precision = Literal["float32", "float64"]

# Of tuning.
Objective = Literal["mutual_information", "signed", "roc"]
Search = Literal["gradient", "grid"]


def degrees_of_freedom(df: float) -> float:
    """The same number, where Student t noise can have it.

    Raises:
        PerlerInputError: on one that is not positive and finite.
    """
    if not (math.isfinite(df) and df > 0):
        raise PerlerInputError(f"expected degrees of freedom > 0 of the Student t noise, found {df}")
    return df
