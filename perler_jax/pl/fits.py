"""A fit in pictures: a landmark's map beside its prediction and the error, and all landmarks' scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.labels import few, near_misses
from perler_jax.pl.finish import finish
from perler_jax.pl.tissue import side_of
from perler_jax.plotting.canvas import new_axes
from perler_jax.plotting.patterns import plot_comparison
from perler_jax.plotting.views import Mirror, View
from perler_jax.settings import device_precision
from perler_jax.trust.predictor import fold_predictors, landmark_table, whole_predictor

__all__ = ["compare", "scores"]

_NAMED = 60  # landmarks whose names there is room for
_COLOURS = {"nested": "#0072B2", "reconstruction": "0.7"}


def compare(
    fit: PerlerFit,
    gene: str,
    *,
    view: View | None = None,
    mirror: Mirror | None = None,
    cells: Any = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Any = None,
) -> Axes:
    """Draw the map of a landmark, its prediction by the fold that never saw it, and where that is off.

    Args:
        fit: a fit. Without held-out landmarks (weights that were given) the prediction is that of the fit
            itself, in which the gene took part; the picture says so.
        gene: a landmark.
        view: as in `spatial`.
        mirror: as in `spatial`.
        cells: expression of the fitted cells, for a fit that was loaded without it.
        ax: axes whose place is divided into three panels; None makes a figure.
        show: True calls ``pyplot.show()``.
        save: path to write to; its ending says how (.pdf and .svg are vectors).

    Returns:
        The axes that were given, or new ones. The error is the difference of the two patterns, each with mean
        0 and standard deviation 1 over the locations, as they are in different units.

    Raises:
        PerlerInputError: a gene that has no map to compare with, no coordinates or no expression.
    """
    if gene not in fit.landmarks:
        missing = np.array([gene])
        raise PerlerInputError(
            f"expected a landmark, which has a map to compare with; found {gene!r}"
            f"{near_misses(missing, fit.landmarks)}; landmarks are {few(fit.landmarks)}; other genes: "
            "pl.spatial(fit.reconstruct([...]), color=...)"
        )
    where = fit.reference.coordinates
    if where is None:
        raise PerlerInputError(
            "expected coordinates of the locations; found none; give them with the reference"
        )
    row = int(np.flatnonzero(fit.landmarks == gene)[0])
    measured, predicted = held_out_pattern(fit, row, cells)
    r = float(np.corrcoef(measured[np.isfinite(measured)], predicted[np.isfinite(measured)])[0, 1])
    how = "predicted without it" if fit.held_out is not None else "it took part in the fit"
    seen, other_half = side_of(fit.reference.axes, where.shape[1], view, mirror)
    ax = plot_comparison(
        measured,
        predicted,
        _standard(predicted, measured) - _standard(measured, measured),
        np.asarray(where, np.float64),
        sections=fit.reference.sections,
        view=seen,
        mirror=other_half,
        names=("map", "prediction", "prediction - map"),
        units=("log2, centred", "log2, centred", "standard deviations"),
        title=f"{gene}: {how}, r = {r:.2f}",
        ax=ax,
    )
    finish(ax, show=show, save=save)
    return ax


def held_out_pattern(fit: PerlerFit, row: int, cells: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Map (NaN where it was not measured) and prediction of a landmark, (locations,) each, log2 centred.

    Args:
        fit: a fit.
        row: number of the landmark; without held-out landmarks the prediction is that of the fit itself.
        cells: expression of the fitted cells, for a fit that was loaded without it.
    """
    with device_precision(fit.settings.dtype):
        landmarks = landmark_table(fit, fit.expression(cells))
        measured = np.array(landmarks.reference[:, row], np.float64)
        if landmarks.measured is not None:
            measured[~landmarks.measured[:, row]] = np.nan
        if fit.held_out is None:
            predictor = whole_predictor(fit, fit.expression(cells))
        else:
            predictor = next(each for genes, each in fold_predictors(fit, landmarks) if row in genes)
        one = slice(row, row + 1)
        found = predictor.predict(landmarks.names[one], landmarks.cells[:, one])
    return measured, np.asarray(found, np.float64)[:, 0]


def _standard(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(measured)]
    return (values - known.mean()) / (known.std() or 1.0)


def scores(
    fit: PerlerFit,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: Any = None,
) -> Axes:
    """Draw how well every landmark is predicted without it, best first; pale: in the fit that it is in.

    Args:
        fit: a fit, also a loaded one.
        ax: axes to draw in; None makes a figure.
        show: True calls ``pyplot.show()``.
        save: path to write to; its ending says how (.pdf and .svg are vectors).

    Returns:
        The axes that were given, or new ones.

    Raises:
        PerlerInputError: a fit whose landmarks were not held out.
    """
    if fit.tuning is None:
        raise PerlerInputError(
            "expected a fit with held-out landmarks, which are what can be scored; found one made with given "
            "weights, or put onto new cells; call fit_perler without weights"
        )
    table = fit.scores.sort_values("nested")
    at = np.arange(len(table))
    named = len(table) <= _NAMED
    ax = new_axes(ax, (4.6, 1.1 + 0.155 * len(table)) if named else (4.6, 6.0))
    mean = float(table["nested"].mean())
    labels = {"nested": f"predicted without it (mean {mean:.2f})", "reconstruction": "it took part"}
    for column in ("nested", "reconstruction"):
        front = column == "nested"
        ax.plot(
            table[column],
            at,
            "o",
            ms=4 if named else 3,
            color=_COLOURS[column],
            label=labels[column],
            zorder=3 if front else 2,
        )
    ax.axvline(mean, color=_COLOURS["nested"], lw=1, ls="--", zorder=0)
    if named:
        ax.set_yticks(at, table.index, fontsize=7)
    else:
        ends = [*range(0, len(table), max(1, len(table) // 12))]
        ax.set_yticks(ends, table.index[ends], fontsize=7)
    ax.set(ylim=(-1, len(table)), ylabel="landmark")
    of_curve = fit.settings.objective == "roc"
    ax.set_xlabel("area under the ROC curve" if of_curve else "correlation of prediction and map")
    ax.axvline(0.5 if of_curve else 0.0, color="0.5", lw=0.8, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    finish(ax, show=show, save=save)
    return ax
