"""Held-out fits: each fold of landmarks is dropped from BOTH sides before metagenes and EM are made anew.

EM does not depend on alpha and beta, so the held-out fits are made once. A fold is a mask with static shapes,
folds run one after the other, or one per device where there are several (`use_devices`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perler_jax._typing import pytree
from perler_jax.em_loop import StopRule
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.grams import LandmarkGrams, blas_threads, landmark_gram, landmark_grams
from perler_jax.held_out.fold_em import FoldEM
from perler_jax.metagenes import Reduction, reduce_landmarks
from perler_jax.mixture import MappingParams
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.scale.checkpoint import Checkpoint
from perler_jax.scale.spread import one_per_device
from perler_jax.streaming import Tiles

__all__ = ["HeldOutFits", "fit_held_out", "make_folds"]


@pytree
class HeldOutFits:
    """One fit per fold, with the genes that it has never seen.

    Attributes:
        genes: (folds, width) landmark indices held out; short folds are padded with their first gene.
        held: (folds, width) whether the entry is a gene rather than padding.
        cell_loadings: (folds, landmarks, metagenes), zero for the genes held out.
        reference_loadings: (folds, landmarks, metagenes), likewise.
        params: fitted mappings, stacked along folds.
        n_steps: (folds,) EM steps made.
        converged: (folds,) whether each EM run converged.
        votes: (folds, cells) how much each cell counts; None counts all alike.
        filled: (folds, gaps) what stands, in each fold, where the reference was not measured, row by row:
            filled in without the fold's genes. None: there are no gaps.
        shift: (folds, metagenes) what that adds to all locations, as each landmark's mean is taken off.
    """

    genes: Int[Array, "folds width"]
    held: Bool[Array, "folds width"]
    cell_loadings: Float[Array, "folds landmarks metagenes"]
    reference_loadings: Float[Array, "folds landmarks metagenes"]
    params: MappingParams
    n_steps: Int[Array, " folds"]
    converged: Bool[Array, " folds"]
    votes: Float[Array, "folds cells"] | None = None
    filled: Float[Array, "folds gaps"] | None = None
    shift: Float[Array, "folds metagenes"] | None = None

    def locations(
        self, reference: Float[Array, "locations landmarks"], measured: Any = None
    ) -> Float[Array, "locations metagenes"]:
        """Metagenes of the locations in one fold (no leading axis of folds).

        Args:
            reference: centred log2 landmark expression, as in the fits.
            measured: whether each value of it was measured.

        Raises:
            PerlerInputError: no mask for fits of a reference with gaps.
        """
        if self.filled is not None and self.shift is not None:
            if measured is None:
                raise PerlerInputError(
                    "expected the mask of measured values with held-out fits of a reference that has gaps; "
                    "found none; give measured=reference.measured_at(landmarks)"
                )
            gaps = jnp.nonzero(~jnp.asarray(measured), size=self.filled.shape[-1])
            return reference.at[gaps].set(self.filled) @ self.reference_loadings + self.shift
        return reference @ self.reference_loadings

    def at_locations(self, locations: Int[np.ndarray, " some"], measured: Any) -> HeldOutFits:
        """What is filled in at some of the locations only, these in their order."""
        if self.filled is None:
            return self
        rows, _ = np.nonzero(~np.asarray(measured))
        return dataclasses.replace(self, filled=self.filled[:, np.isin(rows, locations)])

    def __repr__(self) -> str:
        if not hasattr(self.cell_loadings, "shape"):
            return "HeldOutFits(...)"
        folds, landmarks, metagenes = self.cell_loadings.shape
        return f"HeldOutFits({folds} folds of {landmarks} landmarks, {metagenes} metagenes)"


def make_folds(
    n_landmarks: int, folds: int | None = None, *, seed: int = 0
) -> list[Int[np.ndarray, " _width"]]:
    """Split landmarks into folds whose sizes differ by at most one.

    Args:
        n_landmarks: how many landmarks there are.
        folds: how many folds; None leaves one gene out at a time.
        seed: of the shuffle (unused when one gene is left out at a time).

    Note: the released program's fold sizes can leave its last folds empty; these never are.
    """
    if folds is None or folds == n_landmarks:
        return [np.array([gene]) for gene in range(n_landmarks)]
    if not 2 <= folds <= n_landmarks:
        raise PerlerInputError(f"expected 2 to {n_landmarks} folds (or None: one per gene), found {folds}")
    order = np.random.default_rng(seed).permutation(n_landmarks)
    return [np.sort(fold) for fold in np.array_split(order, folds)]


def fit_held_out(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    folds: list[Int[np.ndarray, " _width"]] | list,
    *,
    n_metagenes: int,
    reduction: Reduction = "plsc",
    levels: bool = True,
    grams: LandmarkGrams | None = None,
    log_location_weights: Float[Array, " locations"] | None = None,
    evidence: CellEvidence | None = None,
    noise_family: NoiseFamily = GAUSSIAN,
    foreign_share: float | None = None,
    learn_location_weights: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 200,
    stop_rule: StopRule = "relative",
    accelerate: bool = True,
    tiles: Tiles | None = None,
    checkpoint: Checkpoint | None = None,
    dtype: np.dtype | type = np.float32,
    measured: Bool[np.ndarray, "locations landmarks"] | None = None,
    refill: Callable[[Int[np.ndarray, " width"]], np.ndarray] | None = None,
    progress: Callable[[list], list] | Callable = iter,
) -> HeldOutFits:
    """Fit the mapping once per fold of landmarks, each time without any trace of the fold's genes.

    Args:
        cells: centred log2 landmark expression of cells (host, float64).
        reference: centred log2 landmark expression of locations (host, float64).
        folds: landmark indices held out together, one array per fold (`make_folds`).
        n_metagenes: must suit the largest fold (`clip_n_metagenes`).
        reduction: as in `reduce_landmarks`.
        levels: likewise.
        grams: of the landmarks (`landmark_grams`), where they are known already.
        log_location_weights: ln pi; None is uniform.
        evidence: what else is known of where each cell is from.
        noise_family: how cells scatter.
        foreign_share: of cells from elsewhere to begin with; None leaves that component out.
        learn_location_weights: learn pi in every fold.
        tolerance: of EM, see `run_em`.
        max_steps: of EM.
        stop_rule: of EM.
        accelerate: EM.
        tiles: tile sizes; None chooses them.
        checkpoint: keeps each fold when it is done, and is asked for it first.
        dtype: of the fits.
        measured: whether each value of the reference was measured. None: all.
        refill: fold -> the reference with what was not measured filled in without the fold's genes; needed
            where there are gaps, or the genes held out would show through them.
        progress: wraps the iterable of folds, e.g. a progress bar.
    """
    width = max(len(fold) for fold in folds)
    # Without a reduction the smallest fold leaves the most metagenes.
    columns = cells.shape[1] - min(len(fold) for fold in folds) if reduction == "none" else n_metagenes
    names = [f"fold-{'' if levels else 'levelled-'}{index:05d}" for index in range(len(folds))]
    missing = [i for i, name in enumerate(names) if checkpoint is None or not checkpoint.has(name)]

    def reduced() -> Iterator[dict[str, np.ndarray]]:
        known = landmark_grams(cells, reference) if grams is None else grams
        for index in progress(missing):
            fold = folds[index]
            keep = np.ones(cells.shape[1], bool)
            keep[fold] = False
            own, gaps = reference, {}
            if measured is not None and refill is not None:
                own = refill(fold)
                known = dataclasses.replace(known, reference=landmark_gram(own))
                change = own - reference
                offset = np.take_along_axis(change, measured.argmax(axis=0)[None], axis=0)
                gaps = {"filled": (own - offset)[~measured].astype(dtype)}
            choices: dict[str, Any] = {"n_metagenes": n_metagenes, "reduction": reduction, "levels": levels}
            maps = reduce_landmarks(known, keep=keep, **choices)
            of_cells = _widen(maps.cell_loadings, columns)
            of_reference = _widen(maps.reference_loadings, columns)
            with blas_threads(cells.shape[1]):
                x, r = cells @ of_cells, own @ of_reference
            if gaps:
                gaps["shift"] = (offset[0] @ of_reference).astype(dtype)
            yield {
                **gaps,
                "genes": np.concatenate([fold, np.repeat(fold[:1], width - len(fold))]),
                "held": np.arange(width) < len(fold),
                "cell_loadings": of_cells.astype(dtype),
                "reference_loadings": of_reference.astype(dtype),
                "x": x.astype(dtype),
                "r": r.astype(dtype),
            }

    fit_fold = FoldEM(
        noise_family=noise_family,
        foreign_share=foreign_share,
        learn_location_weights=learn_location_weights,
        tolerance=tolerance,
        max_steps=max_steps,
        stop_rule=stop_rule,
        accelerate=accelerate,
        tiles=tiles,
    )
    shared = (log_location_weights, evidence)
    fits: list[dict[str, Any]] = [{} for _ in folds]
    for index, found in zip(missing, one_per_device(fit_fold, reduced(), shared), strict=True):
        fits[index] = found
        if checkpoint is not None:
            checkpoint.put(names[index], found)
    if checkpoint is not None:
        fits = [found or checkpoint.get(name) or {} for name, found in zip(names, fits, strict=True)]
    # On the host, where stacking compiles nothing.
    stacked = {name: jnp.asarray(np.stack([np.asarray(each[name]) for each in fits])) for name in fits[0]}

    def part(prefix: str) -> dict[str, Any]:
        names = [name for name in stacked if name.startswith(prefix)]
        return {name.removeprefix(prefix): stacked.pop(name) for name in names}

    foreign = part("foreign/")
    params = MappingParams(
        **part("params/"), foreign=ForeignCells(**foreign) if foreign else None, noise_family=noise_family
    )
    fields: dict[str, Any] = {**stacked, "params": params}
    return HeldOutFits(**fields)


def _widen(loadings: np.ndarray, columns: int) -> np.ndarray:
    """Zero columns up to that many: folds of unequal size under reduction "none" have unequal widths."""
    return np.pad(loadings, ((0, 0), (0, columns - loadings.shape[1])))
