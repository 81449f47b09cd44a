"""Pictures of the intervals experiment."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from perler_jax.plotting.trust import plot_calibration

__all__ = ["draw_intervals"]


def draw_intervals(bands: pd.DataFrame, table: pd.DataFrame, name: str, path: Path) -> None:
    """Calibration curve of one scale with its genes; then coverage by predicted level for all scales."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    curve = bands[bands["method"] == name].iloc[4::5]
    plot_calibration(
        curve["level"].to_numpy(),
        curve["coverage"].to_numpy(),
        lower=curve["genes_10%"].to_numpy(),
        upper=curve["genes_90%"].to_numpy(),
        label="mean of genes; middle 80 % of genes",
        title="unseen genes of the fly",
        ax=left,
    )
    fifths = [f"coverage_90_fifth_{number}" for number in range(1, 6)]
    means = table.groupby(["method", "metric"])["value"].mean().unstack()[fifths]
    for method in bands["method"].unique():
        width = 2.4 if method == name else 1.0
        right.plot(np.arange(1, 6), means.loc[method], marker="o", ms=4, label=method, lw=width)
    right.axhline(0.9, color="0.5", lw=1, ls="--", zorder=0)
    right.set(
        xlabel="fifth of locations, from lowest to highest prediction",
        ylabel="coverage of 90 % intervals",
        xticks=np.arange(1, 6),
        ylim=(None, 1.0),
        title="what the width is made of",
    )
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
