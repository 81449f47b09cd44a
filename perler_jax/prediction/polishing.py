"""What is done to predicted patterns: smoothing over positions, projection on the landmarks' maps."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy import sparse
from scipy.spatial import cKDTree

from perler_jax.prediction.experts import Polish

__all__ = ["Polisher", "location_spacing", "smoother", "smoothers"]


def location_spacing(coordinates: Float[np.ndarray, "locations dimensions"]) -> float:
    """Median distance of a location to its nearest neighbour, in the unit of the coordinates.

    Locations that share a position count once: a pile of them has no spacing.
    """
    places = np.unique(coordinates, axis=0)
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1])) if len(places) > 1 else 0.0


def smoother(coordinates: Float[np.ndarray, "locations dimensions"], length: float) -> sparse.csr_array:
    """(locations, locations) rows of a Gaussian over positions, cut at four lengths and summing to one."""
    tree = cKDTree(coordinates)
    distances = tree.sparse_distance_matrix(tree, 4 * length, output_type="coo_matrix")
    off = distances.row != distances.col
    weights = np.exp(-0.5 * (distances.data[off] / length) ** 2)
    rows, columns = distances.row[off], distances.col[off]
    matrix = sparse.csr_array((weights, (rows, columns)), shape=(len(coordinates),) * 2)
    matrix = matrix + sparse.eye_array(len(coordinates), format="csr")
    return sparse.csr_array(sparse.diags_array(1.0 / matrix.sum(axis=1)) @ matrix)


def smoothers(
    polishes: tuple[Polish, ...], coordinates: Float[np.ndarray, "locations dimensions"] | None
) -> dict[float, sparse.csr_array]:
    """The matrix of every length that the polishes smooth over, in spacings."""
    lengths = {each.smoothing for each in polishes if each.smoothing}
    if not lengths:
        return {}
    assert coordinates is not None  # `usable_polishes`
    spacing = location_spacing(coordinates)
    return {length: smoother(coordinates, length * spacing) for length in lengths}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Polisher:
    """Polishes with what they need of the map.

    Attributes:
        polishes: what can be done.
        reference: (locations, landmarks) maps of the landmarks that may be looked at, centred, variance one.
        smoothers: matrix of each length, from `smoothers`.
    """

    polishes: tuple[Polish, ...]
    reference: Float[np.ndarray, "locations landmarks"]
    smoothers: dict[float, sparse.csr_array]

    def each(
        self, patterns: Float[np.ndarray, "locations genes"]
    ) -> list[Float[np.ndarray, "locations genes"]]:
        """The patterns after every polish, in order."""
        smoothed = {length: self._smooth(patterns, length) for length in {p.smoothing for p in self.polishes}}
        return [
            self._project(smoothed[each.smoothing], each.span) if each.span else smoothed[each.smoothing]
            for each in self.polishes
        ]

    def mixed(
        self, patterns: Float[np.ndarray, "locations genes"], shares: Float[np.ndarray, " polishes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """The weighted sum of the patterns after every polish."""
        used = [
            (share, each) for share, each in zip(shares.tolist(), self.polishes, strict=True) if share > 0
        ]
        smoothed = {length: self._smooth(patterns, length) for length in {each.smoothing for _, each in used}}
        sums: dict[float, np.ndarray] = {}  # one projection for all patterns that get it: it is linear
        for share, each in used:
            part = smoothed[each.smoothing] * patterns.dtype.type(share)
            sums[each.span] = sums[each.span] + part if each.span in sums else part
        return functools.reduce(
            np.add, [self._project(part, span) if span else part for span, part in sums.items()]
        )

    def smooth_error(
        self, errors: Float[np.ndarray, "locations genes"], shares: Float[np.ndarray, " polishes"]
    ) -> Float[np.ndarray, "locations genes"]:
        """Standard errors after the polishes: an upper bound, as if errors of neighbours went together.

        A projection on the maps is counted as leaving errors as they are.
        """
        lengths = {each.smoothing for each in self.polishes}
        by_length = {
            length: sum(s for s, p in zip(shares, self.polishes, strict=True) if p.smoothing == length)
            for length in lengths
        }
        return sum(share * self._smooth(errors, length) for length, share in by_length.items() if share > 0)

    def _smooth(self, patterns: np.ndarray, length: float) -> np.ndarray:
        return patterns if length == 0 else self.smoothers[length].astype(patterns.dtype) @ patterns

    def _project(self, patterns: np.ndarray, penalty: float) -> np.ndarray:
        centred = patterns - patterns.mean(axis=0)
        cross = self.reference.T @ centred / len(centred)
        fitted = self.reference @ scipy.linalg.cho_solve(self._root(penalty), cross)
        return fitted + patterns.mean(axis=0)

    def _root(self, penalty: float) -> tuple:
        gram = self._gram + self._gram.dtype.type(penalty) * np.eye(len(self._gram), dtype=self._gram.dtype)
        return scipy.linalg.cho_factor(gram)

    @functools.cached_property
    def _gram(self) -> np.ndarray:
        return self.reference.T @ self.reference / len(self.reference)
