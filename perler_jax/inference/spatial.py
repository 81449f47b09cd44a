"""Location weights that are smooth over the tissue: ln pi as a random field over physical positions.

Cells are lost and gained region by region, not location by location. Each function here makes a prior for
``MappingPriors(location_weights=...)``; fit it by `fit_map` or `fit_svi`. A Gaussian process of low rank
(Hilbert-space approximation) suits any map; a conditional autoregression suits maps of a few thousand
locations, or zones, where only who touches whom is known. Both are NumPyro's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.contrib.hsgp.approximation import hsgp_squared_exponential
from scipy import sparse
from scipy.spatial import cKDTree

from perler_jax.errors import PerlerInputError

__all__ = ["autoregressive_location_weights", "location_graph", "smooth_location_weights"]

_MARGIN = 1.5  # the approximation is periodic beyond this many half extents
_MOST_GRAPH = 5000  # locations whose graph's eigenvalues are still quick to find


def smooth_location_weights(
    coordinates: Float[np.ndarray, "locations dimensions"],
    *,
    length: float | None = None,
    amplitude: Any = 1.0,
    n_basis: int = 8,
) -> Callable[[], Array]:
    """A Gaussian process over positions, squared exponential, by a Hilbert-space approximation.

    Args:
        coordinates: of the locations.
        length: over which ln pi changes, in the unit of the coordinates; None: a tenth of the largest extent.
        amplitude: standard deviation of ln pi; a number, or a NumPyro distribution to learn it.
        n_basis: basis functions per dimension; about extent / length of them are needed.

    Returns:
        A prior with the sites ``location/beta`` and, where it is learned, ``location/amplitude``.

    Raises:
        PerlerInputError: on coordinates without extent, or a length or amplitude that is not positive.
    """
    z = np.asarray(coordinates, np.float64)
    if z.ndim != 2 or not np.isfinite(z).all():
        raise PerlerInputError(f"expected finite coordinates (locations, dimensions), found shape {z.shape}")
    z = z[:, np.ptp(z, axis=0) > 0]
    if not z.shape[1]:
        raise PerlerInputError("expected locations at different positions, found all at one")
    half = np.ptp(z, axis=0) / 2
    z = z - (z.min(axis=0) + half)
    scale = 0.2 * half.max() if length is None else float(length)
    for name, value in (("length", scale), ("amplitude", amplitude)):
        if not isinstance(value, dist.Distribution) and not (np.isfinite(value) and value > 0):
            raise PerlerInputError(f"expected {name} > 0 of the smooth location weights, found {value}")

    def prior() -> Array:
        with handlers.scope(prefix="location"):
            height = amplitude
            if isinstance(amplitude, dist.Distribution):
                height = numpyro.sample("amplitude", amplitude)
            field = hsgp_squared_exponential(
                jnp.asarray(z), height, scale, ell=list(_MARGIN * half), m=[n_basis] * z.shape[1]
            )
        return jax.nn.softmax(field)

    return prior


def location_graph(
    coordinates: Float[np.ndarray, "locations dimensions"], n_neighbours: int = 6
) -> sparse.csr_array:
    """(locations, locations) symmetric adjacency of nearest neighbours in space.

    Args:
        coordinates: of the locations, in any unit.
        n_neighbours: of each location; an edge stands where either names the other.

    Returns:
        Sparse, ones where there is an edge.

    Raises:
        PerlerInputError: not between 1 and locations - 1 neighbours.
    """
    n = len(coordinates)
    if not 1 <= n_neighbours < n:
        raise PerlerInputError(f"expected 1 to {n - 1} neighbours of {n} locations, found {n_neighbours}")
    _, near = cKDTree(coordinates).query(coordinates, k=n_neighbours + 1)
    rows = np.repeat(np.arange(n), n_neighbours)
    graph = sparse.csr_array((np.ones(len(rows)), (rows, near[:, 1:].ravel())), shape=(n, n))
    return sparse.csr_array(graph.maximum(graph.T))


def autoregressive_location_weights(
    graph: Any, *, correlation: float = 0.99, amplitude: float = 1.0
) -> Callable[[], Array]:
    """A conditional autoregression on a graph of the locations, or of zones.

    Args:
        graph: (locations, locations) symmetric adjacency, e.g. of `location_graph`.
        correlation: of a location with the mean of its neighbours, in (0, 1).
        amplitude: conditional standard deviation of ln pi given one neighbour.

    Returns:
        A prior with the site ``location/field``.

    Raises:
        PerlerInputError: on a graph that is not symmetric, too large, or has a location without neighbour.
    """
    matrix = sparse.csr_matrix(graph)
    if matrix.shape[0] != matrix.shape[1] or (matrix != matrix.T).nnz:
        raise PerlerInputError(f"expected a symmetric graph of the locations, found shape {matrix.shape}")
    if matrix.shape[0] > _MOST_GRAPH:
        raise PerlerInputError(
            f"expected at most {_MOST_GRAPH} locations, found {matrix.shape[0]}: use smooth_location_weights"
        )
    if (np.asarray(matrix.sum(axis=1)) == 0).any():
        raise PerlerInputError("expected a neighbour of every location, found one without any")
    if not (0 < correlation < 1 and amplitude > 0):
        raise PerlerInputError(
            f"expected 0 < correlation < 1 and amplitude > 0, found {correlation} and {amplitude}"
        )

    def prior() -> Array:
        zeros = jnp.zeros(matrix.shape[0])
        with handlers.scope(prefix="location"):
            law = dist.CAR(zeros, correlation, amplitude**-2.0, matrix, is_sparse=True)
            field = numpyro.sample("field", law)
        return jax.nn.softmax(field)

    return prior
