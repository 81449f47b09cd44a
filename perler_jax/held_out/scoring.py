"""Held-out scores as a function of alpha and beta: what tuning searches.

Folds are scored a chunk at a time by one compiled program, so that a glance can use a few folds only and a
progress bar can move.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from perler_jax.evidence import CellEvidence
from perler_jax.held_out.cross_validation import Score, held_out_scores
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.search import Look
from perler_jax.streaming import Tiles
from perler_jax.weights import WeightParams

__all__ = ["HeldOutScorer"]

_CHUNK = 12  # folds per call
# At most so many are looked at: an optimum shows its place in as few.
_GLANCE_FOLDS, _SAMPLE_CELLS, _SAMPLE_LOCATIONS = 12, 4000, 1000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HeldOutScorer:
    """Scores of held-out landmarks for any weights.

    Attributes:
        fits: from `fit_held_out`.
        cells: centred log2 landmark expression, as in the fits.
        reference: centred log2 landmark expression, as in the fits.
        covariance: of the distance.
        landmark_covariance: used in its place.
        score: "pearson", or "auc" for binary references.
        evidence: what else is known of where each cell is from, as in the fits.
        measured: whether each value of the reference was measured: the others are not scored. None: all.
        tiles: tile sizes; None chooses them.
    """

    fits: HeldOutFits
    cells: Float[Array, "cells landmarks"]
    reference: Float[Array, "locations landmarks"]
    covariance: Literal["fitted", "pooled"] = "fitted"
    landmark_covariance: Float[Array, "landmarks landmarks"] | None = None
    score: Score = "pearson"
    evidence: CellEvidence | None = None
    measured: Bool[Array, "locations landmarks"] | None = None
    tiles: Tiles | None = None

    def __repr__(self) -> str:
        return f"HeldOutScorer({self.fits!r}, {self.score})"

    def __call__(
        self, points: Float[np.ndarray, "*folds points 2"], *, look: Look = "whole"
    ) -> Float[np.ndarray, "points landmarks"]:
        """Scores at (alpha, beta) points: shared (points, 2), or one set per fold (folds, points, 2).

        Args:
            points: alpha and beta.
            look: "sample" takes some cells and locations, "glance" some folds as well (the genes of the
                others are NaN), for shared points only.
        """
        if look != "whole":
            return (self._sample if look == "sample" else self._glance)(points)
        merged = np.full((points.shape[-2], self.cells.shape[1]), np.nan)
        for rows, chunk in self._chunks():
            own = points if points.ndim == 2 else points[rows]
            scored = held_out_scores(chunk, self._weights(own), **self._options())
            found = np.asarray(scored, np.float64)
            merged = np.where(np.isnan(found), merged, found)
        return merged

    def derivatives(
        self, point: Float[np.ndarray, " 2"]
    ) -> tuple[Float[np.ndarray, " landmarks"], Float[np.ndarray, "landmarks 2"]]:
        """Scores at one point with their exact derivatives in alpha and beta, by forward mode in one pass."""
        scores = np.full(self.cells.shape[1], np.nan)
        slopes = np.full((self.cells.shape[1], 2), np.nan)
        for _, chunk in self._chunks():
            found, slope = _with_derivatives(chunk, jnp.asarray(point, self.cells.dtype), **self._options())
            held = ~np.isnan(found)
            scores[held], slopes[held] = np.asarray(found)[held], np.asarray(slope)[held]
        return scores, slopes

    def _options(self) -> dict[str, Any]:
        """All fields but the fits: what they are scored with."""
        fields = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in fields if name != "fits"}

    def _weights(self, points: np.ndarray) -> WeightParams:
        values = jnp.asarray(points, self.cells.dtype)
        return WeightParams(values[..., 0], values[..., 1])

    def _folds(self, rows: Any) -> HeldOutFits:
        """Some folds; taken on the host, where that compiles nothing."""
        leaves, structure = self._on_host
        return jax.tree.unflatten(structure, [jnp.asarray(leaf[rows]) for leaf in leaves])

    @functools.cached_property
    def _on_host(self) -> tuple[list[np.ndarray], Any]:
        leaves, structure = jax.tree.flatten(self.fits)
        return [np.asarray(leaf) for leaf in leaves], structure

    @functools.cached_property
    def _sample(self) -> HeldOutScorer:
        """The same on some of the cells and locations."""
        cells = _some(len(self.cells), _SAMPLE_CELLS)
        locations = _some(len(self.reference), _SAMPLE_LOCATIONS)
        fits = self._folds(slice(None))
        prior, votes = fits.params.log_location_weights, fits.votes
        fits = dataclasses.replace(
            fits,
            params=dataclasses.replace(
                fits.params, log_location_weights=None if prior is None else prior[:, locations]
            ),
            votes=None if votes is None else votes[:, cells],
        ).at_locations(locations, self.measured)
        return dataclasses.replace(
            self,
            fits=fits,
            cells=jnp.asarray(np.asarray(self.cells)[cells]),
            reference=jnp.asarray(np.asarray(self.reference)[locations]),
            evidence=None if self.evidence is None else self.evidence.sample(cells, locations),
            measured=None if self.measured is None else jnp.asarray(np.asarray(self.measured)[locations]),
        )

    @functools.cached_property
    def _glance(self) -> HeldOutScorer:
        """A sample of the folds of a sample."""
        folds = slice(None, None, max(1, len(self.fits.n_steps) // _GLANCE_FOLDS))
        return dataclasses.replace(self._sample, fits=self._sample._folds(folds))

    def _chunks(self) -> list[tuple[np.ndarray, HeldOutFits]]:
        """Folds in groups of one size; the last is filled up with folds that hold nothing out."""
        rows = np.arange(len(self.fits.n_steps))
        size = min(_CHUNK, len(self.fits.n_steps))
        chunks = []
        for start in range(0, len(rows), size):
            taken = rows[start : start + size]
            filled = np.concatenate([taken, np.repeat(taken[-1:], size - len(taken))])
            chunk = self._folds(filled)
            held = chunk.held & (np.arange(size) < len(taken))[:, None]
            chunks.append((filled, dataclasses.replace(chunk, held=held)))
        return chunks


def _some(count: int, most: int) -> np.ndarray:
    """Indices of all, or of as many at random as are looked at."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


@functools.partial(jax.jit, static_argnames=("covariance", "score", "tiles"))
def _with_derivatives(
    fits: HeldOutFits,
    point: Float[Array, " 2"],
    *,
    covariance: Literal["fitted", "pooled"],
    score: Score,
    tiles: Tiles | None,
    **data: Any,
) -> tuple[Float[Array, " landmarks"], Float[Array, "landmarks 2"]]:
    def scores(points: Array) -> Array:
        weights = WeightParams(points[:, 0], points[:, 1])
        return held_out_scores(fits, weights, covariance=covariance, score=score, tiles=tiles, **data)

    # The point twice, moved in one direction each: both share the distances, as any two points do.
    twice = jnp.stack([point, point])
    found, slopes = jax.jvp(scores, (twice,), (jnp.eye(2, dtype=point.dtype),))
    return found[0], slopes.T
