"""Which genes to measure next in the tissue: those that would tell most of what the landmarks leave unknown.

A gene that has no map yet has the map that is predicted for it. With m_k its predicted pattern and the model
of the landmarks, y = a m_k + b + noise, a cell's expression of it would tell about the cell's place at most

    1/2 ln(1 + a^2 Var(m) / noise^2),        Var over the posterior of the cell's place,

the capacity of a Gaussian channel; the mean over cells is the gain in nats. Genes suggested before are taken
as measured: of the signals f = a m / noise, what a Gaussian would leave unknown is

    Cov(f, f') - Cov(f, f_s) Cov(f_s, f') / (1 + Var(f_s))

after gene s (pivoted Cholesky), of which only the columns of suggested genes are ever formed.

Patterns are drawn from one half of the cells and judged by the other (`channel.py`), then vice versa.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Shaped
from tqdm import tqdm

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.labels import few, name_positions
from perler_jax.reconstruction import gene_block_size
from perler_jax.settings import device_precision
from perler_jax.trust.channel import CrossView

__all__ = ["suggest_landmarks"]

_SHORTLIST = 200  # genes that are compared with each other: the best of all on their own


def suggest_landmarks(
    fit: PerlerFit,
    n: int = 10,
    *,
    candidates: Sequence[str] | Shaped[np.ndarray, " candidates"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Genes to measure next in the tissue, the one that tells most about the places of cells first.

    Args:
        fit: with the expression of its cells.
        n: how many.
        candidates: genes of the cells to choose from; None is every gene that is no landmark.
        seed: of the split of the cells into halves.
        progress: show a progress bar.

    Returns:
        One row per suggested gene, in order: ``gain`` in nats per cell, given the landmarks and the genes
        above it; ``gain_alone``, given the landmarks only; ``sensitivity`` and ``noise`` of the cells against
        the predicted pattern; ``detected``, the share of cells in which the gene is seen.

    Raises:
        PerlerInputError: a fit without its cells, unknown genes, landmarks among the candidates, or fewer
            candidates than n.
    """
    if fit.cells is None:
        raise PerlerInputError(
            "expected a fit with the expression of its cells, found one without: load_fit(path, cells=...)"
        )
    genes = _candidates(fit, fit.cells, candidates, n)
    order = np.random.default_rng(seed).permutation(len(fit.cell_names))
    one, other = np.sort(order[::2]), np.sort(order[1::2])
    with device_precision(fit.settings.dtype):
        views = [CrossView(fit, one, other), CrossView(fit, other, one)]
        bar = tqdm(total=len(genes), desc="candidates", unit="gene", disable=not progress, leave=False)
        with bar:
            table = _gains_alone(views, fit.cells, genes, bar.update)
        short = np.argsort(-table["gain_alone"].to_numpy(), kind="stable")[: max(n, _SHORTLIST)]
        log2 = np.asarray(fit.preprocessing.apply(fit.cells.dense(genes[short])), np.float64)
        picked, gains = _pick([_Beliefs(view, log2 - log2.mean(axis=0)) for view in views], n)
    found = table.iloc[short[picked]].copy()
    found.insert(0, "gain", gains)
    found["detected"] = (fit.cells.dense(found.index.to_numpy()) > 0).mean(axis=0)
    return found


def _candidates(
    fit: PerlerFit, cells: CellExpression, wanted: Sequence[str] | np.ndarray | None, n: int
) -> np.ndarray:
    if wanted is None:
        genes = cells.genes[~np.isin(cells.genes, fit.landmarks)]
    else:
        genes = cells.genes[name_positions(list(wanted), cells.genes, "gene")]
        known = genes[np.isin(genes, fit.landmarks)]
        if len(known) or len(np.unique(genes)) < len(genes):
            raise PerlerInputError(
                f"expected distinct genes that are not measured in the tissue, found {len(known)} landmarks "
                f"({few(known)}) and {len(genes) - len(np.unique(genes))} repeats: leave them out"
            )
    if not 1 <= n <= len(genes):
        raise PerlerInputError(f"expected to suggest 1 to {len(genes)} candidates, found n = {n}")
    return genes


def _gains_alone(
    views: list[CrossView], cells: CellExpression, genes: np.ndarray, report: Callable[[int], object]
) -> pd.DataFrame:
    """Every candidate on its own, block by block; means of both views."""
    fit = views[0].fit
    size = gene_block_size(len(fit.cell_names), len(fit.reference.locations), len(genes))
    parts = []
    for names, raw in cells.gene_blocks(list(genes), size):
        block = np.asarray(fit.preprocessing.apply(raw), np.float64)
        padded = np.zeros((len(block), size))  # one compiled program serves every block
        padded[:, : block.shape[1]] = block - block.mean(axis=0)
        channels = [view.channel(padded) for view in views]
        columns = {
            "gain_alone": np.mean([each.nats for each in channels], axis=0),
            "sensitivity": np.mean([each.sensitivity for each in channels], axis=0),
            "noise": np.mean([each.noise for each in channels], axis=0),
        }
        index = pd.Index(names.astype(str), name="gene")
        parts.append(pd.DataFrame({key: value[: len(names)] for key, value in columns.items()}, index=index))
        report(len(names))
    return pd.concat(parts)


class _Beliefs:
    """What is unknown of the signals of some genes, cell by cell, while genes are taken as measured."""

    def __init__(self, view: CrossView, deviations: np.ndarray) -> None:
        channel = view.channel(deviations)
        self.view = view
        self.signals = channel.pattern * jnp.asarray(channel.gain, channel.pattern.dtype)
        self.mean = channel.mean * channel.gain
        self.variance = channel.variance * channel.gain**2
        self.factors: list[np.ndarray] = []

    @property
    def nats(self) -> np.ndarray:
        """(genes,) what each would tell now."""
        return 0.5 * np.log1p(self.variance).mean(axis=0)

    def measure(self, gene: int) -> None:
        """One step of a pivoted Cholesky factorisation of 1 + Cov(f), for every cell."""
        together = self.view.expect(self.signals * self.signals[:, gene : gene + 1])
        covariance = together - self.mean * self.mean[:, gene : gene + 1]
        for factor in self.factors:
            covariance = covariance - factor * factor[:, gene : gene + 1]
        factor = covariance / np.sqrt(1 + self.variance[:, gene : gene + 1])
        self.factors.append(factor)
        self.variance = np.maximum(self.variance - factor**2, 0.0)


def _pick(beliefs: list[_Beliefs], n: int) -> tuple[list[int], list[float]]:
    """Greedy: the gene that tells most, then the one that tells most given that one, and so on."""
    picked: list[int] = []
    gains: list[float] = []
    while True:
        nats = np.mean([each.nats for each in beliefs], axis=0)
        nats[picked] = -np.inf
        picked.append(int(nats.argmax()))
        gains.append(float(nats[picked[-1]]))
        if len(picked) == n:
            return picked, gains
        for each in beliefs:
            each.measure(picked[-1])
