"""Metagenes: the low-dimensional space shared by cells and locations (Eqs. 4-7 of Okochi et al. 2021).

Every reduction here is a pair of linear maps, so a metagene is a named mixture of landmarks that can be
shown, and applying it to new cells is one matrix product. The maps come from landmark-by-landmark Gram
matrices alone: nothing of the size cells x locations is ever formed, and held-out folds do not look at the
cells again.
"""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool, Float

from perler_jax.choices import Reduction
from perler_jax.errors import PerlerInputError
from perler_jax.grams import LandmarkGrams, blas_threads, landmark_grams, level_map

logger = logging.getLogger("perler_jax")


__all__ = [
    "MetageneMap",
    "Reduction",
    "clip_n_metagenes",
    "fit_metagenes",
    "reduce_landmarks",
]


@dataclasses.dataclass(frozen=True, eq=False)
class MetageneMap:
    """Linear maps from landmark expression to metagenes.

    Attributes:
        cell_loadings: (landmarks, metagenes); metagenes of cells are ``cells @ cell_loadings``.
        reference_loadings: (landmarks, metagenes); those of locations ``reference @ reference_loadings``.
        strength: (metagenes,) singular value (PLSC) or standard deviation (PCA) of each metagene.
    """

    cell_loadings: Float[np.ndarray, "landmarks metagenes"]
    reference_loadings: Float[np.ndarray, "landmarks metagenes"]
    strength: Float[np.ndarray, " metagenes"]

    def __repr__(self) -> str:
        landmarks, metagenes = self.cell_loadings.shape
        return f"MetageneMap({metagenes} metagenes of {landmarks} landmarks)"


def clip_n_metagenes(
    requested: int,
    *,
    landmarks: int,
    locations: int,
    cells: int,
    held_out: int = 1,
    is_default: bool = False,
) -> int:
    """The number of metagenes that every held-out fit can have: at most ``requested``.

    A fold lacks ``held_out`` landmarks, and centring costs each side one dimension. A number that somebody
    asked for is lowered with a warning, a default with a note.

    Raises:
        PerlerInputError: if not even one metagene is left, or if ``requested`` is below one.
    """
    if requested < 1:
        raise PerlerInputError(f"expected n_metagenes >= 1, found {requested}: ask for at least one metagene")
    most = min(landmarks - held_out, locations - 1, cells - 1)
    if most < 1:
        raise PerlerInputError(
            f"expected at least 2 cells, 2 locations and {held_out + 1} landmarks, found {cells} cells, "
            f"{locations} locations and {landmarks} landmarks: give more data or hold out fewer genes"
        )
    if requested > most:
        logger.log(
            logging.INFO if is_default else logging.WARNING,
            "n_metagenes lowered from %d to %d: %d landmarks (%d held out at a time), %d locations and %d "
            "cells carry no more",
            *(requested, most, landmarks, held_out, locations, cells),
        )
    return min(requested, most)


def _root(gram: Float[np.ndarray, "landmarks landmarks"]) -> Float[np.ndarray, "landmarks landmarks"]:
    """The symmetric root R of a Gram matrix: R.T @ R = gram."""
    eigenvalues, vectors = np.linalg.eigh(gram)
    # Rounding leaves eigenvalues of about -1e-12 where a gene is held out (zeroed).
    return (vectors * np.sqrt(np.clip(eigenvalues, 0.0, None))) @ vectors.T


def _plsc(grams: LandmarkGrams, n_metagenes: int) -> MetageneMap:
    """Eqs. 4-7 through the two Gram roots.

    With cells = Q R_y and reference = P R_h (Q, P orthonormal), W = Q (R_y R_h') P'. If R_y R_h' = U S V',
    the scores of Eq. 6 are  x = Q U S = Q R_y R_h' V = cells @ (R_h' V), and likewise
    r = reference @ (R_y' U).
    """
    root_cells, root_reference = _root(grams.cells), _root(grams.reference)
    u, s, vt = np.linalg.svd(root_cells @ root_reference.T)
    return MetageneMap(
        cell_loadings=root_reference.T @ vt[:n_metagenes].T,
        reference_loadings=root_cells.T @ u[:, :n_metagenes],
        strength=s[:n_metagenes],
    )


def _pca(grams: LandmarkGrams, n_metagenes: int) -> MetageneMap:
    """Principal axes of the reference; both sides are projected on them."""
    eigenvalues, vectors = np.linalg.eigh(grams.reference / grams.n_locations)
    order = np.argsort(eigenvalues)[::-1][:n_metagenes]
    axes = vectors[:, order]
    return MetageneMap(axes, axes.copy(), np.sqrt(np.clip(eigenvalues[order], 0.0, None)))


def _every_landmark(grams: LandmarkGrams, kept: np.ndarray) -> MetageneMap:
    """Each landmark is a metagene."""
    one_each = np.eye(len(kept))[:, kept]
    spread = np.sqrt(np.diag(grams.reference) / grams.n_locations)
    return MetageneMap(one_each, one_each.copy(), spread[kept])


def fit_metagenes(
    cells: Float[np.ndarray, "cells landmarks"],
    reference: Float[np.ndarray, "locations landmarks"],
    *,
    n_metagenes: int,
    reduction: Reduction = "plsc",
    keep: Bool[np.ndarray, " landmarks"] | None = None,
) -> MetageneMap:
    """Fit the metagene maps on landmark expression: `reduce_landmarks` of `landmark_grams`.

    Args:
        cells: centred log2 expression of the landmarks in cells; float64 is advised.
        reference: centred log2 expression of the landmarks at locations.
        n_metagenes: see `reduce_landmarks`, as what follows.
        reduction: "plsc" (the paper's), "pca" of the reference, or "none".
        keep: landmarks to use.

    Raises:
        PerlerInputError: on an unknown reduction.
    """
    grams = landmark_grams(cells, reference)
    return reduce_landmarks(grams, n_metagenes=n_metagenes, reduction=reduction, keep=keep)


def reduce_landmarks(
    grams: LandmarkGrams,
    *,
    n_metagenes: int,
    reduction: Reduction = "plsc",
    keep: Bool[np.ndarray, " landmarks"] | None = None,
    levels: bool = True,
) -> MetageneMap:
    """The metagene maps that a reduction makes of the Gram matrices.

    Args:
        grams: of both sides.
        n_metagenes: how many to keep. Ignored by ``reduction="none"``, where every landmark that is kept
            is a metagene.
        reduction: "plsc" (the paper's), "pca" of the reference, or "none".
        keep: landmarks to use; the loadings of the others are exactly zero, on both sides, as if the
            gene had been deleted.
        levels: whether each cell and each location keeps its own level, the mean over its kept landmarks; the
            loadings of those without take it off.

    Returns:
        The maps. The sign of each metagene is fixed by making its largest cell loading positive. Metagenes
        beyond the rank of the landmarks on either side are exactly zero: EM leaves them out.

    Raises:
        PerlerInputError: on an unknown reduction.
    """
    kept = np.ones(len(grams.cells), bool) if keep is None else keep
    turn = None if levels else level_map(kept)
    known = grams if keep is None else grams.keep(kept)
    known = known if turn is None else known.turn(turn)
    with blas_threads(len(kept)):
        if reduction == "plsc":
            fitted = _plsc(known, n_metagenes)
        elif reduction == "pca":
            fitted = _pca(known, n_metagenes)
        elif reduction == "none":
            fitted = _every_landmark(known, kept)
        else:
            raise PerlerInputError(f"expected reduction 'plsc', 'pca' or 'none', found {reduction!r}")
    # Beyond the rank of a side (landmarks of one and the same stain) a metagene is made of rounding: EM would
    # fit it with next to no noise, and it would decide where cells are from.
    rounding = np.sqrt(np.finfo(np.float64).eps) * len(kept) * fitted.strength.max(initial=0.0)
    told = kept[:, None] & (fitted.strength > rounding)
    largest = np.abs(fitted.cell_loadings).argmax(axis=0)
    signs = np.where(np.take_along_axis(fitted.cell_loadings, largest[None], axis=0)[0] < 0, -1.0, 1.0)
    of_cells = np.where(told, fitted.cell_loadings * signs, 0.0)
    of_reference = np.where(told, fitted.reference_loadings * signs, 0.0)
    if turn is not None:
        of_cells, of_reference = turn @ of_cells, turn @ of_reference
    return MetageneMap(of_cells, of_reference, fitted.strength)
