"""What a panel of landmarks is worth: the places of cells it leaves unknown, and the genes it predicts.

The criterion "entropy" is what a panel S leaves unknown of a cell's place, H(place | x_S). By the tower rule
it is the mean surprise at a cell's place, where the whole panel sees it, for somebody who sees S:

    H(S) = mean_n  sum_k gamma_nk [ D_nk^2(S) / 2 - ln pi_k ] + ln Z_n(S),
    Z_n(S) = sum_k pi_k exp(-D_nk^2(S) / 2),    gamma: the posterior with the whole panel.

A panel that is sure of a wrong place is punished, which its own entropy would not do. D^2 is a sum over
landmarks: the first term is a sum of numbers known once and for all, only ln Z_n needs a pass, and in that
pass many candidates share each tile of distances.

The criterion "loo" is how badly ALL landmarks are predicted, those of the panel by the others of the panel,
the rest by the panel: one minus the mean correlation over locations. Predictions are linear here, as in
`prediction/regression.py`: ridge regression among the cells, carried to the locations by the reference,

    h_d ~ sum over g in S of h_g B_gd,    B = (C_SS + ridge)^-1 C_Sd,

with C the correlations of landmarks among cells. With R those among locations, the correlation of prediction
and truth is B'R_Sd / sqrt(B'R_SS B): matrices of landmarks are all that is needed.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax.scores.metrics import correlations
from perler_jax.streaming import Logits, Tiles, softmax_moments
from perler_jax.trust.landmark_space import LandmarkSpace

__all__ = ["CANDIDATES_PER_PASS", "RemainingEntropy", "UnpredictedLandmarks", "log_evidence_without"]

CANDIDATES_PER_PASS = 8  # one compiled program serves all passes

_NONE = -1  # the candidate that is no landmark


class RemainingEntropy:
    """H(place | panel) in nats, a mean over cells; all that does not depend on the panel is computed once."""

    # Where landmarks are independent given the place, the loss of one only grows as others go.
    submodular = True

    def __init__(self, space: LandmarkSpace) -> None:
        self.space = space
        squares, log_prior = _expected_terms(space.cells, space.locations, space.log_location_weights)
        self._squares = np.asarray(squares, np.float64).mean(axis=0)
        self._log_prior = float(np.asarray(log_prior, np.float64).mean())

    def __repr__(self) -> str:
        return f"RemainingEntropy({self.space!r})"

    def of(self, kept: np.ndarray) -> float:
        """Of a panel, given as (landmarks,) booleans."""
        return float(self.without(kept, np.array([_NONE]))[0])

    def without(self, kept: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Of a panel without each of some landmarks, given by index: (candidates,)."""
        found = []
        for start in range(0, len(candidates), CANDIDATES_PER_PASS):
            some = candidates[start : start + CANDIDATES_PER_PASS]
            filled = np.concatenate([some, np.full(CANDIDATES_PER_PASS - len(some), _NONE)])
            log_evidence = log_evidence_without(
                self.space.cells,
                self.space.locations,
                self.space.log_location_weights,
                jnp.asarray(kept, self.space.cells.dtype),
                jnp.asarray(filled),
            )
            left = self._squares[kept].sum() - np.where(some == _NONE, 0.0, self._squares[some])
            means = np.asarray(log_evidence[: len(some)], np.float64).mean(axis=1)
            found.append(0.5 * left - self._log_prior + means)
        return np.concatenate(found)


_Tile = tuple[Array, Array, Array, Array]


def _panel_distances(cell: tuple[Array, Array], location: tuple[Array, Array, Array]) -> _Tile:
    """D^2 over the panel, what a candidate's own term needs, and ln pi."""
    (z, z_panel), (m, m_panel, log_prior) = cell, location
    squared = jnp.sum(m_panel**2, axis=1)[:, None] + jnp.sum(z_panel**2, axis=1)
    squared = squared - 2 * jnp.matmul(m_panel, z_panel.T, precision="highest")
    return squared, z, m, log_prior[:, None]


def _without_candidate(tile: _Tile, candidate: Array) -> Logits:
    squared, z, m, log_prior = tile
    own = (jnp.take(z, candidate, axis=1) - jnp.take(m, candidate, axis=1)[:, None]) ** 2
    return Logits(log_prior - 0.5 * (squared - jnp.where(candidate == _NONE, 0.0, own)))


@functools.partial(jax.jit, static_argnames="tiles")
def log_evidence_without(
    cells: Float[Array, "cells landmarks"],
    locations: Float[Array, "locations landmarks"],
    log_location_weights: Float[Array, " locations"] | None,
    kept: Float[Array, " landmarks"],
    candidates: Int[Array, " candidates"],
    *,
    tiles: Tiles | None = None,
) -> Float[Array, "candidates cells"]:
    """Ln Z: ln sum_k pi_k exp(-D_nk^2 / 2) over a panel, each time without one of its landmarks.

    Args:
        cells: in `landmark_space`.
        locations: likewise.
        log_location_weights: ln pi; None is uniform.
        kept: 1 for the landmarks of the panel, else 0.
        candidates: indices of landmarks of the panel; -1 leaves all of it.
        tiles: tile sizes; None chooses them.
    """
    return softmax_moments(
        _panel_distances,
        _without_candidate,
        candidates,
        (cells, cells * kept),
        (locations, locations * kept, _log_prior(log_location_weights, len(locations), cells.dtype)),
        tiles=tiles,
    ).log_normaliser


@functools.partial(jax.jit, static_argnames="tiles")
def _expected_terms(
    cells: Float[Array, "cells landmarks"],
    locations: Float[Array, "locations landmarks"],
    log_location_weights: Float[Array, " locations"] | None,
    *,
    tiles: Tiles | None = None,
) -> tuple[Float[Array, "cells landmarks"], Float[Array, " cells"]]:
    """Each landmark's term of D^2, and ln pi, as the posterior of the whole panel expects them."""
    log_prior = _log_prior(log_location_weights, len(locations), cells.dtype)
    moments = softmax_moments(
        _panel_distances,
        _without_candidate,
        jnp.array([_NONE]),
        (cells, cells),
        (locations, locations, log_prior),
        location_values=jnp.concatenate([locations, locations**2, log_prior[:, None]], axis=1),
        tiles=tiles,
    )
    assert moments.of_cells is not None
    n = cells.shape[1]
    first, second, expected_prior = jnp.split(moments.of_cells[0], [n, 2 * n], axis=1)
    return cells**2 - 2 * cells * first + second, expected_prior[:, 0]


def _log_prior(log_location_weights: Array | None, n_locations: int, dtype: jnp.dtype) -> Array:
    uniform = jnp.zeros(n_locations, dtype)
    return jax.nn.log_softmax(uniform if log_location_weights is None else log_location_weights)


_RIDGES = (0.5, 2.0, 8.0)  # in units of a landmark's variance


class UnpredictedLandmarks:
    """One minus the mean correlation of all landmarks with what a panel says of them.

    The ridge is the one of three with which the whole panel predicts best.
    """

    submodular = False

    def __init__(self, space: LandmarkSpace) -> None:
        # The reference itself, not the mapped one: a negative sensitivity would turn a landmark's sign.
        self._cells = np.asarray(np.corrcoef(np.asarray(space.cells, np.float64), rowvar=False))
        placed = np.asarray(space.reference, np.float64)
        among = correlations(placed, placed, space.measured, space.measured)
        # Landmarks that were never measured together do not speak of each other.
        self._locations = among if space.measured is None else np.nan_to_num(among)
        everything = np.ones((1, len(space.genes)), bool)
        self.ridge = min(_RIDGES, key=lambda ridge: self._loss(everything, ridge)[0])

    def __repr__(self) -> str:
        return f"UnpredictedLandmarks({len(self._cells)} landmarks, ridge {self.ridge:g})"

    def of(self, kept: np.ndarray) -> float:
        """Of a panel, given as (landmarks,) booleans."""
        return float(self._loss(kept[None], self.ridge)[0])

    def without(self, kept: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Of a panel without each of some landmarks, given by index: (candidates,)."""
        panels = np.repeat(kept[None], len(candidates), axis=0)
        panels[np.arange(len(candidates)), candidates] = False
        return self._loss(panels, self.ridge)

    def _loss(self, panels: np.ndarray, ridge: float) -> np.ndarray:
        """(panels,) from (panels, landmarks) booleans."""
        both = panels[:, :, None] & panels[:, None, :]
        eye = np.eye(len(self._cells)) > 0
        # Landmarks that are out stand alone in the matrix: their rows of its inverse are set to zero again.
        inverse = np.linalg.inv(np.where(both, self._cells, 0.0) + np.where(eye, 1.0 * ~both + ridge, 0.0))
        inverse = np.where(both, inverse, 0.0)
        outside = inverse @ self._cells
        # The regression of a landmark on the others is a column of the inverse over its diagonal.
        diagonal = np.where(panels, np.einsum("pii->pi", inverse), 1.0)
        inside = -np.where(eye, 0.0, inverse) / diagonal[:, None, :]
        coefficients = np.where(panels[:, None, :], inside, outside)
        explained = np.einsum("pgd,gd->pd", coefficients, self._locations)
        spread = np.einsum("pgd,pgd->pd", coefficients, self._locations @ coefficients)
        correlations = np.divide(
            explained, np.sqrt(np.maximum(spread, 0.0)), out=np.zeros(explained.shape), where=spread > 0
        )
        return 1 - correlations.mean(axis=1)
