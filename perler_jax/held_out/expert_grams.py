"""Every expert on every held-out landmark: what shares are learned from.

Of a fold one pass over cells x locations gives the weighted means of all points in all spaces, for the
fold's genes and for what the regression explains of them; the rest is algebra on patterns. What is kept of
a gene is one small matrix: products over locations of its polished predictions with one another and with its
map.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.grams import LandmarkGrams, blas_threads, landmark_gram
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.prediction.assembly import Mapped
from perler_jax.prediction.experts import Expert, Polish, Space
from perler_jax.prediction.mixed_weights import MixedWeights, Points, stack_spaces
from perler_jax.prediction.polishing import Polisher, smoothers
from perler_jax.prediction.predictor import averages_of, mix_points, spaces_of
from perler_jax.prediction.regression import prepare_regression
from perler_jax.scale.checkpoint import Checkpoint
from perler_jax.streaming import Tiles

__all__ = ["ExpertScorer", "fold_of"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExpertScorer:
    """Held-out predictions of experts.

    Attributes:
        fits: held-out fits with levels (True) and, where an expert asks for them, without (False).
        cells: (cells, landmarks) centred log2 expression (host, float64).
        reference: (locations, landmarks) likewise.
        grams: of both sides.
        experts: to compare.
        polishes: likewise.
        coordinates: of the locations; may be None where nothing is smoothed.
        neighbours: of each cell in expression, where a space has them.
        evidence: what else is known of where each cell is from.
        covariance: of landmarks, for the distance in place of the fitted one.
        measured: whether each value of the reference was measured: the others are not scored. None: all.
        refill: fold -> the reference with what was not measured filled in without the fold's genes.
        checkpoint: keeps the products of each fold when they are made, and is asked for them first.
        tiles: tile sizes; None chooses them.

    Raises:
        PerlerInputError: a reference with gaps, and no way to fill them without a fold's genes.
    """

    fits: Mapping[bool, HeldOutFits]
    cells: Float[np.ndarray, "cells landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    grams: LandmarkGrams
    experts: tuple[Expert, ...]
    polishes: tuple[Polish, ...]
    coordinates: Float[np.ndarray, "locations dimensions"] | None = None
    neighbours: Int[np.ndarray, "cells neighbours"] | None = None
    evidence: CellEvidence | None = None
    covariance: Float[np.ndarray, "landmarks landmarks"] | None = None
    measured: Bool[np.ndarray, "locations landmarks"] | None = None
    refill: Callable[[Int[np.ndarray, " width"]], np.ndarray] | None = None
    checkpoint: Checkpoint | None = None
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        gaps = any(each.filled is not None for each in self.fits.values())
        if gaps and (self.measured is None or self.refill is None):
            raise PerlerInputError(
                "expected the mask of measured values, and how to fill the others, with held-out fits of a "
                "reference that has gaps; found none; give measured= and refill="
            )

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.fits[True].n_steps)

    def grams_of_genes(
        self, progress: Callable[[Any], Any] = iter
    ) -> Float[np.ndarray, "landmarks pairs pairs"]:
        """Products of polished predictions and map, gene by gene; NaN for genes that no fold holds out."""
        size = len(self.experts) * len(self.polishes) + 1
        found = np.full((self.cells.shape[1], size, size), np.nan)
        with blas_threads(self.cells.shape[1]):
            for fold in progress(range(self.n_folds)):
                make = functools.partial(self._fold_grams, fold)
                name = f"experts-{fold:05d}"
                made = make() if self.checkpoint is None else self.checkpoint.keep(name, make)
                found[made["genes"]] = made["grams"]
        return found

    def _fold_grams(self, fold: int) -> dict[str, np.ndarray]:
        genes, patterns = self.patterns(fold)
        grams = []
        for at, gene in enumerate(genes):
            rows = np.concatenate([patterns[:, :, at], self.reference[None, :, gene].astype(np.float32)])
            if self.measured is not None:
                rows = rows[:, self.measured[:, gene]]
            rows = rows - rows.mean(axis=1, keepdims=True)
            grams.append((rows @ rows.T / rows.shape[1]).astype(np.float64))
        return {"genes": genes, "grams": np.stack(grams)}

    def patterns(
        self, fold: int
    ) -> tuple[Int[np.ndarray, " genes"], Float[np.ndarray, "pairs locations genes"]]:
        """Genes of a fold, and what every polished expert predicts of them (polishes run fastest)."""
        fits = {levels: fold_of(each, fold) for levels, each in self.fits.items()}
        first = fits[True]
        padded, held = np.asarray(first.genes), np.asarray(first.held)
        genes = padded[held]
        kept = np.ones(self.cells.shape[1], bool)
        kept[genes] = False
        count = self.cells.shape[0], self.reference.shape[0]
        reference, gram = self.reference, self.grams.reference
        if self.refill is not None:
            reference = self.refill(genes)
            gram = landmark_gram(reference)
        regressions = list(dict.fromkeys(e.regression for e in self.experts if e.regression is not None))
        beside = list(
            dict.fromkeys(
                e.regression for e in self.experts if e.regression is not None and e.average is not None
            )
        )
        of_cells, carried = {}, {}
        products = self.grams.cells[:, padded] / count[0] * kept[:, None]
        for key in regressions:
            regression = prepare_regression(
                self.grams.cells / count[0],
                gram / count[1],
                kept,
                ridge=key[0],
                levels=key[1],
            )
            of_cells[key], of_reference = regression.coefficients(products)
            carried[key] = (reference @ of_reference).astype(np.float32)
        averages = averages_of(self.experts)
        dtype = first.cell_loadings.dtype
        columns = np.concatenate([np.eye(len(kept))[:, padded], *(of_cells[key] for key in beside)], axis=1)
        found = _fold_means(
            fits,
            *self._sides,
            jnp.asarray(columns, dtype),
            mix_points(averages, dtype),
            self._neighbours,
            self._evidence,
            *self._whole,
            tuple(spaces_of(averages)),
            self.tiles,
        )
        means = np.asarray(found, np.float32)
        means = means.reshape(len(averages), count[1], 1 + len(beside), len(padded))
        predicted = []
        for each in self.experts:
            parts = np.zeros((count[1], len(padded)), np.float32)
            if each.average is not None:
                parts = parts + means[averages.index(each.average)][:, 0]
            if each.regression is not None:
                parts = parts + carried[each.regression]
            if each.average is not None and each.regression is not None:
                parts = parts - means[averages.index(each.average)][:, 1 + beside.index(each.regression)]
            predicted.append(parts)
        # All experts' patterns are polished at once, as columns.
        patterns = np.stack([each[:, held] for each in predicted], axis=1)  # (locations, experts, genes)
        polisher = Polisher(self.polishes, _standard(reference[:, kept]), self._smoothers)
        polished = polisher.each(patterns.reshape(count[1], -1))
        stacked = np.stack([each.reshape(patterns.shape) for each in polished], axis=2)
        return genes, np.moveaxis(stacked.reshape(count[1], -1, len(genes)), 0, 1)

    @functools.cached_property
    def _sides(self) -> tuple[Array, Array]:
        dtype = self.fits[True].cell_loadings.dtype
        return jnp.asarray(self.cells.astype(dtype)), jnp.asarray(self.reference.astype(dtype))

    @functools.cached_property
    def _neighbours(self) -> Array | None:
        return None if self.neighbours is None else jnp.asarray(self.neighbours)

    @functools.cached_property
    def _evidence(self) -> CellEvidence | None:
        return None if self.evidence is None else self.evidence.astype(self._sides[0].dtype)

    @functools.cached_property
    def _smoothers(self) -> dict[float, Any]:
        return smoothers(self.polishes, self.coordinates)  # once for all folds

    @functools.cached_property
    def _whole(self) -> tuple[Array | None, Array | None]:
        """The covariance of landmarks and the mask, on the device."""
        dtype = self._sides[0].dtype
        covariance = None if self.covariance is None else jnp.asarray(self.covariance, dtype)
        return covariance, None if self.measured is None else jnp.asarray(self.measured)


@functools.partial(jax.jit, static_argnames=("spaces", "tiles"))
def _fold_means(
    fits: Mapping[bool, HeldOutFits],
    cells: Array,
    reference: Array,
    coefficients: Array,
    points: Points,
    neighbours: Array | None,
    evidence: CellEvidence | None,
    covariance: Array | None,
    measured: Array | None,
    spaces: tuple[Space, ...],
    tiles: Tiles | None,
) -> Float[Array, "points locations values"]:
    mapped = {
        levels: Mapped(
            fit.params,
            cells @ fit.cell_loadings,
            fit.locations(reference, measured),
            None if covariance is None else fit.cell_loadings.T @ covariance @ fit.cell_loadings,
        )
        for levels, fit in fits.items()
    }
    near, far = stack_spaces([mapped[each.levels].space(each, neighbours) for each in spaces])
    fit = fits[True]
    source = MixedWeights(
        points, jnp.ones_like(points.alpha), near, far, fit.params.log_location_weights, evidence, fit.votes
    )
    return source.each_mean(jnp.matmul(cells, coefficients, precision="highest"), tiles=tiles)


def fold_of(fits: HeldOutFits, fold: int) -> HeldOutFits:
    """One fold, whose leaves have no fold axis."""
    return jax.tree.map(lambda leaf: leaf[fold], fits)


def _standard(values: np.ndarray) -> np.ndarray:
    """Centred columns at variance one, in single precision."""
    spread = values.std(axis=0)
    return (values / np.where(spread > 0, spread, 1.0)).astype(np.float32)
