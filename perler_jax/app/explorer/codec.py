"""Thousands of patterns in a few megabytes: a common basis of patterns and each gene's small whole numbers.

Patterns that are weighted means of the same cells have much in common. Each gene, brought to mean 0 and
variance 1 over locations, is written in the principal components of all of them (so that what is left out is
the least that can be), and its coefficients are rounded to 1/127: most are then zero and cost next to nothing
after compression. The page needs only sums of products to undo it, and the same coefficients give it the
z-scores of all genes at one location and the correlation of any two patterns.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from perler_jax._typing import Float, Real

__all__ = ["PackedPatterns", "pack_patterns", "squeeze"]

# Root mean square error, in standard deviations of the gene, at which more components are not worth their
# bytes: a fiftieth of the range of colours, or a correlation of 0.996.
_TARGET = 0.09
_STEPS = 127
_MOST = 768
_CHUNK = 32


@dataclasses.dataclass(frozen=True, eq=False)
class PackedPatterns:
    """Patterns as ``mean + spread * basis' @ loadings``, each in one byte.

    Attributes:
        basis: (components, locations) whole numbers.
        basis_scale: (components,) what one step of the basis is worth.
        loadings: (components, genes) whole numbers, in steps of 1/127.
        mean: (genes,) over locations; NaN for a gene that has values missing.
        spread: (genes,) standard deviation over locations.
        low: (genes,) least value.
        high: (genes,) greatest value.
        n_bytes: of the basis and the loadings after compression.
    """

    basis: np.ndarray
    basis_scale: Float[np.ndarray, " components"]
    loadings: np.ndarray
    mean: Float[np.ndarray, " genes"]
    spread: Float[np.ndarray, " genes"]
    low: Float[np.ndarray, " genes"]
    high: Float[np.ndarray, " genes"]
    n_bytes: int

    def __repr__(self) -> str:
        rank, genes = self.loadings.shape
        return f"PackedPatterns({genes} genes by {rank} components, {self.n_bytes / 1e6:.2f} MB)"

    def unpack(self, genes: slice | np.ndarray = slice(None)) -> Float[np.ndarray, "locations some"]:
        """What the page computes: values of some genes at all locations."""
        standard = (self.basis.T * self.basis_scale) @ (self.loadings[:, genes].astype(np.float32) / _STEPS)
        values = self.mean[genes] + self.spread[genes] * standard
        return np.clip(values, self.low[genes], self.high[genes]).astype(np.float32)

    def agreement(self, values: Float[np.ndarray, "locations genes"]) -> Float[np.ndarray, " some"]:
        """Correlation of each gene as unpacked with what was packed; of genes that vary and are complete."""
        found = []
        for start in range(0, values.shape[1], 2048):
            some = np.arange(start, min(start + 2048, values.shape[1]))
            some = some[self.spread[some] > 0]
            exact, shown = np.asarray(values[:, some], np.float64), self.unpack(some).astype(np.float64)
            exact, shown = exact - exact.mean(0), shown - shown.mean(0)
            norms = np.linalg.norm(exact, axis=0) * np.linalg.norm(shown, axis=0)
            found.append((exact * shown).sum(0) / np.where(norms > 0, norms, 1.0))
        return np.concatenate(found)


def pack_patterns(
    values: Float[np.ndarray, "locations genes"], *, budget: Real, target: Real = _TARGET
) -> PackedPatterns:
    """Pack patterns into at most so many bytes.

    Args:
        values: one column per gene; a column with any value missing is packed as missing.
        budget: bytes of the compressed basis and loadings; at least one chunk of components is kept.
        target: root mean square error, in standard deviations of a gene, that is good enough.
    """
    complete = np.isfinite(values).all(axis=0)
    values = np.where(complete, values, 0.0).astype(np.float32)
    mean, spread = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    spread = np.where(spread > 1e-6 * (1 + np.abs(mean)), spread, 0.0)
    standard = ((values - mean) / np.where(spread > 0, spread, np.inf)).astype(np.float32)
    basis, loadings = _components(standard, _worth_trying(values.shape, budget))

    whole = np.rint(np.clip(loadings, -1.0, 1.0) * _STEPS).astype(np.int8)
    scale = np.abs(basis).max(axis=1, initial=0.0) / _STEPS
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    coarse = np.rint(basis / scale[:, None]).astype(np.int8)
    left = (spread > 0).sum() * 1.0  # sum over genes of squared errors, in the gene's variances
    rank, n_bytes = 0, 0
    while rank < len(basis):
        chunk = slice(rank, rank + _CHUNK)
        cost = len(squeeze(coarse[chunk])) + len(squeeze(whole[chunk]))
        if rank > 0 and (n_bytes + cost > budget or left <= target**2 * (spread > 0).sum()):
            break
        rounding = loadings[chunk] - whole[chunk] / np.float32(_STEPS)
        left += float((rounding**2).sum() - (loadings[chunk] ** 2).sum())
        rank, n_bytes = rank + _CHUNK, n_bytes + cost
    return PackedPatterns(
        coarse[:rank],
        scale[:rank],
        whole[:rank],
        np.where(complete, mean, np.nan).astype(np.float32),
        np.where(complete, spread, 0.0).astype(np.float32),
        values.min(0),
        values.max(0),
        n_bytes,
    )


def squeeze(array: np.ndarray) -> bytes:
    """An array's bytes after compression, which browsers undo by themselves (zlib, "deflate")."""
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 9)


def _worth_trying(shape: tuple[int, ...], budget: Real) -> int:
    """Components that could fit: each costs about 0.8 bytes per location and, in the tail, 0.1 per gene."""
    return int(max(_CHUNK, min(_MOST, budget / (0.8 * shape[0] + 0.1 * shape[1]))))


def _components(
    standard: Float[np.ndarray, "locations genes"], rank: int
) -> tuple[Float[np.ndarray, "components locations"], Float[np.ndarray, "components genes"]]:
    """Leading principal components, of unit variance over locations, and each gene's coefficients.

    By a random sketch of the column space (Halko, Martinsson and Tropp 2011), which takes one pass where a
    decomposition takes hundreds; it is exact where the sketch is as wide as the smaller side.
    """
    n_locations, n_genes = standard.shape
    width = min(rank + rank // 8, n_locations, n_genes)
    sketch = np.random.default_rng(0).standard_normal((n_genes, width), dtype=np.float32)
    space, _ = np.linalg.qr(standard @ sketch)
    inside = space.T @ standard
    _, turn = np.linalg.eigh((inside @ inside.T).astype(np.float64))
    turn = turn[:, ::-1][:, :rank].astype(np.float32)
    root = np.float32(np.sqrt(n_locations))
    return (space @ turn).T * root, (turn.T @ inside) / root
