"""What a person wants to see: profiles of marker genes, where cells went, how well families of genes do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.villus.halves import Halves
from experiments.villus.scoring import FAMILIES
from perler_jax.inputs.io import atomic_path

__all__ = ["draw_profiles", "draw_zones"]


def draw_profiles(halves: Halves, predicted: pd.DataFrame, markers: dict[str, list[str]], path: Path) -> None:
    """Predicted and measured profiles of marker genes, each from 0 to its maximum; a row per family."""
    columns = max(map(len, markers.values()))
    figure = Figure(figsize=(1.45 * columns, 1.5 * len(markers) + 0.5), layout="constrained")
    grid = figure.subplots(len(markers), columns, sharex=True, sharey=True, squeeze=False)
    for row, (family, genes) in zip(grid, markers.items(), strict=True):
        row[0].set_ylabel(family, fontsize=9)
        for ax in row[len(genes) :]:
            ax.set_axis_off()
        for ax, gene in zip(row, genes, strict=False):
            for values, style in (
                (
                    halves.map_profiles.loc[gene],
                    {"color": "0.6", "ls": "--", "label": "other half of the cells"},
                ),
                (predicted.loc[gene], {"color": "C0", "lw": 1.8, "label": "predicted, gene unseen"}),
            ):
                shown = values.to_numpy(float) - values.min()
                ax.plot(shown / shown.max(), **style)
            ax.set_title(gene, fontsize=9, style="italic")
            ax.set(xticks=[0, 3, 6], yticks=[0, 1])
            ax.spines[["top", "right"]].set_visible(False)
    grid[-1][0].set_xlabel("zone (0 base, 6 tip)", fontsize=8)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def draw_zones(cells: pd.DataFrame, genes: pd.DataFrame, path: Path) -> None:
    """Where the cells of each zone went; correlations of unseen genes by family and method."""
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    counts = pd.crosstab(cells["zone"], cells["predicted"], normalize="index")
    zones = np.arange(int(cells["zone"].max()) + 1)
    shares = counts.reindex(index=zones, columns=zones, fill_value=0.0).to_numpy()
    image = left.imshow(shares, cmap="BuPu", vmin=0, vmax=1, origin="lower")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.6 else "black"
            left.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    left.set(xlabel="predicted zone", ylabel="true zone", xticks=zones, yticks=zones)
    left.set_title("cells of a zone, %", fontsize=10)
    figure.colorbar(image, ax=left, label="share of the zone's cells", fraction=0.045)
    unseen = genes[~genes["landmark"]]
    methods = list(genes["method"].unique())
    for at, family in enumerate(FAMILIES):
        for number, method in enumerate(methods):
            values = unseen[(unseen["family"] == family) & (unseen["method"] == method)]["correlation"]
            box = right.boxplot(
                [values],
                positions=[at + 0.15 * (number - (len(methods) - 1) / 2)],
                widths=0.12,
                showfliers=False,
                whis=(5, 95),
                patch_artist=True,
                medianprops={"color": "black"},
            )
            box["boxes"][0].set_facecolor(f"C{number}")
            if at == 0:
                right.plot([], [], "s", color=f"C{number}", label=method)
    numbers = unseen[unseen["method"] == methods[0]].groupby("family").size()
    right.set_xticks(
        range(len(FAMILIES)), [f"{each}\n({numbers.get(each, 0)} genes, all splits)" for each in FAMILIES]
    )
    right.set_ylabel("correlation over zones, unseen genes")
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
