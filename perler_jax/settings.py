"""The choices of the method, as one frozen value of plain scalars; importing them does not import JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from perler_jax.choices import (
    NamedCovariance,
    Noise,
    Normalisation,
    Objective,
    Precision,
    PredictorKind,
    Reduction,
    Search,
    StopRule,
    degrees_of_freedom,
)
from perler_jax.errors import PerlerInputError

__all__ = ["PerlerSettings", "device_precision"]

_CHOICES = {
    "predictor": get_args(PredictorKind),
    "reduction": get_args(Reduction),
    "normalisation": get_args(Normalisation),
    "covariance": get_args(NamedCovariance),
    "noise": get_args(Noise),
    "objective": get_args(Objective),
    "search": get_args(Search),
    "stop_rule": get_args(StopRule),
    "dtype": get_args(Precision),
}


@dataclasses.dataclass(frozen=True)
class PerlerSettings:
    """Choices of the method: the best that is known by default, the paper's own by `PerlerSettings.paper()`.

    Attributes:
        predictor: "experts", a mixture of weighted means, regressions and smoothing with shares learned on
            held-out landmarks (`prediction/experts.py`); or "mean", the paper's weighted mean (Eqs. 21-22)
            with tuned alpha and beta. With objective "roc" it is "mean": shares are learned by correlation.
        n_metagenes: dimensions of the shared space; lowered with a message where the data carry fewer.
        reduction: "plsc", "pca" or "none".
        normalisation: total to which counts are scaled: "median" of the totals (as scanpy does), "max_total"
            (the largest, as the paper's data), "cp10k" or "none". Values that are normalised already are
            brought to the same depth.
        covariance: of the distance, "fitted" (Eq. 23) or "pooled" (what the released program computed).
        learn_location_weights: learn pi by EM instead of fixing it.
        noise: how cells scatter around the mapped reference, "gaussian" or "student_t" (heavy tails).
        noise_df: degrees of freedom of "student_t".
        foreign_cells: add a component for cells from elsewhere; the more surely a cell is of it, the less it
            counts.
        folds: landmarks are held out in this many folds; None is one at a time up to 200 landmarks, else
            ten folds.
        objective: "mutual_information" (Eq. 26), "signed", or "roc" for binary references.
        search: "gradient", or "grid" (the one for "roc"); None picks what suits the objective.
        stop_rule: of EM, "relative" or "released".
        tolerance: of EM: relative gain of the log-likelihood, or nats for "released".
        max_steps: of EM.
        dtype: "float32" or "float64", of all work on the device.
        seed: of the split into folds.

    Raises:
        PerlerInputError: on a choice that does not exist, or a number out of range.
    """

    predictor: PredictorKind = "experts"
    n_metagenes: int = 60
    reduction: Reduction = "plsc"
    normalisation: Normalisation = "median"
    covariance: NamedCovariance = "fitted"
    learn_location_weights: bool = False
    noise: Noise = "gaussian"
    noise_df: float = 5.0
    foreign_cells: bool = False
    folds: int | None = None
    objective: Objective = "mutual_information"
    search: Search | None = None
    stop_rule: StopRule = "relative"
    tolerance: float = 3e-6
    max_steps: int = 200
    dtype: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed and not (name == "search" and value is None):
                raise PerlerInputError(f"expected {name} to be one of {', '.join(allowed)}; found {value!r}")
        for name in ("n_metagenes", "max_steps"):
            if getattr(self, name) < 1:
                raise PerlerInputError(f"expected {name} >= 1; found {getattr(self, name)}")
        if self.folds is not None and self.folds < 2:
            raise PerlerInputError(f"expected folds >= 2 or None; found {self.folds}")
        if not self.tolerance > 0:
            raise PerlerInputError(f"expected tolerance > 0; found {self.tolerance}")
        if self.noise == "student_t":
            degrees_of_freedom(self.noise_df)
        if self.objective == "roc" and self.search == "gradient":
            raise PerlerInputError("expected search 'grid' with objective 'roc': ranks have no gradient")

    @property
    def search_used(self) -> Search:
        """The search, with None resolved."""
        return self.search or ("grid" if self.objective == "roc" else "gradient")

    @property
    def predictor_used(self) -> PredictorKind:
        """The predictor, which is the weighted mean where the objective has no correlations."""
        return "mean" if self.objective == "roc" else self.predictor

    @classmethod
    def paper(cls) -> PerlerSettings:
        """Okochi et al. 2021, Eqs. 1-29, to the letter: one weighted mean, tuned alpha and beta."""
        return cls(predictor="mean", normalisation="max_total")

    @classmethod
    def released(cls) -> PerlerSettings:
        """What the released program computes: the paper, but pooled distance, its stop rule, grid, float64.

        Note: its held-out fits forgot the options for logs and centring; here they are those of the fit.
        """
        return dataclasses.replace(
            cls.paper(),
            covariance="pooled",
            search="grid",
            stop_rule="released",
            tolerance=0.01,
            dtype="float64",
        )


@contextmanager
def device_precision(dtype: Precision) -> Iterator[None]:
    """Allow float64 on the device inside this block only; the user's own JAX settings stay as they are."""
    if dtype == "float32":
        yield
        return
    import jax  # here, not above: the command line knows the settings before it needs JAX

    with jax.enable_x64(True):
        yield
