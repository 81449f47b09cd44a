"""Picture of the positions experiment: calibration of credible regions, and resolution."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from perler_jax.inputs.io import atomic_path
from perler_jax.plotting.trust import plot_calibration

__all__ = ["draw_positions"]

_SHOWN = ("none (the model's own)", "agreement of landmarks", "the default")  # the same colours everywhere


def draw_positions(table: pd.DataFrame, curve: pd.DataFrame, path: Path) -> None:
    """Coverage promised and observed on each kind of data; mass near the mode by number of landmarks."""
    figure, axes = plt.subplots(1, 4, figsize=(16.0, 4.6), layout="constrained")
    for ax, dataset in zip(axes, ("simulated embryo", "osmFISH", "STARmap"), strict=False):
        some = table[(table["dataset"] == dataset) & table["metric"].str.startswith("coverage_")]
        some = some.assign(level=some["metric"].str.removeprefix("coverage_").astype(float))
        for method in _SHOWN:
            runs = some[some["method"] == method].groupby("level")["value"]
            mean = runs.mean()
            plot_calibration(
                mean.index.to_numpy(),
                mean.to_numpy(),
                lower=runs.min().to_numpy(),
                upper=runs.max().to_numpy(),
                label=method,
                title=f"origins of cells: {dataset}",
                ax=ax,
            )
        ax.get_legend().remove()
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title="tempered by", frameon=False)
    right = axes[3]
    near = curve[curve["spacings"] == 4]
    for temperature, rows in near.groupby("temperature"):
        runs = rows.groupby("n_landmarks")["mass"]
        mean = runs.mean()
        label = (
            "as the model says" if temperature == 1 else f"temperature {temperature:.2g} (landmarks agree)"
        )
        (line,) = right.plot(mean.index, mean, marker="o", ms=4, label=label)
        right.fill_between(mean.index, runs.min(), runs.max(), color=line.get_color(), alpha=0.2, lw=0)
    radius = float(np.mean(near["radius"]))
    right.axhline(0.5, color="0.5", lw=1, ls="--", zorder=0)
    right.set(
        xlabel="number of landmarks",
        ylabel=f"posterior within 4 spacings ({radius:.0f} µm) of its mode",
        ylim=(0, 1),
        title="resolution: fly embryo",
    )
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
