"""What a fit is about: inputs that were checked, aligned, transformed and reduced, before any EM step."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from perler_jax.batches import batches_of, with_batches
from perler_jax.choices import Missing
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence, check_evidence
from perler_jax.grams import LandmarkGrams, landmark_grams
from perler_jax.held_out.cross_validation import Score
from perler_jax.held_out.folds import make_folds
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.scales import ReferenceNormalisation, Scale
from perler_jax.landmarks import align_landmarks
from perler_jax.metagenes import MetageneMap, clip_n_metagenes, reduce_landmarks
from perler_jax.neighbourhood import neighbours_without
from perler_jax.noise import FOREIGN_SHARE, noise_of
from perler_jax.preprocessing import Preprocessing, cell_landmarks, preprocess_cells, reference_landmarks
from perler_jax.scale.checkpoint import Checkpoint, fingerprint, open_checkpoint
from perler_jax.scale.spread import to_device
from perler_jax.settings import PerlerSettings
from perler_jax.streaming import Tiles
from perler_jax.validation import landmark_covariance, log_location_prior
from perler_jax.weights import Covariance

__all__ = ["Problem", "prepare_problem"]

# Above this many landmarks one fit per landmark is not worth its time: ten folds, as the paper for its 1020.
_MOST_SINGLE_FOLDS = 200


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """Inputs of a fit, on the host in float64; device arrays are made in the precision of the settings.

    Attributes:
        settings: choices of the method.
        expression: labelled expression of the cells.
        atlas: labelled reference map.
        landmarks: names in use, in the order of all columns below.
        preprocessing: what was done to the cells.
        cells: centred log2 expression of the landmarks in cells (y).
        reference: centred log2 expression of the landmarks at locations (h).
        folds: landmark indices that are held out together.
        n_metagenes: dimensions that even the largest fold leaves.
        grams: Gram matrices of the landmarks, for the reductions.
        metagenes: linear maps fitted on all landmarks.
        log_location_weights: ln pi; None is uniform.
        evidence: what else is known of where each cell is from.
        covariance: of landmarks, for the distance in place of the one that the settings name.
        measured: whether each value of the reference was measured; None: all were.
    """

    settings: PerlerSettings
    expression: CellExpression
    atlas: SpatialReference
    landmarks: Shaped[np.ndarray, " landmarks"]
    preprocessing: Preprocessing
    cells: Float[np.ndarray, "cells landmarks"]
    reference: Float[np.ndarray, "locations landmarks"]
    folds: list[Int[np.ndarray, " _width"]] | list
    n_metagenes: int
    grams: LandmarkGrams
    metagenes: MetageneMap
    log_location_weights: Float[np.ndarray, " locations"] | None = None
    evidence: CellEvidence | None = None
    covariance: Float[np.ndarray, "landmarks landmarks"] | None = None
    measured: Bool[np.ndarray, "locations landmarks"] | None = None

    def __repr__(self) -> str:
        return (
            f"Problem({len(self.cells)} cells, {len(self.reference)} locations, {len(self.landmarks)} "
            f"landmarks in {self.n_metagenes} metagenes, {len(self.folds)} folds)"
        )

    @property
    def measure(self) -> Score:
        """How a predicted landmark is compared with its reference."""
        return "auc" if self.settings.objective == "roc" else "pearson"

    @cached_property
    def neighbours(self) -> Int[np.ndarray, "cells neighbours"] | None:
        """Of each cell in expression, found among genes that are no landmark; None where too few are."""
        return neighbours_without(self.expression, self.landmarks, self.preprocessing.apply)

    def refill(self, fold: Int[np.ndarray, " width"]) -> Float[np.ndarray, "locations landmarks"]:
        """The reference with its gaps filled without a trace of some landmarks."""
        return reference_landmarks(self.atlas, self.landmarks, without=self.landmarks[fold])

    def on_device(self, values: Any) -> Array:
        """Numbers in the precision of the settings."""
        return to_device(values, self.settings.dtype)

    def device_landmarks(self) -> tuple[Array, Array]:
        """Landmarks of cells and locations."""
        return self.on_device(self.cells), self.on_device(self.reference)

    def reduced(self, *, levels: bool = True) -> MetageneMap:
        """Linear maps fitted on all landmarks, with or without the level of each cell and location."""
        choices: dict[str, Any] = {"n_metagenes": self.n_metagenes, "reduction": self.settings.reduction}
        return reduce_landmarks(self.grams, levels=levels, **choices)

    def device_metagenes(self, maps: MetageneMap | None = None) -> tuple[Array, Array]:
        """Metagenes of cells (x) and locations (r) by the maps, reduced on the host in float64."""
        maps = self.metagenes if maps is None else maps
        x = self.cells @ maps.cell_loadings
        return self.on_device(x), self.on_device(self.reference @ maps.reference_loadings)

    def device_evidence(self) -> CellEvidence | None:
        """The evidence."""
        return None if self.evidence is None else self.evidence.astype(np.dtype(self.settings.dtype))

    def device_location_weights(self) -> Array | None:
        """Ln pi."""
        return None if self.log_location_weights is None else self.on_device(self.log_location_weights)

    def metagene_covariance(self) -> Covariance:
        """Of the distance between cells and locations in metagenes."""
        if self.covariance is None:
            return self.settings.covariance
        loadings = self.metagenes.cell_loadings
        return self.on_device(loadings.T @ self.covariance @ loadings)

    def start_options(self) -> dict[str, Any]:
        """The family of the noise and the component of foreign cells, for `initial_params`."""
        share = FOREIGN_SHARE if self.settings.foreign_cells else None
        return {"noise_family": noise_of(self.settings.noise, self.settings.noise_df), "foreign_share": share}

    def em_options(self, tiles: Tiles | None) -> dict[str, Any]:
        """How EM runs, for `fit_em` and `fit_held_out`."""
        settings = self.settings
        return {
            "evidence": self.device_evidence(),
            "learn_location_weights": settings.learn_location_weights,
            "tolerance": settings.tolerance,
            "max_steps": settings.max_steps,
            "stop_rule": settings.stop_rule,
            "accelerate": settings.stop_rule == "relative",
            "tiles": tiles,
        }

    def checkpoint(self, folder: Any) -> Checkpoint | None:
        """Where unfinished work on just this problem is kept; None if no folder is given."""
        if folder is None:
            return None
        if jax.process_count() > 1:
            raise PerlerInputError("expected no checkpoint with several processes: folders may differ")
        marks = (self.settings, self.log_location_weights, self.covariance, self.evidence)
        given = [*marks, *(each for each in (self.measured, self.atlas.sections) if each is not None)]
        return open_checkpoint(folder, fingerprint(self.cells, self.reference, *given))


def prepare_problem(
    cells: Any,
    reference: Any,
    settings: PerlerSettings,
    *,
    location_weights: Any = None,
    evidence: CellEvidence | None = None,
    totals: Any = None,
    covariance: Any = None,
    cells_scale: Scale = "auto",
    cells_layer: str | None = None,
    reference_scale: Scale = "auto",
    reference_layer: str | None = None,
    reference_normalisation: ReferenceNormalisation = "auto",
    cells_gene_key: str | None = None,
    reference_gene_key: str | None = None,
    cells_use_raw: bool = False,
    reference_use_raw: bool = False,
    coordinates: Any = None,
    missing: Missing = "refuse",
    section_key: str | None = None,
    batch_key: str | None = None,
) -> Problem:
    """Check and align everything that `fit_perler` was given; arguments and errors are its own."""
    expression = as_cells(
        cells, scale=cells_scale, layer=cells_layer, gene_key=cells_gene_key, use_raw=cells_use_raw
    )
    atlas = as_reference(
        reference,
        coordinates=coordinates,
        scale=reference_scale,
        layer=reference_layer,
        normalisation=reference_normalisation,
        gene_key=reference_gene_key,
        use_raw=reference_use_raw,
        missing=missing,
        section_key=section_key,
    )
    batches = None if batch_key is None else batches_of(expression, batch_key)
    landmarks = align_landmarks(expression, atlas)
    measured = atlas.measured_at(landmarks)
    preprocessing = preprocess_cells(expression, settings.normalisation, totals)
    if batch_key is not None and batches is not None:
        preprocessing = with_batches(preprocessing, expression, landmarks, batches, batch_key)
    y = cell_landmarks(expression, landmarks, preprocessing)
    h = reference_landmarks(atlas, landmarks)
    n_folds = settings.folds or (None if len(landmarks) <= _MOST_SINGLE_FOLDS else 10)
    folds = make_folds(len(landmarks), n_folds, seed=settings.seed)
    n_metagenes = clip_n_metagenes(
        len(landmarks) if settings.reduction == "none" else settings.n_metagenes,
        landmarks=len(landmarks),
        locations=len(h),
        cells=len(y),
        held_out=max(map(len, folds)),
        is_default=settings.n_metagenes == PerlerSettings.n_metagenes or settings.reduction == "none",
    )
    log_weights = log_location_prior(location_weights, len(h))
    check_evidence(evidence, len(y), len(h))
    grams = landmark_grams(y, h)
    return Problem(
        settings=settings,
        expression=expression,
        atlas=atlas,
        landmarks=landmarks,
        preprocessing=preprocessing,
        cells=y,
        reference=h,
        folds=folds,
        covariance=landmark_covariance(covariance, landmarks),
        measured=measured,
        n_metagenes=n_metagenes,
        grams=grams,
        metagenes=reduce_landmarks(grams, n_metagenes=n_metagenes, reduction=settings.reduction),
        log_location_weights=log_weights,
        evidence=evidence,
    )
