"""How a picture ends: shown, saved, or both, as scanpy's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.io import atomic_path

__all__ = ["finish"]

_RESOLUTION = 200  # dots per inch of pixels inside a vector picture, and of a PNG


def finish(ax: Axes, *, show: bool | None, save: Any) -> None:
    """Save and show the figure of an axes.

    Args:
        ax: an axes of the figure.
        show: True calls ``pyplot.show()``; None and False leave that to a notebook, or to you.
        save: path to write to; its ending says how: .pdf and .svg are vectors, .png is not. Without an ending
            it is a .pdf.

    Raises:
        PerlerFileError: an ending that Matplotlib does not know, or no folder to write to.
    """
    if save is not None:
        path = Path(save)
        path = path if path.suffix else path.with_suffix(".pdf")
        canvas = ax.figure.canvas  # of the whole figure, also where the axes lie in a part of it
        known = sorted(canvas.get_supported_filetypes())
        if path.suffix[1:] not in known:
            raise PerlerFileError(
                f"expected a picture that ends in one of .{', .'.join(known)}; found {path}; name it so"
            )
        with atomic_path(path) as temporary:
            canvas.figure.savefig(temporary, dpi=_RESOLUTION, bbox_inches="tight")
    if show:
        from matplotlib import pyplot

        pyplot.show()
