"""The predictor: the mixture of experts of a fit, ready for any genes of its cells.

All experts are linear in the cells, so their mixture is one weighted mean and one product with landmarks:

    y = V [ W y + C B(y) + sum_r u_r h B_r(y) ],     W = sum_p c_p W_p,   C = sum_p r_p (h - W_p l) T

with c_p the shares of all experts that average at point p, r_p of those with a regression beside it, u_r of
the regressions alone, V the polishes. Nothing here knows which experts there are, beyond these parts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, Shaped

from perler_jax.grams import blas_threads
from perler_jax.prediction.choice import Choice
from perler_jax.prediction.experts import Average, Space
from perler_jax.prediction.mixed_weights import MixedWeights, Points
from perler_jax.prediction.polishing import Polisher, smoothers
from perler_jax.prediction.regression import LandmarkRegression, prepare_regression

__all__ = ["Predictor", "averages_of", "mix_points", "spaces_of"]


def averages_of(experts: Any) -> list[Average]:
    """The averages of experts, each once."""
    return list(dict.fromkeys(each.average for each in experts if each.average is not None))


def spaces_of(averages: list[Average]) -> list[Space]:
    """The spaces of averages, each once."""
    return list(dict.fromkeys(each.space for each in averages))


def mix_points(averages: list[Average], dtype: Any) -> Points:
    """The points of averages, with the place of each one's space in `spaces_of`."""
    spaces = spaces_of(averages)
    return Points(
        jnp.asarray([each.alpha for each in averages], dtype),
        jnp.asarray([each.beta for each in averages], dtype),
        jnp.asarray([spaces.index(each.space) for each in averages], jnp.int32),
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """A choice with the data that it needs.

    Attributes:
        choice: experts, polishes, shares.
        source: weights of the averages that have a share, shares of all experts at a point together; None
            where no average has one.
        regressed: (points,) share of those experts with a regression beside the average.
        names: (landmarks,) names.
        cells: (cells, landmarks) centred log2 expression; columns that may not be looked at are zero.
        reference: (locations, landmarks) likewise.
        kept: (landmarks,) which may be looked at.
        coordinates: of the locations; None: nothing is smoothed.
        dtype: of predictions.
    """

    choice: Choice
    source: MixedWeights | None
    regressed: Float[np.ndarray, " points"]
    names: Shaped[np.ndarray, " landmarks"]
    cells: Float[np.ndarray, "cells landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    kept: Any
    coordinates: Float[np.ndarray, "locations dimensions"] | None
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and locations."""
        return len(self.cells), len(self.reference)

    def take(self, rows: Int[np.ndarray, " some"], *, weights: bool = True) -> Predictor:
        """The same from some of the cells only; regressions keep the spread of landmarks over all cells.

        Args:
            rows: which cells.
            weights: take the weights of these cells too; else those of all cells stay.
        """
        source = self.source.take(rows) if weights and self.source is not None else self.source
        part = dataclasses.replace(self, source=source, cells=self.cells[rows])
        vars(part).update(_regressions=self._regressions, _narrow_reference=self._narrow_reference)
        return part

    @property
    def averaged(self) -> float:
        """Share of the averages: what the weights of `source` sum to at every location."""
        return 0.0 if self.source is None else float(np.sum(np.asarray(self.source.shares)))

    def predict(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"], **options: Any
    ) -> Float[np.ndarray, "locations genes"]:
        """Predict centred log2 expression.

        Args:
            names: of the genes: a landmark takes no part in its own regression.
            values: centred log2 expression in the cells.
            **options: of `total`.
        """
        return self.polish(self.total(values, **options) + self.carried(names, values))

    def total(
        self, values: Float[np.ndarray, "cells genes"], *, width: int | None = None, tiles: Any = None
    ) -> Float[np.ndarray, "locations genes"]:
        """The weighted means.

        Args:
            values: of the cells.
            width: pad to so many columns, so that one compiled program serves blocks of all sizes.
            tiles: tile sizes; None chooses them.
        """
        if self.source is None:
            return np.zeros((len(self.reference), values.shape[1]), self.dtype)
        found = self.source.total(self.padded(values, width), tiles=tiles)
        return np.asarray(found)[:, : values.shape[1]]

    def padded(
        self, values: Float[np.ndarray, "cells genes"], width: int | None = None
    ) -> Float[Array, "cells width"]:
        """Values on the device in the precision of the weights, with columns of zeros up to a width."""
        extra = max(0, (width or 0) - values.shape[1])
        return jnp.asarray(np.pad(values, ((0, 0), (0, extra))), self.dtype)

    def predict_few(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """The same as `predict`, to rounding, in less time where genes are few and come once."""
        coefficients, total = self.regress(names, values)
        if self.source is not None:
            of_cells = self.cells @ coefficients
            means = np.asarray(self.source.each_mean(self.padded(np.hstack([values, of_cells]))))
            shares = np.stack([np.asarray(self.source.shares), -self.regressed]).astype(self.dtype)
            total = total + np.einsum("sp,pksg->kg", shares, means.reshape(*means.shape[:2], 2, -1))
        return self.polish(total)

    def carried(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """What regressions and the map give, with what averages of the regressions' parts take away."""
        coefficients, found = self.regress(names, values)
        if not coefficients.any():
            return found
        with blas_threads(len(self.names)):
            return found - self._averaged_landmarks @ coefficients.astype(self.dtype)

    def split(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "locations genes"]]:
        """What averages are left with, regressions taken off by their share, and what the map carries over.

        The weighted means of the first and the second make the prediction, where all averages have the same
        share with a regression beside them; else nearly so.
        """
        coefficients, carried = self.regress(names, values)
        if not coefficients.any():
            return values, carried
        with blas_threads(len(self.names)):
            return values - float(self.regressed.sum()) / self.averaged * (self.cells @ coefficients), carried

    def regress(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> tuple[Float[np.ndarray, "landmarks genes"], Float[np.ndarray, "locations genes"]]:
        """Coefficients, on landmarks of the cells, of what averages leave to regressions; what the map gives.

        Args:
            names: of the genes: a landmark takes no part in its own regression.
            values: centred log2 expression in the cells.
        """
        coefficients = np.zeros((len(self.names), values.shape[1]))
        carried = np.zeros((len(self.reference), values.shape[1]), self.dtype)
        if not self._regressions:
            return coefficients, carried
        own = pd.Index(self.names).get_indexer(names)
        with blas_threads(len(self.names)):
            products = self.cells.T @ values / len(values)
            for regression, alone, is_beside in self._regressions:
                of_cells, of_reference = regression.coefficients(products, own)
                share = alone + (float(self.regressed.sum()) if is_beside else 0.0)
                carried += self._narrow_reference @ (share * of_reference).astype(self.dtype)
                coefficients += of_cells if is_beside else 0.0
        return coefficients, carried

    def polish(self, patterns: Float[np.ndarray, "locations genes"]) -> Float[np.ndarray, "locations genes"]:
        """The polishes, mixed."""
        with blas_threads(len(self.names)):
            return self._polisher.mixed(patterns, self.choice.shares.polishes)

    def polish_error(
        self, errors: Float[np.ndarray, "locations genes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """Standard errors after polishing, see `Polisher.smooth_error`."""
        return self._polisher.smooth_error(errors, self.choice.shares.polishes)

    @functools.cached_property
    def _narrow_reference(self) -> np.ndarray:
        """The maps in the precision of predictions."""
        return self.reference.astype(self.dtype)

    @functools.cached_property
    def _polisher(self) -> Polisher:
        spread = self.reference.std(axis=0)
        standard = (self.reference / np.where(spread > 0, spread, 1.0)).astype(self.dtype)
        return Polisher(
            self.choice.polishes, standard[:, self.kept], smoothers(self.choice.polishes, self.coordinates)
        )

    @functools.cached_property
    def _regressions(self) -> list[tuple[LandmarkRegression, float, bool]]:
        """Each regression with its share alone, and whether it stands beside averages."""
        alone: dict[tuple[float, bool], float] = {}
        beside: set[tuple[float, bool]] = set()
        for each, share in self.choice.used():
            key = each.regression
            if key is None:
                continue
            alone[key] = alone.get(key, 0.0) + (share if each.average is None else 0.0)
            beside |= {key} if each.average is not None else set()
        with blas_threads(len(self.names)):
            of_cells, of_map = (side.T @ side / len(side) for side in (self.cells, self.reference))
            found = []
            for (ridge, levels), share in alone.items():
                ready = prepare_regression(of_cells, of_map, self.kept, ridge=ridge, levels=levels)
                found.append((ready, share, (ridge, levels) in beside))
        return found

    @functools.cached_property
    def _averaged_landmarks(self) -> Float[np.ndarray, "locations landmarks"]:
        """sum_p r_p W_p y over the experts with a regression beside the average."""
        assert self.source is not None
        shares = jnp.asarray(self.regressed, self.source.shares.dtype)
        return np.asarray(dataclasses.replace(self.source, shares=shares).total(self.padded(self.cells)))
