"""One picture per data set: accuracy, where the cells are put, time and memory, a row per method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.compare.report import OURS
from perler_jax.inputs.io import atomic_path

__all__ = ["draw_comparison"]

_OURS, _OTHER = "#c44e52", "#4c72b0"


def draw_comparison(table: pd.DataFrame, scores: pd.DataFrame, title: str, unit: str, path: Path) -> None:
    """Draw and save."""
    placed = "position_error_mode" in table
    names = table["method"].tolist()[::-1]  # the best at the top
    rows = table.set_index("method").loc[names]
    widths = [3.0, 1.7, *([1.5] if placed else []), 1.2, 1.2]
    figure = Figure(figsize=(2.0 + 1.5 * sum(widths), 1.5 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
    colours = [_OURS if name.startswith(OURS) else _OTHER for name in names]
    _accuracy(panels[0], rows, scores, names, colours)
    _differences(panels[1], rows, colours)
    if placed:
        _bars(
            panels[2], rows["position_error_mode"], colours, f"median error of the\nlikeliest place ({unit})"
        )
    _bars(
        panels[-2], rows["cpu_seconds_per_fold"], colours, "CPU seconds per fold,\ntuning included", log=True
    )
    _bars(panels[-1], rows["peak_gb"], colours, "peak memory (GB)")
    panels[0].set_yticks(range(len(names)), rows["label"])
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _accuracy(ax: Axes, rows: pd.DataFrame, scores: pd.DataFrame, names: list[str], colours: list) -> None:
    """Every gene as a faint mark, the mean with its interval on top."""
    correlations = scores[scores["metric"] == "PCC"]
    for at, (name, colour) in enumerate(zip(names, colours, strict=True)):
        values = correlations.loc[correlations["method"] == name, "value"].to_numpy()
        ax.plot(
            values, np.full(len(values), at - 0.22), "|", color=colour, alpha=min(1.0, 30 / len(values)), ms=6
        )
        low, mean, high = rows.loc[name, ["aCC_low", "aCC", "aCC_high"]]
        ax.plot([low, high], [at + 0.1, at + 0.1], color=colour, lw=2)
        ax.plot(mean, at + 0.1, "o", color=colour, ms=5)
        ax.annotate(
            f"{mean:.3f}", (high, at + 0.1), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set_xlabel("correlation at held-out genes:\nmean with 95 % interval; each gene (|)", fontsize=8)
    ax.tick_params(labelsize=8)


def _differences(ax: Axes, rows: pd.DataFrame, colours: list) -> None:
    """The gene mean is left out: it is so far off that no other difference could be seen."""
    for at, (colour, row) in enumerate(zip(colours, rows.itertuples(), strict=True)):
        if pd.notna(getattr(row, "difference", np.nan)) and row.Index != "gene_mean":
            ax.plot([row.difference_low, row.difference_high], [at, at], color=colour, lw=2)
            ax.plot(row.difference, at, "o", color=colour, ms=5)
    ax.axvline(0, color="0.5", lw=0.8, zorder=0)
    ax.set_xlabel("paired difference\nfrom perler_jax", fontsize=8)
    ax.tick_params(labelsize=8)


def _bars(ax: Axes, values: pd.Series, colours: list, label: str, *, log: bool = False) -> None:
    known = values.to_numpy(np.float64)
    ax.barh(range(len(known)), np.nan_to_num(known), color=colours, height=0.6, alpha=0.85)
    for at, value in enumerate(known):
        if np.isfinite(value):
            text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
            ax.annotate(text, (value, at), (3, 0), textcoords="offset points", va="center", fontsize=7)
    if log:
        ax.set_xscale("log")
    ax.margins(x=0.25)
    ax.set_xlabel(label, fontsize=8)
    ax.tick_params(labelsize=8)
