"""The recommended summary of a prediction: mean, standard error and an interval, for any genes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from tqdm import tqdm

from perler_jax.annotation import result_shell, units_of
from perler_jax.fit import PerlerFit
from perler_jax.settings import device_precision
from perler_jax.trust.conformal import Intervals, learn_intervals
from perler_jax.trust.predictor import (
    LandmarkTable,
    fold_predictors,
    gene_blocks,
    landmark_table,
    spread,
    whole_predictor,
)
from perler_jax.trust.uncertainty import effective_cells

__all__ = ["MEANING", "fit_intervals", "held_out_patterns", "summarise"]

MEANING = (
    "standard_error: of X, from the disagreement of the cells behind each location. lower, upper: between "
    "them lies a share `level` of the values of a gene's map, each gene brought to mean 0 and variance 1 "
    "over the tissue and then drawn on the scale of X, on average over locations and over genes like the "
    "landmarks. They say where a gene is high or low against the rest of the tissue, not how many molecules "
    "there are"
)


def summarise(
    fit: PerlerFit,
    genes: Sequence[str] | None = None,
    *,
    level: float | None = 0.9,
    intervals: Intervals | None = None,
    cells: Any = None,
    progress: bool = False,
) -> AnnData:
    """Predicted expression of genes at every location, with its standard error and an interval.

    Args:
        fit: a fit; intervals need one with held-out landmarks.
        genes: names; None is every gene of the cells.
        level: share of true values that the interval should hold; None leaves intervals out.
        intervals: from `fit_intervals`, to learn them once for many calls; None learns them here.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        progress: show a progress bar.

    Returns:
        AnnData (locations, genes). X: what `PerlerFit.reconstruct` gives, log2 units. ``layers``:
        ``standard_error``, and with a level ``lower`` and ``upper``. ``obs["effective_cells"]``: Kish's
        number of cells behind each location. ``uns["perler"]``: besides provenance, the ``level`` and one
        sentence on what the layers mean.

    A standard error knows of the disagreement of the cells alone; an interval knows how far landmarks were
    off that no fit had seen: it is the one to use. It is an interval of the standardised map, drawn on the
    scale of X: it tells of the pattern, not of amounts. A landmark was in the fit, and its interval is wider
    than it need be. Ends may lie below zero.

    Raises:
        PerlerInputError: unknown genes, no expression, no held-out landmarks or too few for the level.
    """
    expression = fit.expression(cells)
    names = expression.genes if genes is None else np.asarray(list(genes), dtype=object)
    shape = len(fit.reference.locations), len(names)
    layers = ["mean", "standard_error"] + ([] if level is None else ["lower", "upper"])
    with device_precision(fit.settings.dtype):
        landmarks = landmark_table(fit, expression)
        if level is not None and intervals is None:
            intervals = _learn(fit, landmarks, progress)
        predictor = whole_predictor(fit, expression)
        # Mean and square, with plain and squared weights.
        size, blocks = gene_blocks(fit, expression, None if genes is None else list(genes), columns=4)
        values = {name: np.empty(shape, fit.settings.dtype) for name in layers}
        done = 0
        with tqdm(total=len(names), desc="summarise", unit="gene", disable=not progress, leave=False) as bar:
            for found, means, block in blocks:
                at = slice(done, done + len(found))
                made = spread(predictor, found, block, width=size)
                values["mean"][:, at] = made.mean + means
                values["standard_error"][:, at] = made.standard_error
                if level is not None and intervals is not None:
                    half = intervals.half_width(made.mean, made.standard_error, level)
                    values["lower"][:, at] = values["mean"][:, at] - half
                    values["upper"][:, at] = values["mean"][:, at] + half
                done += len(found)
                bar.update(len(found))
        number = np.zeros(shape[0]) if predictor.source is None else effective_cells(predictor.source)
    about = {**fit.provenance(), "units": units_of(False, fit.preprocessing.scale), "meaning": MEANING}
    about |= {} if level is None else {"level": level}
    result = result_shell(fit.reference, names, fit.landmarks, fit.scores, about, expression)
    result.X = values.pop("mean")
    result.layers.update(values)
    result.obs["effective_cells"] = np.asarray(number)
    return result


def fit_intervals(fit: PerlerFit, *, cells: Any = None, progress: bool = False) -> Intervals:
    """Learn from the held-out landmarks of a fit how far predictions of unseen genes are off.

    Args:
        fit: a fit with held-out landmarks.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        progress: show a progress bar.

    Returns:
        What `summarise` needs for intervals of any genes.

    Raises:
        PerlerInputError: no held-out landmarks, or such as are predicted no better than by chance.
    """
    with device_precision(fit.settings.dtype):
        return _learn(fit, landmark_table(fit, fit.expression(cells)), progress)


def held_out_patterns(
    fit: PerlerFit, landmarks: LandmarkTable, *, progress: bool = False
) -> tuple[Float[np.ndarray, "locations landmarks"], Float[np.ndarray, "locations landmarks"]]:
    """Prediction and standard error of every landmark by the fold that never saw it, centred log2."""
    found = np.full((2, *landmarks.reference.shape), np.nan)
    bar = functools.partial(tqdm, desc="held-out landmarks", unit="fold", disable=not progress, leave=False)
    for genes, predictor in bar(fold_predictors(fit, landmarks)):
        made = spread(predictor, landmarks.names[genes], landmarks.cells[:, genes])
        found[:, :, genes] = made.mean, made.standard_error
    return found[0], found[1]


def _learn(fit: PerlerFit, landmarks: LandmarkTable, progress: bool) -> Intervals:
    prediction, error = held_out_patterns(fit, landmarks, progress=progress)
    return learn_intervals(prediction, error, landmarks.reference, landmarks.measured)
