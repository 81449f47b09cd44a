"""Outer cross-validation: how well the whole call predicts landmarks that were taken away from everything.

A fit's own nested scores leave a landmark out of the fit that predicts it and out of the choice of weights or
shares, but the other folds' fits have seen it. Here the maps of a fold's landmarks leave the reference before
anything else happens, and `fit_perler` is called as a user calls it, tuning included.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float, Int, Shaped
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.held_out.cross_validation import correlation, roc_auc
from perler_jax.held_out.folds import make_folds
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.interface import speaking
from perler_jax.inputs.missing import fill_reference
from perler_jax.landmarks import align_landmarks
from perler_jax.perler import fit_perler
from perler_jax.preprocessing import reference_landmarks
from perler_jax.scale.checkpoint import Checkpoint, fingerprint, open_checkpoint
from perler_jax.settings import PerlerSettings
from perler_jax.versions import package_version

__all__ = ["OuterScores", "cross_validate", "cross_validate_fit"]

_FEWEST = 4  # landmarks that every fold must leave to the fit


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OuterScores:
    """What outer cross-validation found.

    Attributes:
        scores: one row per landmark: ``outer_fold``; ``score``, of its prediction by the fit that never had
            its map; ``nested``, the mean of what the other folds' fits said of it themselves.
        predictions: AnnData (locations, landmarks). X: these predictions, in the units of `reconstruct`.
            ``layers["reference"]``: the map, log2 and centred. ``var``: the scores. ``obs``: the sections.
    """

    scores: pd.DataFrame
    predictions: AnnData

    def __repr__(self) -> str:
        means = self.scores[["score", "nested"]].mean()
        folds = self.scores["outer_fold"].nunique()
        return (
            f"OuterScores({len(self.scores)} landmarks in {folds} folds, mean score {means['score']:.4f}, "
            f"nested {means['nested']:.4f})"
        )


def cross_validate(
    cells: Any,
    reference: Any,
    *,
    outer: int = 10,
    settings: PerlerSettings | None = None,
    seed: int = 0,
    checkpoint: Any = None,
    progress: bool = True,
    **options: Any,
) -> OuterScores:
    """Score the whole call on landmarks whose maps leave the reference before anything else happens.

    Args:
        cells: as in `fit_perler`.
        reference: as in `fit_perler`.
        outer: folds of landmarks.
        settings: of every fit.
        seed: of the split into folds.
        checkpoint: folder that keeps finished folds, so that the same call goes on from there after a kill;
            it is deleted at the end.
        progress: show a progress bar.
        **options: of `fit_perler`: how the data are read (``cells_scale``, ``reference_layer``, ``missing``
            ...), and what each fit gets (``location_weights``, ``evidence``, ``totals``, ``memory``).

    Raises:
        PerlerInputError: inputs that cannot be used, or fewer landmarks than the folds need.
    """
    settings = settings or PerlerSettings()
    with speaking("fit"):
        expression, atlas = _read(cells, reference, options)
        landmarks = align_landmarks(expression, atlas)
    if not 2 <= outer <= len(landmarks) or len(landmarks) - -(-len(landmarks) // outer) < _FEWEST:
        raise PerlerInputError(
            f"expected 2 or more outer folds, each of which leaves {_FEWEST} landmarks or more; found "
            f"{outer} folds of {len(landmarks)} landmarks; ask for another number, or give more landmarks"
        )
    folds = make_folds(len(landmarks), outer, seed=seed)
    work = (expression.dense(landmarks), atlas.values, settings, outer, seed, package_version())
    kept = None if checkpoint is None else open_checkpoint(checkpoint, fingerprint(*work))
    predicted = np.empty((atlas.n_locations, len(landmarks)), settings.dtype)
    nested = np.zeros((2, len(landmarks)))  # sum and number
    bar = tqdm(folds, desc="outer folds", unit="fold", disable=not progress, leave=False)
    for index, fold in enumerate(bar):
        found = _fold(index, landmarks[fold], expression, atlas, settings, kept, options)
        predicted[:, fold] = found["predicted"]
        at = pd.Index(landmarks).get_indexer(found["landmarks"])
        nested[:, at] += np.stack([found["nested"], np.ones(len(at))])
    return _result(atlas, landmarks, folds, predicted, nested[0] / nested[1], settings)


def cross_validate_fit(fit: PerlerFit, cells: Any = None, **options: Any) -> OuterScores:
    """The same with the reference, the settings and the evidence of a fit.

    Args:
        fit: whose call is scored.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        **options: ``outer``, ``seed``, ``checkpoint`` and ``progress`` of `cross_validate`.

    Raises:
        PerlerInputError: no expression, or a fit by given weights, which has nothing to choose.
    """
    if fit.held_out is None:
        raise PerlerInputError(
            "expected a fit that chose its predictor on held-out landmarks; found one made with given "
            "weights; call fit_perler without weights"
        )
    steps, names = fit.preprocessing, fit.landmarks
    log_pi = fit.em.params.log_location_weights
    given = None if log_pi is None or fit.settings.learn_location_weights else np.exp(np.asarray(log_pi))
    return cross_validate(
        fit.expression(cells),
        fit.reference,
        settings=fit.settings,
        evidence=fit.evidence,
        location_weights=given,
        batch_key=None if steps.alignment is None else steps.alignment.key,
        totals=None if steps.target_total is None else steps.target_total / steps.factors,
        covariance=None if fit.covariance is None else pd.DataFrame(fit.covariance, names, names),
        **options,
    )


def _read(cells: Any, reference: Any, options: dict[str, Any]) -> tuple[CellExpression, SpatialReference]:
    """Both inputs; the options that say how they are read are taken out."""

    def take(prefix: str, *names: str) -> dict[str, Any]:
        return {name: options.pop(prefix + name) for name in names if prefix + name in options}

    expression = as_cells(cells, **take("cells_", "scale", "layer", "gene_key", "use_raw"))
    how = take("reference_", "scale", "layer", "gene_key", "use_raw", "normalisation")
    return expression, as_reference(reference, **how, **take("", "coordinates", "missing", "section_key"))


def _fold(
    index: int,
    genes: Shaped[np.ndarray, " genes"],
    expression: CellExpression,
    atlas: SpatialReference,
    settings: PerlerSettings,
    kept: Checkpoint | None,
    options: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Predictions of a fold's landmarks, and what the fit without them says of the others."""
    folder = None if kept is None else Path(kept.folder) / f"fold-{index:03d}"

    def make() -> dict[str, np.ndarray]:
        rest = _without(atlas, ~np.isin(atlas.genes, genes))
        fit = fit_perler(expression, rest, settings=settings, checkpoint=folder, progress=False, **options)
        predicted = np.asarray(fit.reconstruct(list(genes)).X)
        nested = fit.scores["nested"].to_numpy(np.float64)
        return {"predicted": predicted, "landmarks": fit.landmarks.astype(str), "nested": nested}

    found = make() if kept is None else kept.keep(f"outer-{index:03d}", make)
    if folder is not None and folder.is_dir():
        shutil.rmtree(folder)
    return found


def _without(atlas: SpatialReference, keep: Bool[np.ndarray, " landmarks"]) -> SpatialReference:
    """Some of the landmarks; what was not measured of them is filled in from them alone."""
    measured = None if atlas.measured is None else atlas.measured[:, keep]
    values = np.ascontiguousarray(atlas.values[:, keep])
    return fill_reference(
        dataclasses.replace(atlas, values=values, genes=atlas.genes[keep], measured=measured)
    )


def _result(
    atlas: SpatialReference,
    landmarks: Shaped[np.ndarray, " landmarks"],
    folds: list[Int[np.ndarray, " _width"]],
    predicted: Float[np.ndarray, "locations landmarks"],
    nested: Float[np.ndarray, " landmarks"],
    settings: PerlerSettings,
) -> OuterScores:
    maps = reference_landmarks(atlas, landmarks)
    measured = atlas.measured_at(landmarks)
    compare = roc_auc if settings.objective == "roc" else correlation
    sides = (jnp.asarray(each.T, jnp.float32) for each in (predicted, maps))
    score = np.asarray(compare(*sides, None if measured is None else jnp.asarray(measured.T)), np.float64)
    fold_of = np.zeros(len(landmarks), int)
    for index, fold in enumerate(folds):
        fold_of[fold] = index
    scores = pd.DataFrame(
        {"outer_fold": fold_of, "score": score, "nested": nested},
        index=pd.Index(landmarks.astype(str), name="landmark"),
    )
    table = AnnData(predicted, obs=pd.DataFrame(index=pd.Index(atlas.locations.astype(str))), var=scores)
    table.layers["reference"] = maps
    if atlas.sections is not None:
        table.obs[atlas.section_key or "section"] = pd.Categorical(atlas.sections.astype(object))
    if atlas.coordinates is not None:
        table.obsm["spatial"] = np.array(atlas.coordinates)
    return OuterScores(scores, table)
