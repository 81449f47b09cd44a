"""What a file of a fit says of it, read without JAX: enough to describe the fit, not to compute with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from perler_jax.errors import PerlerFileError
from perler_jax.inputs.alignment import BatchAlignment
from perler_jax.inputs.archive import read_archive, rebuild
from perler_jax.inputs.beside import Beside
from perler_jax.inputs.data import SpatialReference
from perler_jax.inputs.names import GeneNames
from perler_jax.inputs.scale_reading import Reading
from perler_jax.prediction.choice import ExpertMixture
from perler_jax.preprocessing import Preprocessing
from perler_jax.settings import PerlerSettings

__all__ = ["FORMAT_VERSION", "KIND", "SavedFit", "landmark_scores", "read_fit_archive", "read_saved_fit"]

KIND, FORMAT_VERSION = "perler_jax fit", 3


@dataclasses.dataclass(frozen=True, eq=False)
class SavedFit:
    """The parts of a `PerlerFit` that its description needs.

    Attributes:
        written_by: version of perler_jax; None in files of before it was kept.
        settings: the choices made.
        reference: labelled reference map.
        preprocessing: what was done to the cells.
        cell_names: (cells,) names.
        landmarks: (landmarks,) names.
        n_metagenes: dimensions of the shared space.
        em_steps: M steps made.
        em_converged: whether the stop rule ended EM.
        log_likelihood: at the fitted parameters, in nats.
        alpha: of the weights in use.
        beta: of the weights in use.
        mixture: experts with their shares; None: the plain weighted mean predicts.
        tuned: whether the weights were tuned on held-out landmarks; else they were given.
        scores: one row per landmark, as in `PerlerFit`.
        seconds: wall time of each stage.
    """

    written_by: str | None
    settings: PerlerSettings
    reference: SpatialReference
    preprocessing: Preprocessing
    cell_names: Shaped[np.ndarray, " cells"]
    landmarks: Shaped[np.ndarray, " landmarks"]
    n_metagenes: int
    em_steps: int
    em_converged: bool
    log_likelihood: float
    alpha: float
    beta: float
    mixture: ExpertMixture | None
    tuned: bool
    scores: pd.DataFrame
    seconds: dict[str, float]


def read_saved_fit(path: Any) -> SavedFit:
    """Read what describes a fit; all of the file is verified by its checksums.

    Raises:
        PerlerFileError: if the file is missing, truncated, changed, of another kind or of a newer format.
    """
    plain, arrays = read_fit_archive(path)
    wanted = {"settings": PerlerSettings, "reference": SpatialReference, "preprocessing": Preprocessing}
    kinds = {**wanted, "reference/names": GeneNames, "reference/reading": Reading, "reference/beside": Beside}
    kinds |= {"preprocessing/alignment": BatchAlignment}
    steps = int(arrays["em/n_steps"])
    return SavedFit(
        written_by=plain.get("written_by"),
        cell_names=arrays["cell_names"],
        landmarks=arrays["landmarks"],
        n_metagenes=arrays["cell_metagenes"].shape[1],
        em_steps=steps,
        em_converged=bool(arrays["em/converged"]),
        log_likelihood=float(arrays["em/log_likelihoods"][steps]),
        alpha=float(arrays["weights/alpha"][0]),
        beta=float(arrays["weights/beta"][0]),
        mixture=rebuild("mixture", {"mixture": ExpertMixture}, plain, arrays),
        tuned="tuning" in plain,
        scores=landmark_scores(arrays),
        seconds=plain["seconds"],
        **{name: rebuild(name, kinds, plain, arrays) for name in wanted},
    )


def read_fit_archive(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Plain values and verified arrays of a saved fit by flat name, as today's format calls them.

    Raises:
        PerlerFileError: if the file is missing, truncated, changed, of another kind or of a newer format.
    """
    plain, arrays = read_archive(path, kind=KIND, version=FORMAT_VERSION)
    if "preprocessing/scale" not in plain:  # written by format 1
        plain |= _of_format_1(plain)
    if "refinement" in plain:
        raise PerlerFileError(
            f"expected a fit by experts or by the weighted mean; found one with refine=True in {path}, which "
            "experts have replaced: call fit_perler again"
        )
    if "settings/predictor" not in plain:  # written by format 2: the weighted mean was all there was
        plain |= {"settings/predictor": "mean"}
    return plain, arrays


def landmark_scores(arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    """The scores of a saved fit, one row per landmark."""
    scores = {name.removeprefix("scores/"): arrays[name] for name in arrays if name.startswith("scores/")}
    return pd.DataFrame(scores, index=pd.Index(arrays["landmarks"], name="landmark"))


def _of_format_1(plain: dict[str, Any]) -> dict[str, Any]:
    """Scales as they are called today."""
    of_cells = "counts" if plain.get("preprocessing/log_base") else "log2"
    of_reference = "log2" if plain.get("reference/scale") == "log" else "linear"
    return {"preprocessing/scale": of_cells, "reference/scale": of_reference}
