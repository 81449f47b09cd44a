"""How far to trust a result: where a cell came from, how sure each value is, which genes to believe."""

from perler_jax.trust.bootstrap import bootstrap_patterns
from perler_jax.trust.panel import choose_panel
from perler_jax.trust.positions import CellPositions, cell_positions
from perler_jax.trust.reliability import gene_reliability
from perler_jax.trust.resolution import resolution_curve
from perler_jax.trust.suggestion import suggest_landmarks
from perler_jax.trust.summary import fit_intervals, summarise

__all__ = [
    "CellPositions",
    "bootstrap_patterns",
    "cell_positions",
    "choose_panel",
    "fit_intervals",
    "gene_reliability",
    "resolution_curve",
    "suggest_landmarks",
    "summarise",
]
