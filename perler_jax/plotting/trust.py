"""Pictures of trust: predicted against actual reliability of genes, calibration, resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from perler_jax._typing import Float
from perler_jax.plotting.canvas import new_axes

__all__ = ["plot_calibration", "plot_reliability", "plot_resolution"]


def plot_reliability(
    predicted: Float[np.ndarray, " genes"],
    actual: Float[np.ndarray, " genes"],
    *,
    lower: Float[np.ndarray, " genes"] | None = None,
    upper: Float[np.ndarray, " genes"] | None = None,
    genes: Sequence[str] | None = None,
    n_named: int = 6,
    score: str = "nested held-out correlation",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score that was predicted for each gene against the score that it got.

    Args:
        predicted: from features of the gene alone.
        actual: with the reference at hand.
        lower: end of each prediction's interval; None draws none.
        upper: the other end.
        genes: names; those farthest from the diagonal are written beside their points.
        n_named: how many names.
        score: what both axes are.
        title: text above.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (4.2, 4.2))
    if lower is not None and upper is not None:
        bars = np.stack([predicted - lower, upper - predicted])
        ax.errorbar(predicted, actual, xerr=np.maximum(bars, 0), fmt="none", ecolor="0.8", lw=1, zorder=1)
    ax.scatter(predicted, actual, s=18, color="#35608D", edgecolor="white", linewidth=0.4, zorder=2)
    both = np.concatenate([predicted, actual])
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    margin = 0.05 * (high - low or 1.0)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color="0.5", lw=1, ls="--", zorder=0)
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"predicted {score}", ylabel=f"actual {score}")
    ax.spines[["top", "right"]].set_visible(False)
    if genes is not None:
        distance = np.nan_to_num(np.abs(actual - predicted), nan=-1.0)
        for index in np.argsort(distance)[::-1][:n_named]:
            above = actual[index] >= predicted[index]
            ax.annotate(
                str(genes[index]),
                (predicted[index], actual[index]),
                (0, 5 if above else -5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=8,
                style="italic",
            )
    if title is not None:
        ax.set_title(title)
    return ax


def plot_calibration(
    nominal: Float[np.ndarray, " levels"],
    observed: Float[np.ndarray, " levels"],
    *,
    lower: Float[np.ndarray, " levels"] | None = None,
    upper: Float[np.ndarray, " levels"] | None = None,
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often intervals held the truth against how often they should; call again to add a curve.

    Args:
        nominal: promised coverage, 0 to 1.
        observed: share of held-out values inside.
        lower: lower end of the observed coverage's spread, such as over folds; None draws no band.
        upper: upper end.
        label: of the curve, in a legend.
        title: text above.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (3.8, 3.8))
    if not ax.lines:
        ax.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--", label="_as promised", zorder=0)
        ax.annotate("too wide", (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=8, color="0.45")
        ax.annotate(
            "too narrow", (0.97, 0.03), xycoords="axes fraction", ha="right", fontsize=8, color="0.45"
        )
    (line,) = ax.plot(nominal, observed, marker="o", ms=4, lw=1.3, label=label)
    if lower is not None and upper is not None:
        ax.fill_between(nominal, lower, upper, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="promised coverage", ylabel="observed coverage")
    ax.spines[["top", "right"]].set_visible(False)
    if label is not None:
        ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.08))
    if title is not None:
        ax.set_title(title)
    return ax


def plot_resolution(
    radii: Float[np.ndarray, " radii"],
    mass: Float[np.ndarray, " radii"],
    *,
    lower: Float[np.ndarray, " radii"] | None = None,
    upper: Float[np.ndarray, " radii"] | None = None,
    label: str | None = None,
    unit: str = "µm",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how much of a cell's posterior lies within a radius of its mode; call again to add a curve.

    Args:
        radii: distances from the mode.
        mass: mean over cells of the probability within each.
        lower: lower end of its spread, such as over draws of landmarks; None draws no band.
        upper: upper end.
        label: of the curve, such as the number of landmarks.
        unit: of the radii.
        title: text above.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (4.4, 3.2))
    (line,) = ax.plot(radii, mass, marker="o", ms=3, lw=1.3, label=label)
    if lower is not None and upper is not None:
        ax.fill_between(radii, lower, upper, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(
        ylim=(0, 1), xlabel=f"distance from the most probable location ({unit})", ylabel="posterior within"
    )
    ax.spines[["top", "right"]].set_visible(False)
    if label is not None:
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    if title is not None:
        ax.set_title(title)
    return ax
