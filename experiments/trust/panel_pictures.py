"""Pictures of the panel experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perler_jax.inputs.io import atomic_path
from perler_jax.trust.panel import PanelChoice

__all__ = ["draw_panels"]

_TITLES = {
    "s1": "s1: in situ of the panel\nat true and submitted place",
    "s2": "s2: precision of the places",
    "s3": "s3: RNA against in situ,\ngene by gene",
}
_MARKERS = {
    "entropy": ("o", "#b2182b", "chosen: entropy"),
    "loo": ("s", "#2166ac", "chosen: held-out prediction"),
    "variance in cells": ("^", "#7b7b7b", "largest variance, cells"),
    "variance in reference": ("v", "#7b7b7b", "largest variance, reference"),
}


def draw_panels(
    table: pd.DataFrame, entropies: pd.DataFrame, choice: PanelChoice, config: dict[str, Any], path: Path
) -> None:
    """Scores of chosen panels among random ones, for every size; and what is left unknown on the way down."""
    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    axes = figure.subplots(1, 4)
    of_rule = table[table["rule"] == config["rule"]]
    for ax, (metric, title) in zip(axes, _TITLES.items(), strict=False):
        _scores(ax, of_rule[of_rule["metric"] == metric], config)
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("mean over folds of test cells")
    axes[0].legend(fontsize=7, loc="best", frameon=False)
    _entropy(axes[3], entropies, choice)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _scores(ax: Axes, scores: pd.DataFrame, config: dict[str, Any]) -> None:
    means = scores.groupby(["panel", "size", "seed"])["value"].mean()
    sizes = sorted(config["sizes"])
    jitter = np.random.default_rng(0).uniform(-1.2, 1.2, config["random_panels"])
    for size in sizes:
        random = means["random"][size].to_numpy()
        label = f"{len(random)} random panels (bar: mean)" if size == sizes[0] else None
        ax.plot(size + jitter, random, ".", color="0.7", ms=4, label=label)
        ax.plot([size - 2, size + 2], [random.mean()] * 2, color="0.4", lw=2)
    for panel, (marker, colour, label) in _MARKERS.items():
        found = means[panel].droplevel("seed")[sizes]
        ax.plot(sizes, found, marker, color=colour, ms=7, label=label, mec="white", mew=0.7)
    ax.axhline(means["all"].item(), color="k", lw=0.8, ls=":", label="all 84 landmarks")
    ax.set_xticks(sizes)
    ax.set_xlabel("landmarks in the panel")
    ax.spines[["top", "right"]].set_visible(False)


def _entropy(ax: Axes, entropies: pd.DataFrame, choice: PanelChoice) -> None:
    trace = choice.trace
    ax.plot(trace["size"], np.exp(trace["value"]), color="#b2182b", label="chosen: entropy")
    random = entropies[entropies["panel"] == "random"]
    ax.plot(random["size"], np.exp(random["entropy"]), ".", color="0.7", ms=4, label="random panels")
    ax.set_yscale("log")
    ax.set_yticks([10, 20, 50, 100, 200], labels=["10", "20", "50", "100", "200"])
    ax.set_yticks([], minor=True)
    ax.set_xlabel("landmarks in the panel")
    ax.set_title("locations that a panel cannot\ntell apart (exp of entropy)", fontsize=10)
    ax.legend(fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
