"""Pictures of the validity experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perler_jax.inputs.io import atomic_path

__all__ = ["draw_landmarks", "draw_pi", "draw_variants"]

_COLOURS = {"fitted": "#0072B2", "released": "#D55E00"}
_METRICS = {
    "reconstruction_of_all": "all 84 landmarks",
    "of_the_subset": "the subset itself",
    "of_the_others": "landmarks never seen",
}


def draw_variants(table: pd.DataFrame, path: Path) -> None:
    """Held-out and reconstruction accuracy by reduction, in folds."""
    names = list(dict.fromkeys(table["variant"]))
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    for ax, metric, title in zip(
        figure.subplots(1, 2),
        ("nested", "reconstruction"),
        ("unseen landmarks (nested)", "landmarks in the fit"),
        strict=True,
    ):
        for name, colour in _COLOURS.items():
            means = table[table["distance"] == name].groupby("variant")[metric].mean().loc[names]
            ax.plot(range(len(names)), means, "o-", color=colour, ms=5, lw=1.2, label=f"{name} distance")
        ax.set(ylabel="average correlation", title=title)
        ax.set_xticks(range(len(names)), names, rotation=35, ha="right")
        _open(ax)
        ax.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_landmarks(accuracy: pd.DataFrame, path: Path) -> None:
    """Accuracy by number of landmarks, three ways."""
    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (metric, title) in zip(axes, _METRICS.items(), strict=True):
        some = accuracy[accuracy["metric"] == metric]
        for name, colour in _COLOURS.items():
            _band(ax, some[some["distance"] == name], "size", "value", colour, f"{name} distance")
        ax.set(xlabel="number of landmarks", title=title, ylim=(0, 1))
    axes[0].set_ylabel("average correlation")
    axes[0].axhline(0.6, color="0.5", lw=1, ls="--", zorder=0)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)


def draw_pi(table: pd.DataFrame, path: Path) -> None:
    """What is left to gain at every step of EM, pi fixed and learned."""
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    ax = figure.subplots()
    for name, rows in table.groupby("variant", sort=False):
        style = "--" if "accelerated" in str(name) else "-"
        colour = _COLOURS["released" if "learned" in str(name) else "fitted"]
        value = rows["log_likelihood"].to_numpy()
        left = value.max() - value
        ax.plot(rows["step"][left > 0], left[left > 0], style, color=colour, lw=1.5, label=str(name))
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="M steps",
        ylabel="log-likelihood still to be gained (nats)",
        xlim=(1, None),
    )
    _open(ax)
    ax.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _band(ax: Axes, table: pd.DataFrame, x: str, y: str, colour: str, label: str) -> None:
    """Mean over draws, and their range."""
    grouped = table.groupby(x)[y]
    at = np.array(sorted(table[x].unique()))
    ax.plot(at, grouped.mean().loc[at], "o-", ms=4, lw=1.4, color=colour, label=label)
    ax.fill_between(at, grouped.min().loc[at], grouped.max().loc[at], color=colour, alpha=0.2, lw=0)
    _open(ax)


def _open(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
