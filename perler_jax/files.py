"""A fit as a file, written and read back, and its predictions as a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from perler_jax.em_loop import EMResult
from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.fitted_predictor import LevelledMapping
from perler_jax.gene_patterns import check_one_process
from perler_jax.given import GivenCells, same_cells
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.tuning import Tuning
from perler_jax.inputs.alignment import BatchAlignment
from perler_jax.inputs.archive import rebuild, write_archive
from perler_jax.inputs.beside import Beside
from perler_jax.inputs.data import SpatialReference
from perler_jax.inputs.names import GeneNames
from perler_jax.inputs.scale_reading import Reading
from perler_jax.metagenes import MetageneMap
from perler_jax.mixture import MappingParams
from perler_jax.noise import ForeignCells, Gaussian, StudentT
from perler_jax.prediction.choice import ExpertMixture
from perler_jax.preprocessing import Preprocessing
from perler_jax.saved_fit import FORMAT_VERSION, KIND, landmark_scores, read_fit_archive
from perler_jax.scale.checkpoint import fingerprint
from perler_jax.scale.store import check_target
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.versions import package_version
from perler_jax.weights import WeightParams

__all__ = ["load_fit", "reconstruct_to", "save_fit"]

_HOST: dict[str, type] = {
    "settings": PerlerSettings,
    "reference": SpatialReference,
    "reference/names": GeneNames,
    "preprocessing": Preprocessing,
    "preprocessing/alignment": BatchAlignment,
    "metagenes": MetageneMap,
    "tuning": Tuning,
    "evidence": CellEvidence,
    "mixture": ExpertMixture,
    "given": GivenCells,
    "reference/reading": Reading,
    "reference/beside": Beside,
}
_DEVICE: dict[str, Any] = {
    "em": EMResult,
    "em/params": MappingParams,
    "em/params/foreign": ForeignCells,
    "em/params/noise_family": (Gaussian, StudentT),
    "weights": WeightParams,
    "held_out": HeldOutFits,
    "held_out/params": MappingParams,
    "held_out/params/foreign": ForeignCells,
    "held_out/params/noise_family": (Gaussian, StudentT),
    "levelled": LevelledMapping,
    "levelled/metagenes": MetageneMap,
    "levelled/params": MappingParams,
    "levelled/params/foreign": ForeignCells,
    "levelled/params/noise_family": (Gaussian, StudentT),
    "levelled_held_out": HeldOutFits,
    "levelled_held_out/params": MappingParams,
    "levelled_held_out/params/foreign": ForeignCells,
    "levelled_held_out/params/noise_family": (Gaussian, StudentT),
}


def _is_on_device(name: str) -> bool:
    return name.startswith(tuple(_DEVICE)) and not name.startswith("levelled/metagenes/")


def save_fit(fit: PerlerFit, path: Any) -> None:
    """Write a fit to one .npz file, whole or not at all; `load_fit` reads it.

    The expression of the cells is not in it: it is the user's large file, and is given again to
    `reconstruct`.

    Args:
        fit: a fit; as a method, ``fit.save(path)``.
        path: of the file, ends in .npz.

    Raises:
        PerlerFileError: on a path that cannot be written to.
    """
    content = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    del content["cells"]
    scores = {f"scores/{name}": column.to_numpy() for name, column in content.pop("scores").items()}
    content |= scores | {"written_by": package_version()}
    write_archive(path, content, kind=KIND, version=FORMAT_VERSION)


def reconstruct_to(
    fit: PerlerFit,
    path: Any,
    genes: Sequence[str] | None = None,
    *,
    standardise: bool = False,
    cells: Any = None,
    progress: bool = False,
) -> Path:
    """What `PerlerFit.reconstruct` returns, written to a file block by block: for results larger than memory.

    Finished blocks wait in the folder ``PATH.unfinished``; called again after a kill, it goes on from
    there. What stands at ``path`` is always complete.

    Args:
        fit: a fit; as a method, ``fit.reconstruct_to(path)``.
        path: ends in .h5ad or .zarr.
        genes: names; None is every gene of the cells.
        standardise: z-score each gene over locations.
        cells: expression of the fitted cells, in memory or backed by a file.
        progress: show a progress bar.

    Returns:
        The path. In the file: (locations, genes), log2(1 + x) of the normalised cells, or z-scores.

    Raises:
        PerlerInputError: unknown genes, no expression to average, or several processes.
        PerlerFileError: on a path that cannot be written to.
    """
    check_target(path)
    check_one_process()
    patterns = fit._patterns(genes, standardise, cells)
    params = (fit.em.params.sensitivity, fit.em.params.background, fit.em.params.noise)
    sides = (fit.cell_metagenes, fit.reference_metagenes, fit.weights.alpha, fit.weights.beta)
    choices = (fit.mixture, fit.settings, patterns.genes, patterns.block_size, standardise)
    mark = fingerprint(*params, *sides, *choices)
    return patterns.write(path, fit._annotate(None, patterns), mark=mark, progress=progress)


def load_fit(path: Any, *, cells: Any = None) -> PerlerFit:
    """Read a fit that `PerlerFit.save` wrote.

    Args:
        path: the .npz file.
        cells: expression of the fitted cells, to reconstruct with; may also be given to `reconstruct`.

    Raises:
        PerlerFileError: if the file is missing, truncated, changed, of another kind or of a newer format.
        PerlerInputError: if the cells are others, or their expression is not the one that was fitted.
    """
    plain, arrays = read_fit_archive(path)
    settings = rebuild("settings", _HOST, plain, arrays)
    with device_precision(settings.dtype):
        on_device: dict[str, Any] = {
            name: jnp.asarray(array) if _is_on_device(name) else array for name, array in arrays.items()
        }
        parts = {name: rebuild(name, _DEVICE, plain, on_device) for name in _DEVICE if "/" not in name}
    parts |= {name: rebuild(name, _HOST, plain, arrays) for name in _HOST if "/" not in name}
    how = (parts["preprocessing"], parts["given"])
    return PerlerFit(
        cells=None if cells is None else same_cells(cells, arrays["cell_names"], *how),
        cell_names=arrays["cell_names"],
        landmarks=arrays["landmarks"],
        cell_metagenes=arrays["cell_metagenes"],
        reference_metagenes=arrays["reference_metagenes"],
        scores=landmark_scores(arrays),
        seconds=plain["seconds"],
        covariance=arrays.get("covariance"),
        neighbours=arrays.get("neighbours"),
        **parts,
    )
