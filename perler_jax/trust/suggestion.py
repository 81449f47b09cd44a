"""Which genes to measure next in the tissue: those that say most of what the landmarks leave unsaid.

A gene without a map cannot be asked what its map would tell, and its predicted map knows only what the
landmarks know. The cells can be asked. With y = s + noise, where s is what a cell really expresses, less what
its landmarks predict of it by ridge regression, a gene says at most

    1/2 ln(1 + Var(s) / Var(noise))

nats of anything, the capacity of a Gaussian channel. The variances are told apart by splitting each cell's
molecules at random into two halves: what both halves agree on is s, what they differ by is noise (Poisson
counts split so are independent). Genes suggested before are taken as measured: what they leave of the signals

    Cov(s, s') - Cov(s, s_g) Cov(s_g, s') / (Var(s_g) + Var(noise_g))

follows gene by gene (pivoted Cholesky); between genes noise is independent, and the covariance is that of y.

Not all that a cell expresses has to do with its place (its sex, the cell cycle). So a gene has to agree, in
cells from which its pattern was NOT drawn, with what the mapping predicts for them. That a gene passes says
that some of it is spatial, not how much: it is a filter, not a part of the gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, Shaped
from tqdm import tqdm

from perler_jax._typing import Real
from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.labels import few, name_positions
from perler_jax.mixture import MappingParams, posterior_moments
from perler_jax.prediction.regression import regression_coefficients, standard_landmarks
from perler_jax.preprocessing import log_normalise
from perler_jax.reconstruction import gene_block_size
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.settings import device_precision
from perler_jax.weights import weighted_means

__all__ = ["split_molecules", "suggest_landmarks"]

_SHORTLIST = 300  # genes that are compared with each other: the best of all on their own
_RIDGE = 0.5  # of the regression on landmarks, in units of their variance


def suggest_landmarks(
    fit: PerlerFit,
    n: int = 10,
    *,
    candidates: Sequence[str] | Shaped[np.ndarray, " candidates"] | None = None,
    least_agreement: Real | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Genes to measure next in the tissue, the one that says most first.

    Args:
        fit: with the counts of its cells.
        n: how many at most.
        candidates: genes of the cells to choose from; None is every gene that is no landmark.
        least_agreement: a gene is suggested only if it correlates this much with its prediction in cells that
            took no part in it; None is three standard errors of chance, 3 / sqrt(cells); -1 lets all pass.
        seed: of the split of molecules and of cells into halves.
        progress: show a progress bar.

    Returns:
        One row per suggested gene, in order: ``gain``, the most it could tell of a cell's place beyond the
        landmarks and the genes above it, nats per cell; ``gain_alone``, beyond the landmarks only;
        ``signal`` and ``noise``, variances of log2 expression; ``agreement``; ``detected``, the share of
        cells in which it is seen. Fewer than n rows where fewer genes pass.

    Raises:
        PerlerInputError: a fit without its cells, cells that are not counts, unknown genes, landmarks among
            the candidates, or n out of range.
    """
    cells = _counts(fit)
    genes = _candidates(fit, cells, candidates, n)
    rng = np.random.default_rng(seed)
    order = rng.permutation(cells.n_cells)
    halves = np.sort(order[::2]), np.sort(order[1::2])
    with tqdm(total=len(genes), desc="candidates", unit="gene", disable=not progress, leave=False) as bar:
        table = _look_at_each(fit, cells, genes, halves, rng, bar.update)
    least = 3 / np.sqrt(cells.n_cells) if least_agreement is None else least_agreement
    passed = np.flatnonzero(table["agreement"] >= least)
    gain = table["gain_alone"].to_numpy()
    short = passed[np.argsort(-gain[passed], kind="stable")][: max(n, _SHORTLIST)]
    left = _unexplained(fit, _log2(fit, cells.dense(genes[short])), halves)
    covariance = left.T @ left / len(left)
    np.fill_diagonal(covariance, table["signal"].to_numpy()[short])
    picked, gains = _pick(covariance, table["noise"].to_numpy()[short], n)
    found = table.iloc[short[picked]].copy()
    found.insert(0, "gain", gains)
    found["detected"] = (cells.dense(found.index.to_numpy()) > 0).mean(axis=0)
    return found


def split_molecules(
    counts: Float[np.ndarray, "cells genes"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]]:
    """Each molecule to one of two halves by the toss of a coin."""
    one = rng.binomial(counts.astype(np.int64), 0.5).astype(np.float64)
    return one, counts - one


def _counts(fit: PerlerFit) -> CellExpression:
    if fit.cells is None or fit.cells.scale != "counts" or not fit.cells.survey.integers:
        found = "no cells" if fit.cells is None else f"cells of scale {fit.cells.scale!r}, not all whole"
        raise PerlerInputError(
            f"expected a fit with the counts of its cells, found {found}: molecules are split into halves; "
            "fit raw counts, or give them to load_fit(path, cells=...)"
        )
    return fit.cells


def _candidates(
    fit: PerlerFit, cells: CellExpression, wanted: Sequence[str] | np.ndarray | None, n: int
) -> np.ndarray:
    if wanted is None:
        genes = cells.genes[~np.isin(cells.genes, fit.landmarks)]
    else:
        genes = cells.genes[name_positions(list(wanted), cells.genes, "gene")]
        known = genes[np.isin(genes, fit.landmarks)]
        repeats = len(genes) - len(np.unique(genes))
        if len(known) or repeats:
            raise PerlerInputError(
                f"expected distinct genes that are not measured in the tissue, found {len(known)} landmarks "
                f"({few(known)}) and {repeats} repeats: leave them out"
            )
    if not 1 <= n <= len(genes):
        raise PerlerInputError(f"expected to suggest 1 to {len(genes)} candidates, found n = {n}")
    return genes


def _look_at_each(
    fit: PerlerFit,
    cells: CellExpression,
    genes: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    report: Callable[[int], object],
) -> pd.DataFrame:
    """Signal, noise and agreement of every candidate, block by block."""
    size = gene_block_size(cells.n_cells, len(fit.reference.locations), len(genes), copies=8)
    parts = []
    for names, counts in cells.gene_blocks(list(genes), size):
        counts = counts.astype(np.float64)
        one, other = (_log2(fit, 2 * part) for part in split_molecules(counts, rng))
        signal = (_unexplained(fit, one, halves) * _unexplained(fit, other, halves)).mean(axis=0)
        noise = ((one - other) ** 2).mean(axis=0) / 2
        signal = np.maximum(signal, 0.0)
        ratio = np.divide(signal, noise, out=np.zeros(len(signal)), where=noise > 0)
        padded = np.zeros((len(counts), size))  # one compiled program serves every block
        padded[:, : len(names)] = _log2(fit, counts)
        columns = {
            "gain_alone": 0.5 * np.log1p(ratio),
            "signal": signal,
            "noise": noise,
            "agreement": _agreement(fit, padded, halves)[: len(names)],
        }
        parts.append(pd.DataFrame(columns, index=pd.Index(names.astype(str), name="gene")))
        report(len(names))
    return pd.concat(parts)


def _log2(fit: PerlerFit, counts: np.ndarray) -> np.ndarray:
    """Centred log2 expression as the fit has it."""
    values = log_normalise(counts.astype(np.float64), fit.preprocessing.factors)
    return values - values.mean(axis=0)


def _unexplained(
    fit: PerlerFit, values: Float[np.ndarray, "cells genes"], halves: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, "cells genes"]:
    """Less what landmarks predict; each half of the cells by the regression of the other."""
    assert fit.cells is not None
    landmarks = standard_landmarks(_log2(fit, fit.cells.dense(fit.landmarks)))
    left = values.copy()
    for learn, apply in (halves, halves[::-1]):
        coefficients = regression_coefficients(landmarks[learn], values[learn], _RIDGE)
        left[apply] -= landmarks[apply] @ coefficients
    return left


def _agreement(
    fit: PerlerFit, values: Float[np.ndarray, "cells genes"], halves: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, " genes"]:
    """Correlation, in one half of the cells, with what the pattern of the other half predicts there."""
    total = np.zeros(values.shape[1])
    with device_precision(fit.settings.dtype):
        near, far = fit.distance_space()
        votes = fit.votes()
        for draw, judge in (halves, halves[::-1]):
            pattern = weighted_means(
                fit.weights,
                near[draw],
                far,
                fit.em.params.log_location_weights,
                jnp.asarray(values[draw], near.dtype),
                evidence=fit.evidence_on_device(draw),
                votes=None if votes is None else votes[draw],
            )[0]
            expected = _expected(
                fit.em.params,
                jnp.asarray(fit.cell_metagenes[judge]),
                jnp.asarray(fit.reference_metagenes),
                fit.evidence_on_device(judge),
                pattern,
            )
            total += np.nan_to_num(pearson_by_gene(np.asarray(expected, np.float64), values[judge]))
    return total / 2


@jax.jit
def _expected(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    pattern: Float[Array, "locations genes"],
) -> Float[Array, "cells genes"]:
    """What the posterior of each cell expects of a pattern at its place."""
    moments = posterior_moments(params, cells, reference, evidence, location_values=pattern)
    assert moments.of_cells is not None
    return moments.of_cells


def _pick(
    covariance: Float[np.ndarray, "genes genes"], noise: Float[np.ndarray, " genes"], n: int
) -> tuple[Int[np.ndarray, " picked"], Float[np.ndarray, " picked"]]:
    """Greedy: the gene that says most, then the one that says most beyond it, and so on."""
    scale = np.sqrt(np.where(noise > 0, noise, np.inf))
    left = covariance / (scale[:, None] * scale)
    picked: list[int] = []
    gains: list[float] = []
    for _ in range(min(n, len(noise))):
        # Sampled covariances need not fit the split variances exactly: none may fall below zero.
        nats = 0.5 * np.log1p(np.maximum(np.diagonal(left), 0.0))
        nats[picked] = -np.inf
        best = int(nats.argmax())
        picked.append(best)
        gains.append(float(nats[best]))
        column = left[:, best]
        left = left - np.outer(column, column) / (1 + max(column[best], 0.0))
    return np.array(picked, dtype=np.int64), np.array(gains)
