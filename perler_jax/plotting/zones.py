"""Picture of tissue that is known as a few zones (liver lobule, villus): genes by zones."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from perler_jax._typing import Real
from perler_jax.plotting.canvas import EXPRESSION, new_axes

__all__ = ["plot_zones"]

_MOST_NAMES = 60


def plot_zones(
    table: pd.DataFrame,
    *,
    unit: str,
    limits: tuple[Real, Real] | None = None,
    cmap: str = EXPRESSION,
    axis: str = "zone",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a heat map of genes by zones, the first gene on top, the first zone left.

    Args:
        table: genes as rows, zones as columns, in the order to draw.
        unit: what the values are, beside the colour bar.
        limits: values at the ends of the colours. None: the extremes; values below and above zero get colours
            around zero if ``cmap`` is one for differences, by giving limits that are.
        cmap: name of a perceptually uniform colour map.
        axis: what the columns are called.
        title: text above.
        ax: axes to draw in; None makes a figure.

    Returns:
        The axes that were given, or new ones.
    """
    n_genes, n_zones = table.shape
    ax = new_axes(ax, (1.9 + 0.38 * n_zones, 1.0 + 0.19 * min(n_genes, _MOST_NAMES)))
    low, high = (None, None) if limits is None else limits
    mesh = ax.pcolormesh(table.to_numpy(float), cmap=cmap, vmin=low, vmax=high)
    ax.invert_yaxis()
    ax.set_xticks([zone + 0.5 for zone in range(n_zones)], list(map(str, table.columns)))
    if n_genes <= _MOST_NAMES:
        ax.set_yticks(
            [gene + 0.5 for gene in range(n_genes)], list(map(str, table.index)), fontsize=8, style="italic"
        )
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{n_genes} genes")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(axis)
    ax.figure.colorbar(mesh, ax=ax, label=unit, fraction=0.08, pad=0.04)
    if title is not None:
        ax.set_title(title)
    return ax
