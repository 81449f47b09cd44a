"""The equations of the model: cells as a Gaussian mixture with one component per tissue location.

A cell's metagenes x are those of its location r, mapped:  x = a r + b + sigma xi  (Eqs. 2-3), so over
unknown origins  p(x) = sum_k pi_k N(x | a r_k + b, diag sigma^2)  (Eqs. 8-9). `expected_statistics` is the
E step; the gradient of the density (`density.py`) is made of the same statistics (Fisher's identity), so that
EM, MAP, variational and sampling fits all stand on one streamed pass.

Around this the model takes three values that the paper does not have: heavy-tailed noise, a component for
cells from elsewhere (`noise.py`), and evidence of where each cell is from (`evidence.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.evidence import CellEvidence
from perler_jax.noise import GAUSSIAN, ForeignCells, NoiseFamily
from perler_jax.streaming import Logits, Moments, Tiles, softmax_moments

__all__ = [
    "MappingParams",
    "SufficientStatistics",
    "expected_statistics",
    "foreign_probability",
    "log_weights",
    "map_locations",
    "posterior_moments",
    "score",
    "standardise",
]


@pytree
class MappingParams:
    """Parameters of the generative linear mapping.

    Attributes:
        sensitivity: (metagenes,) a, scale of a metagene in cells relative to the reference.
        background: (metagenes,) b, metagene level in cells where the reference has zero.
        noise: (metagenes,) sigma > 0, standard deviation (scale of a Student t) around the mapped reference.
        log_location_weights: (locations,) log pi, normalised or not; None is uniform.
        foreign: the component of cells from elsewhere; None where every cell is from the tissue.
        noise_family: how cells scatter.

    The fits of several folds are stacked along a leading axis.
    """

    sensitivity: Float[Array, "*folds metagenes"]
    background: Float[Array, "*folds metagenes"]
    noise: Float[Array, "*folds metagenes"]
    log_location_weights: Float[Array, "*folds locations"] | None = None
    foreign: ForeignCells | None = None
    noise_family: NoiseFamily = dataclasses.field(default=GAUSSIAN, metadata={"static": True})

    def __repr__(self) -> str:
        if not hasattr(self.noise, "shape"):
            return "MappingParams(...)"
        weights = "uniform" if self.log_location_weights is None else "given"
        family = "" if self.noise_family == GAUSSIAN else f", {self.noise_family}"
        foreign = "" if self.foreign is None else ", foreign cells"
        return f"MappingParams({self.noise.shape[-1]} metagenes, {weights} location weights{family}{foreign})"


@pytree
class SufficientStatistics:
    """All that the M step and the gradient need of gamma (Eqs. 16-19), per metagene unless said.

    With Student t noise the sums over gamma are over gamma tau, tau the expected precision of the pair; with
    Gaussian noise tau is one. Cells from elsewhere take no part but in ``foreign_mass``.

    Attributes:
        count: scalar, sum_nk gamma_nk: how many cells are from the tissue.
        mass: scalar N, sum_nk gamma_nk tau_nk.
        cells: phi = sum_nk gamma_nk tau_nk x_n.
        cells_squared: the same of x_n^2.
        locations: chi = sum_nk gamma_nk tau_nk r_k.
        locations_squared: omega, the same of r_k^2.
        cross: psi, the same of x_n r_k.
        location_mass: (locations,) G_k = sum_n gamma_nk.
        foreign_mass: scalar, how many cells are from elsewhere.
        log_likelihood: scalar, sum over cells of ln p(x_n) (Eq. 10).
    """

    count: Float[Array, ""]
    mass: Float[Array, ""]
    cells: Float[Array, " metagenes"]
    cells_squared: Float[Array, " metagenes"]
    locations: Float[Array, " metagenes"]
    locations_squared: Float[Array, " metagenes"]
    cross: Float[Array, " metagenes"]
    location_mass: Float[Array, " locations"]
    foreign_mass: Float[Array, ""]
    log_likelihood: Float[Array, ""]

    def residual_squared(self, a: Array, b: Array) -> Float[Array, " metagenes"]:
        """Sum_nk gamma_nk tau_nk (x_n - a r_k - b)^2."""
        quadratic = self.cells_squared + a**2 * self.locations_squared + self.mass * b**2
        return quadratic - 2 * (a * self.cross + b * self.cells - a * b * self.locations)


def map_locations(
    params: MappingParams, reference: Float[Array, "locations metagenes"]
) -> Float[Array, "locations metagenes"]:
    """mu_k = a r_k + b: the reference carried into the space of cells (Eq. 20)."""
    return params.sensitivity * reference + params.background


@jax.jit
def standardise(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
) -> tuple[Float[Array, "cells metagenes"], Float[Array, "locations metagenes"]]:
    """Both sides in units of the noise, where the distance of Eq. 23 is Euclidean."""
    return (cells - params.background) / params.noise, reference * (params.sensitivity / params.noise)


def log_weights(params: MappingParams, n_locations: int) -> Float[Array, " locations"] | float:
    """Normalised ln pi; a scalar where it is uniform."""
    if params.log_location_weights is None:
        return -math.log(n_locations)
    return jax.nn.log_softmax(params.log_location_weights)


_Side = tuple[Array, Array, Array | None]


def _squared_distances(cell: _Side, location: _Side) -> tuple[Array, Array]:
    """D^2 and the logarithm of the prior of a tile; the second of each side is its |z|^2, or ln pi."""
    # On accelerators the default matmul precision (TF32, bfloat16) would cost three digits of D^2.
    product = functools.partial(jnp.matmul, precision="highest")
    (standard, squares, features), (mapped, log_prior, of_location) = cell, location
    squared = (jnp.sum(mapped**2, axis=1)[:, None] + squares) - 2 * product(mapped, standard.T)
    if features is None:
        return squared, log_prior[:, None]
    assert of_location is not None
    return squared, product(of_location, features.T) + log_prior[:, None]


def posterior_moments(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None = None,
    *,
    location_values: Float[Array, "locations v"] | None = None,
    cell_values: Float[Array, "cells u"] | None = None,
    with_precision: bool = False,
    tiles: Tiles | None = None,
) -> Moments:
    """Ln p(x_n) (cells,), sum_k gamma_nk v_k (cells, v) and sum_n gamma_nk u_n (locations, u), streamed.

    With coordinates as ``location_values`` the second is the expected position of every cell. ``gamma`` of a
    cell sums to one less its probability of being from elsewhere.

    Args:
        params: mapping.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        evidence: what else is known of each cell.
        location_values: v.
        cell_values: u.
        with_precision: gamma tau in place of gamma, as fits need it (no difference for Gaussian noise).
        tiles: tile sizes; None chooses them.
    """
    n_metagenes, family = cells.shape[1], params.noise_family
    standard, mapped = standardise(params, cells, reference)
    log_pi = jnp.asarray(log_weights(params, len(reference)), cells.dtype)
    log_scale = jnp.sum(jnp.log(params.noise))

    def logits(shared: tuple[Array, Array], _: Array) -> Logits:
        shape, precision = family.log_shape(shared[0], n_metagenes)
        return Logits(shape + shared[1], None, precision if with_precision else None)

    foreign, features, of_locations = params.foreign, None, None
    if evidence is not None:
        features, of_locations = evidence.of_cells, evidence.of_locations
    moments = softmax_moments(
        _squared_distances,
        logits,
        jnp.zeros(1, cells.dtype),
        (standard, jnp.sum(standard**2, axis=1), features),
        (mapped, jnp.broadcast_to(log_pi, len(reference)), of_locations),
        location_values=location_values,
        cell_values=cell_values,
        elsewhere=None if foreign is None else foreign.log_odds(cells, family) + log_scale,
        tiles=tiles,
    )
    log_p = moments.log_normaliser[0] - log_scale + family.log_constant(n_metagenes)
    if foreign is not None:
        log_p = log_p + jnp.log1p(-foreign.share)
    by_cell, by_location = (None if each is None else each[0] for each in moments[1:])
    return Moments(log_p, by_cell, by_location)


def foreign_probability(
    params: MappingParams, cells: Float[Array, "cells metagenes"], log_p: Float[Array, " cells"]
) -> Float[Array, " cells"]:
    """Posterior probability that a cell is from elsewhere, given its ln p(x_n)."""
    if params.foreign is None:
        return jnp.zeros_like(log_p)
    family = params.noise_family
    joint = params.foreign.log_odds(cells, family) + jnp.log1p(-params.foreign.share)
    return jnp.exp(joint + family.log_constant(cells.shape[1]) - log_p)


@functools.partial(jax.jit, static_argnames="tiles")
def expected_statistics(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    cell_weights: Float[Array, " cells"] | None = None,
    *,
    evidence: CellEvidence | None = None,
    tiles: Tiles | None = None,
) -> SufficientStatistics:
    """E step: one streamed pass over cells x locations (Eqs. 10-11, 16-19).

    Args:
        params: current parameters.
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        cell_weights: how often each cell counts; None counts each once. May be negative in gradients.
        evidence: what else is known of each cell.
        tiles: tile sizes; None chooses them.

    Note: Eqs. 17-19 of the paper print r_n where r_k is meant. With Student t noise and given or learned pi
    the mass of each location takes a second pass.
    """
    weights = jnp.ones(cells.shape[0], cells.dtype) if cell_weights is None else cell_weights
    gaussian = params.noise_family == GAUSSIAN
    whole = gaussian and params.foreign is None
    values = reference if whole else jnp.column_stack([reference, jnp.ones_like(reference[:, 0])])
    moments = posterior_moments(
        params,
        cells,
        reference,
        evidence,
        location_values=values,
        cell_values=weights[:, None],
        with_precision=True,
        tiles=tiles,
    )
    assert moments.of_locations is not None
    assert moments.of_cells is not None
    weighted_mass = location_mass = moments.of_locations[:, 0]
    if not gaussian and params.log_location_weights is not None:
        plain = posterior_moments(
            params, cells, reference, evidence, cell_values=weights[:, None], tiles=tiles
        )
        assert plain.of_locations is not None
        location_mass = plain.of_locations[:, 0]
    votes = weights if whole else weights * moments.of_cells[:, -1]
    foreign_mass = weights @ foreign_probability(params, cells, moments.log_normaliser)
    expected = moments.of_cells[:, : reference.shape[1]]
    return SufficientStatistics(
        count=weights.sum() - foreign_mass,
        mass=votes.sum(),
        cells=votes @ cells,
        cells_squared=votes @ cells**2,
        locations=weighted_mass @ reference,
        locations_squared=weighted_mass @ reference**2,
        cross=jnp.sum(weights[:, None] * cells * expected, axis=0),
        location_mass=location_mass,
        foreign_mass=foreign_mass,
        log_likelihood=weights @ moments.log_normaliser,
    )


def score(params: MappingParams, statistics: SufficientStatistics) -> MappingParams:
    """Gradient of the log-likelihood from the statistics at the same parameters (Fisher's identity).

    Of the foreign cells only the share has a gradient here; their mean and spread are held.
    """
    a, b, sigma = params.sensitivity, params.background, params.noise
    s = statistics
    toward = None
    if params.log_location_weights is not None:
        toward = s.location_mass - s.count * jax.nn.softmax(params.log_location_weights)
    foreign = params.foreign
    if foreign is not None:
        slope = s.foreign_mass / foreign.share - s.count / (1 - foreign.share)
        foreign = ForeignCells(slope, jnp.zeros_like(foreign.mean), jnp.zeros_like(foreign.spread))
    return dataclasses.replace(
        params,
        sensitivity=(s.cross - a * s.locations_squared - b * s.locations) / sigma**2,
        background=(s.cells - a * s.locations - s.mass * b) / sigma**2,
        noise=s.residual_squared(a, b) / sigma**3 - s.count / sigma,
        log_location_weights=toward,
        foreign=foreign,
    )
