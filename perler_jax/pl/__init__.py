"""Pictures from an AnnData or a fit, with scanpy's names and habits: color, ax, show, save.

What they draw is computed or looked up here; `perler_jax.plotting` draws numbers that it is given.
"""

from perler_jax.pl.cells import positions
from perler_jax.pl.fits import compare, scores
from perler_jax.pl.tissue import spatial

__all__ = ["compare", "positions", "scores", "spatial"]
