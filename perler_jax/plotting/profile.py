"""Picture of a profile along the straightened axis, with its stripes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from perler_jax._typing import Float
from perler_jax.plotting.canvas import new_axes
from perler_jax.scores.stripes import StripeCount

__all__ = ["plot_profile"]


def plot_profile(
    positions: Float[np.ndarray, " positions"],
    profile: Float[np.ndarray, " positions"],
    *,
    reference: Float[np.ndarray, " positions"] | None = None,
    stripes: StripeCount | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    unit: str = "expression",
) -> Axes:
    """Draw a profile along the straightened axis (um, anterior left) with its stripes marked and numbered.

    Args:
        positions: where, micrometres.
        profile: the prediction there.
        reference: what was measured there, in the same unit; dashed.
        stripes: of the prediction, to be numbered.
        ax: axes to draw in; None makes a figure.
        title: text above.
        unit: what is drawn.

    Returns:
        The axes that were given, or new ones.
    """
    ax = new_axes(ax, (5.5, 2.4))
    ax.plot(positions, profile, lw=1.5, label="reconstructed")
    if stripes is not None:
        heights = np.interp(stripes.positions, positions, profile)
        ax.plot(stripes.positions, heights, "v", color="C3", ms=5, label="_stripes")
        for number, (x, y) in enumerate(zip(stripes.positions, heights, strict=True), start=1):
            ax.annotate(str(number), (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    if reference is not None:
        ax.plot(positions, reference, color="0.5", lw=1, ls="--", label="reference")
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    ax.margins(x=0.0, y=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlabel="position along the straightened axis (µm)", ylabel=unit)
    if title is not None:
        ax.set_title(title, loc="left" if reference is not None else "center")
    return ax
