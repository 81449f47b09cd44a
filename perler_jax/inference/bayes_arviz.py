"""The one seam to ArviZ: Bayesian fits as labelled groups, for its releases before and after 1.0.

Before 1.0 a set of groups is an ``arviz.InferenceData`` and ``loo`` finds ``loo_i`` and ``p_loo``; from 1.0
on it is an ``xarray.DataTree``, with ``elpd_i`` and ``p``. The release tells, not what the module holds: 1.3
still answers to ``arviz.InferenceData``. Nothing else in this package knows of the difference.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from perler_jax.errors import PerlerInputError
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.inference.model import MappedCells
from perler_jax.inference.posterior import MappingDraws, check_sides, pointwise_log_likelihood
from perler_jax.versions import package_version

__all__ = ["HasDraws", "LeaveOneOut", "import_arviz", "labels_of", "leave_one_out", "to_arviz"]

_Content = dict[str, tuple[tuple[str, ...], np.ndarray]]
_DIMS = ("metagene", "cell", "location", "gene")


@runtime_checkable
class HasDraws(Protocol):
    """A fit with draws of the mapping: `NutsFit` or `VariationalFit`."""

    @property
    def draws(self) -> MappingDraws:
        """Draws by chain."""


@dataclass(frozen=True)
class LeaveOneOut:
    """How well a model predicts each cell that it has not seen, in nats.

    Attributes:
        elpd: log density of each cell, as if it had been left out.
        pareto_k: Pareto shape of each cell; above 0.7 its value is not to be trusted.
        effective_parameters: how many parameters the data had to settle.
    """

    elpd: Float[np.ndarray, " cells"]
    pareto_k: Float[np.ndarray, " cells"]
    effective_parameters: float


def import_arviz() -> ModuleType:
    """ArviZ, without the announcement that 0.23 makes of its successor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def labels_of(fit: PerlerFit) -> dict[str, Sequence[str]]:
    """Names of metagenes, cells, locations and landmark genes of a fit, for `to_arviz`."""
    return {
        "metagene": [f"metagene {i + 1}" for i in range(fit.cell_metagenes.shape[1])],
        "cell": list(map(str, fit.cell_names)),
        "location": list(map(str, fit.reference.locations)),
        "gene": list(map(str, fit.landmarks)),
    }


def to_arviz(
    fit: HasDraws | MappingDraws,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    *,
    evidence: CellEvidence | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    loadings: Float[np.ndarray, "genes metagenes"] | None = None,
    n_predicted: int = 0,
    seed: int = 0,
) -> Any:
    """Draws, pointwise log-likelihood and data as ArviZ takes them.

    Args:
        fit: from `sample_nuts` or `fit_svi`; or draws, e.g. of `LaplaceFit.draw`.
        cells: x, metagenes of the cells that were fitted.
        reference: r, metagenes of the locations.
        evidence: what else is known of where each cell is from, as in the fit.
        labels: names along "metagene", "cell", "location", "gene"; positions where not given.
        loadings: weight of each landmark gene in each metagene, shown among the constant data.
        n_predicted: cells to simulate from every draw, with their origins (posterior predictive).
        seed: of the simulated cells.

    Returns:
        ``InferenceData`` or ``DataTree`` with the groups posterior, log_likelihood, observed_data,
        constant_data, and where there are any sample_stats and posterior_predictive.

    Raises:
        PerlerInputError: on labels of another length, or for an unknown dimension.
    """
    check_sides(cells, reference)
    draws = fit if isinstance(fit, MappingDraws) else fit.draws
    sizes = {"metagene": cells.shape[1], "cell": len(cells), "location": len(reference)}
    if loadings is not None:
        sizes["gene"] = len(loadings)
    coords = _coords(labels or {}, sizes)
    groups: dict[str, _Content] = {
        "posterior": _posterior(draws),
        "log_likelihood": {
            "cells": (
                ("cell",),
                np.asarray(pointwise_log_likelihood(draws, cells, reference, evidence=evidence)),
            )
        },
        "sample_stats": {name: ((), value) for name, value in getattr(fit, "statistics", {}).items()},
    }
    if n_predicted:
        groups["posterior_predictive"] = _simulate(draws, reference, n_predicted, seed)
    datasets = {
        name: _dataset(content, coords, ("chain", "draw")) for name, content in groups.items() if content
    }
    datasets["observed_data"] = _dataset({"cells": (("cell", "metagene"), np.asarray(cells))}, coords, ())
    constant: _Content = {"reference": (("location", "metagene"), np.asarray(reference))}
    if loadings is not None:
        constant["loadings"] = (("gene", "metagene"), np.asarray(loadings))
    datasets["constant_data"] = _dataset(constant, coords, ())
    return _collect(datasets)


def leave_one_out(groups: Any, *, efficiency: float | None = None) -> LeaveOneOut:
    """PSIS-LOO of one model, by ``arviz.loo``.

    Args:
        groups: from `to_arviz`; or the log-likelihood alone, (chains, draws, cells).
        efficiency: effective over actual number of draws, 1 for independent ones; None lets ArviZ estimate it
            from the posterior, or takes 1 where there is the log-likelihood alone.

    Returns:
        Log density of each cell as if it had been left out (nats), and its Pareto shape.
    """
    if isinstance(groups, np.ndarray):
        alone = xr.Dataset({"cells": (("chain", "draw", "cell"), groups)})
        groups, efficiency = _collect({"log_likelihood": alone}), 1.0 if efficiency is None else efficiency
    arviz, current = import_arviz(), _has_trees()
    scale = {} if current else {"scale": "log"}  # of deviance, where the user's rcParams say so
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter")  # they are handed out
        found = arviz.loo(groups, pointwise=True, reff=efficiency, **scale)
    each, parameters = (found.elpd_i, found.p) if current else (found.loo_i, found.p_loo)
    return LeaveOneOut(np.asarray(each), np.asarray(found.pareto_k), float(parameters))


def _has_trees() -> bool:
    """Whether the ArviZ at hand works on xarray's trees."""
    return int(version("arviz").partition(".")[0]) >= 1


def _collect(datasets: dict[str, xr.Dataset]) -> Any:
    if _has_trees():
        return xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})
    return import_arviz().InferenceData(**datasets)


def _coords(labels: Mapping[str, Sequence[str]], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    unknown = sorted(set(labels) - set(_DIMS))
    if unknown:
        raise PerlerInputError(f"expected labels of {', '.join(_DIMS)}; found {', '.join(unknown)}")
    coords = {}
    for name, size in sizes.items():
        names = np.asarray(labels.get(name, np.arange(size)))
        if names.shape != (size,):
            raise PerlerInputError(f"expected {size} labels of {name}, found shape {names.shape}")
        coords[name] = names
    return coords


def _posterior(draws: MappingDraws) -> _Content:
    found: _Content = {
        name: (("metagene",), np.asarray(getattr(draws, name)))
        for name in ("sensitivity", "background", "noise")
    }
    if draws.learned_location_weights:
        weights = jax.nn.softmax(jnp.asarray(draws.log_location_weights), axis=-1)
        found["location_weights"] = (("location",), np.asarray(weights))
    if draws.foreign is not None and np.ndim(draws.foreign.share):
        found["foreign_share"] = ((), np.asarray(draws.foreign.share))
    return found


def _dataset(content: _Content, coords: dict[str, np.ndarray], leading: tuple[str, ...]) -> xr.Dataset:
    variables = {name: ((*leading, *dims), values) for name, (dims, values) in content.items()}
    used = {dim for dims, _ in variables.values() for dim in dims}
    dataset = xr.Dataset(variables, coords={name: coords[name] for name in coords if name in used})
    for dim in leading:
        dataset = dataset.assign_coords({dim: np.arange(dataset.sizes[dim])})
    return dataset.assign_attrs(inference_library="perler_jax", inference_library_version=package_version())


def _simulate(draws: MappingDraws, reference: Array, n_cells: int, seed: int) -> _Content:
    """Cells and their origins, ``n_cells`` from each draw."""
    shape = draws.noise.shape
    keys = jax.random.split(jax.random.key(seed), shape[:2])

    def each(key: Array, index: Array) -> tuple[Array, Array]:
        return MappedCells(draws.mapping(index), reference).sample_with_origin(key, (n_cells,))

    index = jnp.arange(shape[0] * shape[1]).reshape(shape[:2])
    cells, origin = jax.jit(jax.vmap(jax.vmap(each)))(keys, index)
    return {
        "cells": (("simulated_cell", "metagene"), np.asarray(cells)),
        "origin": (("simulated_cell",), np.asarray(origin)),
    }
