"""The mapping as a sparse matrix: of every cell the locations that matter, and never all at once."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Array, Float

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.inputs.beside import plain_columns, plain_index
from perler_jax.inputs.labels import positions
from perler_jax.mixture import MappingParams
from perler_jax.settings import device_precision
from perler_jax.trust.credible import count_threshold, mass_threshold
from perler_jax.trust.origins import OriginPosterior, Tempering
from perler_jax.trust.rows import Tissue, posterior_rows
from perler_jax.trust.sharpness import choose_tempering

__all__ = ["mapping"]

_MASS = 0.95


def mapping(
    fit: PerlerFit,
    cells: Any = None,
    *,
    mass: float | None = None,
    top: int | None = None,
    of: str = "posterior",
    tempering: Any = None,
    progress: bool = False,
) -> AnnData:
    """Where the cells are from, as a sparse matrix of cells x locations.

    Args:
        fit: a fit; its expression is needed where landmarks are to agree on the tempering only.
        cells: names, positions or a mask; None is every cell.
        mass: of each cell keep the most probable locations that together hold this much, e.g. 0.95 (the
            default where ``top`` is not given); ties are all kept.
        top: of each cell keep at most so many locations, the most probable ones; of ties the first. Both may
            be given: then whichever keeps less.
        of: "posterior", the probability that a cell came from a location (Eq. 11), or "weights", how much a
            cell counts at a location in the paper's weighted mean, a share of the cell (Eq. 22).
        tempering: how much to distrust the model's own posterior: None is the model's; "auto", "agreement",
            "map" or a `Tempering` as in `perler_jax.trust.cell_positions`.
        progress: show a progress bar.

    Returns:
        AnnData (cells, locations) with what ``obs`` of cells and reference say of them, in ``obs`` and
        ``var``. X: CSR; a row sums to what of the cell was kept, which is also in ``obs["kept_mass"]``;
        ``obs["n_locations"]``: how many were kept; ``obs["foreign"]``: probability that the cell is from none
        of them, where the fit knows such cells. ``varm["spatial"]``: coordinates of the locations.
        ``uns["perler"]``: provenance, and ``mapping``, what was kept of what.

    Raises:
        PerlerInputError: unknown cells, no cells, a mass or a number that makes no sense, weights that are to
            be tempered, or too few landmarks to agree.

    Only a tile of rows exists at a time: memory is that of the result, which is small where cells have a
    place. Where they have none, a mass keeps much: give ``top`` as well.
    """
    mass = _MASS if mass is None and top is None else mass
    _check(mass, top, of, tempering)
    posterior = OriginPosterior.of_fit(fit)
    rows = np.arange(len(posterior.cells)) if cells is None else positions(cells, posterior.cells, "cell")
    if not len(rows):
        raise PerlerInputError("expected at least one cell, found none: check the selection")
    used = Tempering() if tempering is None else choose_tempering(fit, tempering, progress=progress)
    most = len(posterior.locations) if top is None else min(top, len(posterior.locations))
    extra: list[np.ndarray] = []
    kept: Any = _posterior_kept
    if of == "weights":
        # The distance may depend on all cells ("pooled"), so it is made once, for all of them.
        near, far = fit.distance_space()
        extra = [np.asarray(near)[rows]]
        point = (fit.weights.alpha[0], fit.weights.beta[0])
        kept = functools.partial(_weights_kept, far=far, point=point)
    with device_precision(posterior.precision):
        limit = None if mass is None else jnp.asarray(mass, posterior.precision)
        parts = posterior.over_tiles(
            functools.partial(kept, mass=limit, top=None if top is None else most),
            rows,
            *extra,
            tempering=used,
            shrink=functools.partial(_sparse, top=most),
            progress=progress,
        )
    matrix, votes = sp.vstack(parts, format="csr"), fit.votes() if of == "weights" else None
    if votes is not None:  # what is thought to be from elsewhere counts less
        matrix.data *= np.repeat(np.asarray(votes)[rows], np.diff(matrix.indptr))
    return _annotated(fit, rows, matrix, mass, top, of, used)


def _check(mass: float | None, top: int | None, of: str, tempering: Any) -> None:
    if mass is not None and not 0 < mass < 1:
        raise PerlerInputError(
            f"expected a mass between 0 and 1 such as 0.95; found {mass}; top= keeps a fixed number"
        )
    if top is not None and top < 1:
        raise PerlerInputError(f"expected to keep at least 1 location of each cell; found top={top}")
    if of not in ("posterior", "weights"):
        raise PerlerInputError(f"expected of='posterior' or of='weights'; found {of!r}")
    if of == "weights" and tempering is not None:
        raise PerlerInputError(
            "expected weights as they were tuned; found tempering, which is for the posterior: leave it out"
        )


@functools.partial(jax.jit, static_argnames="top")
def _posterior_kept(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    tissue: Tissue,
    *,
    mass: Array | None,
    top: int | None,
) -> tuple[Array, Array]:
    rows = posterior_rows(params, cells, reference, evidence, tissue.blur)
    return rows, _least_kept(rows, mass, top)


@functools.partial(jax.jit, static_argnames="top")
def _weights_kept(
    params: MappingParams,
    _: Float[Array, "cells metagenes"],
    __: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    ___: Tissue,
    near: Float[Array, "cells coordinates"],
    *,
    far: Float[Array, "locations coordinates"],
    point: tuple[Array, Array],
    mass: Array | None,
    top: int | None,
) -> tuple[Array, Array]:
    squared = jnp.sum(near**2, axis=1)[:, None] + jnp.sum(far**2, axis=1)
    squared = jnp.maximum(squared - 2 * jnp.matmul(near, far.T, precision="highest"), 1e-12)
    logits = -point[0] * squared - point[1] * jnp.sqrt(squared)
    if params.log_location_weights is not None:
        logits = logits + params.log_location_weights
    if evidence is not None:
        logits = logits + jnp.matmul(evidence.of_cells, evidence.of_locations.T, precision="highest")
    rows = jax.nn.softmax(logits, axis=1)
    return rows, _least_kept(rows, mass, top)


def _least_kept(rows: Array, mass: Array | None, top: int | None) -> Array:
    """Of each row, the smallest value that is kept; more of its size than ``top`` allows are cut later."""
    least = jnp.zeros(len(rows), rows.dtype)
    if mass is not None:
        least = mass_threshold(rows, mass)
    if top is not None and top < rows.shape[1]:
        least = jnp.maximum(least, count_threshold(rows, top))
    return least


def _sparse(found: tuple[np.ndarray, np.ndarray], *, top: int) -> sp.csr_matrix:
    """What is kept of a tile of rows; of more ties than there is room for, the first."""
    rows, least = found
    keep = (rows >= least[:, None]) & (rows > 0)
    for row in np.flatnonzero(keep.sum(axis=1) > top):
        chosen = np.argsort(-rows[row], kind="stable")[:top]
        keep[row] = False
        keep[row, chosen] = True
    ends = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    columns = np.nonzero(keep)[1].astype(np.int32)
    return sp.csr_matrix((rows[keep], columns, ends), shape=rows.shape)


def _annotated(
    fit: PerlerFit,
    rows: np.ndarray,
    matrix: sp.csr_matrix,
    mass: float | None,
    top: int | None,
    of: str,
    tempering: Tempering,
) -> AnnData:
    index = plain_index(fit.cell_names[rows])
    beside = None if fit.cells is None else fit.cells.beside
    obs = pd.DataFrame(index=index)
    if beside is not None:
        obs = plain_columns(beside.obs.iloc[rows].set_axis(index, axis=0))
    obs["kept_mass"] = np.asarray(matrix.sum(axis=1), np.float64).ravel()
    obs["n_locations"] = np.diff(matrix.indptr)
    if fit.em.params.foreign is not None:
        obs["foreign"] = fit.foreign.to_numpy()[rows]
    places = plain_index(fit.reference.locations)
    var = pd.DataFrame(index=places)
    if fit.reference.beside is not None:
        var = plain_columns(fit.reference.beside.obs.set_axis(places, axis=0))
    found = AnnData(matrix, obs=obs, var=var)
    if fit.reference.coordinates is not None:
        found.varm["spatial"] = np.array(fit.reference.coordinates)
    limits = {"mass": mass, "top": top}
    kept = {"of": of} | {name: each for name, each in limits.items() if each is not None}
    if of == "posterior":
        kept |= {"temperature": tempering.temperature, "spread": tempering.spread}
    found.uns["perler"] = {**fit.provenance(), "mapping": kept}
    return found
