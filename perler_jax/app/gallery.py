"""The demo's picture: several genes as reconstructed, each beside what is known of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from perler_jax.plotting.patterns import plot_pattern
from perler_jax.plotting.views import View

__all__ = ["draw_gallery"]

_COLUMNS = 4
_LIMITS = (0.01, 0.99)


def draw_gallery(
    predicted: pd.DataFrame,
    known: pd.DataFrame,
    genes: Sequence[str],
    coordinates: np.ndarray,
    *,
    title: str,
    beside: str,
    correlations: pd.Series,
    landmarks: Sequence[str] | np.ndarray,
    view: View = "lateral",
) -> Figure:
    """Draw genes of which nothing is known side by side, then the others each beside what is known.

    Args:
        predicted: locations x genes.
        known: what to compare with; it may lack some of the genes.
        genes: names to draw.
        coordinates: (locations, 2 or 3) positions, micrometres.
        title: above all.
        beside: what the known patterns are called.
        correlations: of the prediction with what is known, by gene; may lack some.
        landmarks: genes that were in the fit.
        view: side from which embryos are seen.
    """
    alone = [gene for gene in genes if gene not in known]
    panels: list[tuple[str, pd.Series] | None] = [
        (f"{gene}, not in the {beside}", predicted[gene]) for gene in alone
    ]
    panels += [None] * (-len(panels) % _COLUMNS)
    for gene in (gene for gene in genes if gene in known):
        seen = "in the fit" if gene in landmarks else "not in the fit"
        score = f", r = {correlations[gene]:.2f}" if gene in correlations else ""
        panels += [(f"{gene}, {seen}{score}", predicted[gene]), (f"{gene}, {beside}", known[gene])]
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(3.0 * _COLUMNS, 1.5 * rows + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for index, panel in enumerate(panels):
        if panel is None:
            continue
        values = panel[1].to_numpy(np.float64)
        low, high = np.quantile(values, _LIMITS)
        plot_pattern(
            values,
            coordinates,
            view=view,
            ax=axes[index],
            limits=(low, high),
            scale_bar=100 if index == len(panels) - 1 else None,
        )
        axes[index].set_title(panel[0], fontsize=9)
    figure.supxlabel(
        "lateral view, anterior left, dorsal up; colours from the 1st (dark) to the 99th percentile (bright) "
        "of each panel",
        fontsize=8,
    )
    return figure
