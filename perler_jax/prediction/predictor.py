"""The predictor: the mixture of experts of a fit, ready for any genes of its cells.

All experts are linear in the cells, so their mixture is one weighted mean and one product with landmarks:

    y = V [ W y + C B(y) + sum_r u_r h B_r(y) ],     W = sum_p c_p W_p,   C = sum_p r_p (h - W_p l) T

with c_p the shares of all experts that average at point p, r_p of those with a regression beside it, u_r of
the regressions alone, V the polishes. Nothing here knows which experts there are, beyond these parts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, Shaped

from perler_jax.evidence import CellEvidence
from perler_jax.grams import blas_threads
from perler_jax.mixture import MappingParams
from perler_jax.prediction.choice import Choice
from perler_jax.prediction.experts import Average, Space
from perler_jax.prediction.mixed_weights import MixedWeights, Points, space_of, stack_spaces
from perler_jax.prediction.polishing import Polisher, smoothers
from perler_jax.prediction.regression import LandmarkRegression, prepare_regression

__all__ = ["Mapped", "Predictor", "averages_of", "make_predictor", "mix_points", "spaces_of"]


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

    def take(self, rows: Int[np.ndarray, " some"]) -> Predictor:
        """The same from some of the cells only; regressions keep the spread of landmarks over all cells."""
        source = None if self.source is None else self.source.take(rows)
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

    def carried(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """What regressions and the map give, with what averages of the regressions' parts take away."""
        found = np.zeros((len(self.reference), values.shape[1]), self.dtype)
        if not self._regressions:
            return found
        own = pd.Index(self.names).get_indexer(names)
        with blas_threads(len(self.names)):
            products = self.cells.T @ values / len(values)
            for regression, alone, is_beside in self._regressions:
                of_cells, of_reference = regression.coefficients(products, own)
                share = alone + (float(self.regressed.sum()) if is_beside else 0.0)
                found += self._narrow_reference @ (share * of_reference).astype(self.dtype)
                if is_beside:
                    found -= self._averaged_landmarks @ of_cells.astype(self.dtype)
        return found

    def split(
        self, names: Shaped[np.ndarray, " genes"], values: Float[np.ndarray, "cells genes"]
    ) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "locations genes"]]:
        """What averages are left with, regressions taken off by their share, and what the map carries over.

        The weighted means of the first and the second make the prediction, where all averages have the same
        share with a regression beside them; else nearly so.
        """
        carried = np.zeros((len(self.reference), values.shape[1]), self.dtype)
        rest, own = values, pd.Index(self.names).get_indexer(names)
        beside, averaged = float(self.regressed.sum()), self.averaged
        with blas_threads(len(self.names)):
            products = self.cells.T @ values / len(values)
            for regression, alone, is_beside in self._regressions:
                of_cells, of_reference = regression.coefficients(products, own)
                share = alone + (beside if is_beside else 0.0)
                carried += self._narrow_reference @ (share * of_reference).astype(self.dtype)
                if is_beside:
                    rest = rest - beside / averaged * (self.cells @ of_cells)
        return rest, carried

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


class Mapped(NamedTuple):
    """One fitted mapping with both sides in its metagenes.

    Attributes:
        params: the mapping.
        cells: x.
        reference: r.
        covariance: in metagenes, for the distance in place of the fitted one; None: the fitted one.
    """

    params: MappingParams
    cells: Float[Array, "cells metagenes"]
    reference: Float[Array, "locations metagenes"]
    covariance: Float[Array, "metagenes metagenes"] | None = None

    def space(self, space: Space, neighbours: Int[Array, "cells neighbours"] | None) -> tuple[Array, Array]:
        """Both sides in a space of this mapping, see `space_of`."""
        return space_of(space, self.params, self.cells, self.reference, neighbours, self.covariance)


def make_predictor(
    choice: Choice,
    mapped: Mapping[bool, Mapped],
    landmarks: tuple[Shaped[np.ndarray, " landmarks"], np.ndarray, np.ndarray],
    *,
    kept: Bool[np.ndarray, " landmarks"] | None = None,
    coordinates: Float[np.ndarray, "locations dimensions"] | None = None,
    neighbours: Int[np.ndarray, "cells neighbours"] | None = None,
    evidence: CellEvidence | None = None,
    votes: Float[Array, " cells"] | None = None,
) -> Predictor:
    """Put a choice to work.

    Args:
        choice: experts and polishes with their shares.
        mapped: mappings fitted with levels (True) and, where the choice asks for it, without (False).
        landmarks: names, and centred log2 expression of cells and of locations.
        kept: landmarks that may be looked at; None: all.
        coordinates: of the locations.
        neighbours: of each cell in expression.
        evidence: what else is known of where each cell is from.
        votes: (cells,) how much each cell counts.
    """
    names, cells, reference = landmarks
    used = [(e.average, e.ridge, share) for e, share in choice.used() if e.average is not None]
    source, regressed = None, np.zeros(0)
    if used:
        averages = list(dict.fromkeys(average for average, _, _ in used))
        shares, regressed = np.zeros(len(averages)), np.zeros(len(averages))
        for average, ridge, share in used:
            at = averages.index(average)
            shares[at] += share
            regressed[at] += share if ridge is not None else 0.0
        near_by = None if neighbours is None else jnp.asarray(neighbours)
        near, far = stack_spaces([mapped[each.levels].space(each, near_by) for each in spaces_of(averages)])
        log_pi = mapped[True].params.log_location_weights
        points = mix_points(averages, near.dtype)
        source = MixedWeights(points, jnp.asarray(shares, near.dtype), near, far, log_pi, evidence, votes)
    mask = np.ones(len(names), bool) if kept is None else kept
    dtype = np.dtype(mapped[True].cells.dtype)
    return Predictor(
        *(choice, source, regressed, names, cells * mask, reference * mask, mask, coordinates, dtype)
    )
