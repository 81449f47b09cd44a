"""Pictures of the table: ratios, growth, the dense formula, memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

__all__ = ["draw_all"]

_STREAMED, _DENSE, _TRIPLES = "#1f77b4", "#d95f02", "#7f7f7f"
_COLOURS = {"streamed": _STREAMED, "dense": _DENSE, "triples": _TRIPLES}
_WORDS = {"streamed": "streamed", "dense": "cells x locations held", "triples": "... x metagenes held"}


def draw_all(table: pd.DataFrame, folder: Path) -> None:
    """Write one PNG for each benchmark that has a picture and figures."""
    for name, draw in (("kernel", _kernel), ("growth", _growth), ("dense", _dense), ("memory", _memory)):
        if (table["benchmark"] == name).any():
            figure = draw(table)
            figure.savefig(folder / f"{name}.png", dpi=130)
            plt.close(figure)


def _kernel(table: pd.DataFrame) -> plt.Figure:
    """Ratios to both floors, with quartiles."""
    rows = table[(table["benchmark"] == "kernel") & table["quantity"].str.fullmatch(r"em_pass / .* cpu")]
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.45 * len(rows)), layout="constrained")
    rows = rows.iloc[::-1]
    strict = rows["quantity"].str.contains("tiled")
    labels = [
        f"{int(n):,} x {int(k):,} x {int(m)}, {dtype}, {'in tiles' if tiled else 'whole arrays'}"
        for n, k, m, dtype, tiled in zip(
            rows["cells"], rows["locations"], rows["metagenes"], rows["dtype"], strict, strict=True
        )
    ]
    spread = np.abs(rows[["low", "high"]].to_numpy(float).T - rows["value"].to_numpy(float))
    at = np.arange(len(rows))
    colours = np.where(strict, _TRIPLES, _STREAMED)
    ax.barh(at, rows["value"], 0.6, xerr=spread, color=colours, error_kw={"lw": 1, "capsize": 3})
    ax.axvline(1, color="black", lw=0.8)
    ax.set(yticks=at, xlabel="CPU seconds of an EM pass\nover those of two products and one exp")
    ax.set_yticklabels(labels)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _growth(table: pd.DataFrame) -> plt.Figure:
    """Seconds against size on both axes logarithmic, with the fitted exponent."""
    rows = table[table["benchmark"] == "growth"]
    cases = list(dict.fromkeys(rows["case"]))
    figure, axes = plt.subplots(
        1, len(cases), figsize=(3.9 * len(cases), 3.4), layout="constrained", squeeze=False
    )
    for ax, case in zip(axes[0], cases, strict=True):
        own = rows[rows["case"] == case]
        seconds = own[own["quantity"] == "seconds cpu fastest"]
        fitted = own[own["quantity"].str.startswith("exponent") & own["quantity"].str.endswith(" cpu")]
        exponent = fitted[~fitted["quantity"].str.contains("alone")].iloc[0]
        name = exponent["quantity"].removeprefix("exponent of ").removesuffix(" cpu")
        sizes = np.array(
            [np.prod([float(part) for part in each.split(" x ")]) for each in seconds["variant"]]
        )
        ax.loglog(sizes, seconds["value"], "o", ms=5, color=_STREAMED)
        middle = np.exp(np.log(seconds["value"]).mean()), np.exp(np.log(sizes).mean())
        ends = np.array([sizes.min(), sizes.max()])
        ax.loglog(ends, middle[0] * (ends / middle[1]) ** exponent["value"], color="black", lw=1)
        error = exponent["high"] - exponent["value"]
        ax.set(xlabel=name, ylabel="CPU seconds", title=f"exponent {exponent['value']:.2f} ± {error:.2f}")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _dense(table: pd.DataFrame) -> plt.Figure:
    """CPU seconds and memory of every piece of work, streamed and dense."""
    rows = table[table["benchmark"] == "dense"]
    sizes = list(dict.fromkeys(zip(rows["cells"], rows["locations"], strict=True)))
    figure, axes = plt.subplots(
        len(sizes), 2, figsize=(9.5, 2.9 * len(sizes)), layout="constrained", squeeze=False
    )
    for line, (cells, locations) in zip(axes, sizes, strict=True):
        own = rows[(rows["cells"] == cells) & (rows["locations"] == locations)]
        seconds = own[own["quantity"].str.fullmatch(r"[^:]* cpu")]
        memory = own[own["quantity"].str.endswith(" peak above inputs")]
        title = f"{int(cells):,} cells x {int(locations):,} locations"
        _bars(line[0], seconds, " cpu", "CPU seconds", title)
        _bars(line[1], memory, " peak above inputs", "GB above the inputs", title)
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _bars(ax: Axes, rows: pd.DataFrame, suffix: str, label: str, title: str) -> None:
    rows = rows.assign(work=rows["quantity"].str.removesuffix(suffix))
    names = list(dict.fromkeys(rows["work"]))
    variants = [each for each in _COLOURS if (rows["variant"] == each).any()]
    for shift, variant in enumerate(variants):
        own = rows[rows["variant"] == variant].drop_duplicates("work").set_index("work")["value"]
        at = np.arange(len(names)) + 0.27 * (shift - (len(variants) - 1) / 2)
        ax.bar(at, own.reindex(names), 0.25, color=_COLOURS[variant], label=_WORDS[variant])
    ax.set(yscale="log", ylabel=label, title=title, xticks=np.arange(len(names)))
    ax.set_xticklabels([name.replace("_", " ").replace(" ", "\n", 1) for name in names], fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _memory(table: pd.DataFrame) -> plt.Figure:
    """Peak above the inputs against the size of the array that is not held."""
    rows = table[table["benchmark"] == "memory"]
    peak = rows[rows["quantity"] == "em_pass peak above inputs"]
    held = rows[rows["quantity"] == "cells x locations, never held"].set_index("case")["value"]
    pairs = peak["cells"].astype(float) * peak["locations"].astype(float)
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    order = np.argsort(pairs.to_numpy())
    ax.loglog(
        pairs.iloc[order], peak["value"].iloc[order], "o-", color=_STREAMED, label="one EM pass, measured"
    )
    ax.loglog(
        pairs.iloc[order],
        held.reindex(peak["case"]).to_numpy()[order],
        "--",
        color=_DENSE,
        label="one array of cells x locations",
    )
    ax.axhline(1, color="black", lw=0.8, ls=":")
    ax.annotate("target: 1 GB", (pairs.min(), 1), (0, 3), textcoords="offset points", fontsize=8)
    ax.set(xlabel="cells x locations", ylabel="GB above the inputs")
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
