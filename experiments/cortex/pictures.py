"""What a person wants to see: unmeasured genes on the section, layers of cells, coverage of regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from perler_jax.datasets import CortexPair
from perler_jax.inputs.io import atomic_path
from perler_jax.plotting.patterns import plot_pattern
from perler_jax.plotting.trust import plot_calibration

__all__ = ["draw_dissociated", "draw_places"]

_ORDER = ["L1", "L2/3", "L4", "L5", "L6", "cc", "HPC"]  # from the pia down


def draw_dissociated(
    result: AnnData,
    genes: pd.DataFrame,
    layers: pd.DataFrame,
    pair: CortexPair,
    config: dict[str, Any],
    path: Path,
) -> None:
    """Eight unmeasured genes on the section (pia left) beside its layers; layers of cells; markers."""
    shown = [gene for gene in config["dissociated"]["shown"] if gene in result.var_names]
    places = np.asarray(result.obsm["spatial"], float)
    along = np.column_stack([places[:, 1].max() - places[:, 1], places[:, 0]])  # pia left, depth to the right
    labels = pair.reference.obs.loc[result.obs_names]
    figure = Figure(figsize=(13.5, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2.1, 1])
    panels = left.subplots(3, 3).ravel()
    rank = labels["layer"].map({name: at for at, name in enumerate(_ORDER)}).to_numpy(float)
    plot_pattern(rank, along, ax=panels[0], cmap="tab10", limits=(-0.5, 9.5))
    panels[0].set_title(f"the map's layers\n{', '.join(_ORDER)}", fontsize=9)
    for ax, gene in zip(panels[1:], shown, strict=False):
        values = np.asarray(result[:, gene].X, float).ravel()
        low, high = np.quantile(values, [0.02, 0.98])
        plot_pattern(values, along, ax=ax, limits=(float(low), float(high)))
        row = genes.loc[gene]
        ax.set_title(f"{gene}: marks {row['marks']}\nAUC on the map {row['auc_on_map']:.2f}", fontsize=9)
    top, bottom = right.subplots(2, 1)
    table = layers[[name for name in _ORDER if name in layers]]
    image = top.imshow(table.to_numpy(), cmap="BuPu", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        colour = "white" if value > 0.6 else "black"
        top.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9, color=colour)
    top.set_xticks(range(table.shape[1]), table.columns)
    top.set_yticks(range(len(table)), table.index)
    top.set(xlabel="layer of the map", ylabel="layer of the dissociated type")
    top.set_title("origin of excitatory cells, % of posterior", fontsize=9, loc="left")
    right.colorbar(image, ax=top, label="mean posterior", fraction=0.04)
    markers = genes[~genes["landmark"] & genes["is_marker"]]
    classes = sorted(markers["marks"].unique())
    for at, name in enumerate(classes):
        values = np.sort(markers[markers["marks"] == name]["auc_on_map"])
        spread = at + 0.25 * np.linspace(-1, 1, len(values)) * (len(values) > 1)
        bottom.plot(spread, values, "o", ms=4, color=f"C{at}")
    bottom.axhline(0.5, color="0.5", ls="--", lw=1)
    bottom.set_xticks(range(len(classes)), classes, fontsize=8)
    bottom.set(ylabel="AUC of the predicted gene on the map", ylim=(0.45, 1.0))
    bottom.set_title("unmeasured markers of cell classes", fontsize=9, loc="left")
    bottom.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def draw_places(table: pd.DataFrame, levels: list[float], path: Path) -> None:
    """Coverage promised and observed, and errors against chance, for each data set."""
    titles = {"starmap_split": "visual cortex (STARmap)", "osmfish_split": "somatosensory cortex (osmFISH)"}
    names = list(table["dataset"].unique())
    figure = Figure(figsize=(5.0 * len(names), 4.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        wide = table[table["dataset"] == name].pivot(index="method", columns="metric", values="value")
        for method in ("as the model says", "tempered on the map"):
            observed = wide.loc[method, [f"coverage_{level:g}" for level in levels]].to_numpy(float)
            plot_calibration(np.array(levels), observed, label=method, title=titles.get(name, name), ax=ax)
        ax.get_legend().remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
