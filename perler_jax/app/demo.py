"""The whole method end to end, on an embryo whose truth is known or on the real fly.

What is printed is computed from the fit and the reconstruction that are written, and is also left as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import time
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perler_jax.app.gallery import draw_gallery
from perler_jax.app.outputs import write_h5ad
from perler_jax.app.scoreboard import (
    fit_scores,
    position_scores,
    scoreboard_text,
    stripe_scores,
    unseen_scores,
)
from perler_jax.datasets import load_fly
from perler_jax.fit import PerlerFit
from perler_jax.inputs.io import atomic_path
from perler_jax.perler import fit_perler
from perler_jax.preprocessing import log_reference
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import simulate_embryo

__all__ = ["DemoReport", "run_demo"]

# The reference's own striped genes, from which the curved axis is learnt.
_SIMULATED_AXIS = ("stripe7_1", "stripe7_2", "stripe7_3")
_FLY_AXIS = ("ftz", "eve", "h")
# Segment-polarity genes, which the fly's reference lacks, then pair-rule genes.
_FLY_STRIPED = ("en", "wg", "hh", "mid", "slp1", "odd", "prd", "run", "ftz", "eve", "h")
# Also drawn: paralogs and partners with as many stripes, a ventral and a gap gene.
_FLY_ALSO_DRAWN = ("inv", "gsb", "slp2", "twi", "Kr")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DemoReport:
    """What a demo found and left.

    Attributes:
        fit: the tuned fit.
        result: reconstruction of all genes.
        scores: the scoreboard as plain values; ``scoreboard.json`` holds the same.
        files: what was written.
    """

    fit: PerlerFit
    result: AnnData
    scores: dict[str, Any]
    files: list[Path]

    def __str__(self) -> str:
        return "\n".join([scoreboard_text(self.scores), "", "written", *(f"  {path}" for path in self.files)])

    def __repr__(self) -> str:
        return f"DemoReport({self.fit!r}, {len(self.files)} files in {self.files[0].parent})"


def run_demo(
    out: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    seed: int = 0,
    n_cells: int = 1000,
    n_locations: int = 2000,
    n_genes: int = 300,
    n_landmarks: int = 50,
    settings: PerlerSettings | None = None,
    progress: bool = True,
) -> DemoReport:
    """Fit, reconstruct all genes, score against what is known, draw, and leave the files in ``out``.

    Args:
        out: folder, made if needed.
        data: folder of the fly data set; None simulates an embryo of the sizes that follow.
        seed: of the simulation.
        n_cells: dissociated cells.
        n_locations: locations of the reference.
        n_genes: genes of the cells.
        n_landmarks: genes of the reference.
        settings: choices of the method.
        progress: show progress bars.

    Raises:
        PerlerInputError: sizes that cannot be simulated, or data that cannot be read; nothing is written.
    """
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    truth, totals = None, None
    if data is not None:
        fly = load_fly(data)
        cells, reference, totals = fly.cells, fly.reference, fly.cells.obs["norm_total"].to_numpy()
    else:
        embryo = simulate_embryo(
            seed=seed, n_cells=n_cells, n_locations=n_locations, n_genes=n_genes, n_landmarks=n_landmarks
        )
        cells, reference, truth = embryo.cells, embryo.reference, embryo.truth
    seconds["data"] = time.perf_counter() - start

    fit = fit_perler(cells, reference, settings=settings, totals=totals, progress=progress)
    seconds |= fit.seconds

    start = time.perf_counter()
    result = fit.reconstruct(progress=progress)
    seconds["reconstruction"] = time.perf_counter() - start

    start = time.perf_counter()
    predicted, coordinates = result.to_df(), np.asarray(result.obsm["spatial"], np.float64)
    in_situ = pd.DataFrame(
        log_reference(reference.to_df().to_numpy(np.float64)), reference.obs_names, reference.var_names
    )
    scores: dict[str, Any] = {"data": "fly embryo" if truth is None else "simulated embryo"}
    scores |= {"seed": None if truth is None else seed} | fit_scores(fit, cells.n_vars)
    if truth is None:
        known, axis_genes, striped = in_situ, list(_FLY_AXIS), list(_FLY_STRIPED)
        drawn, beside = [*striped, *_FLY_ALSO_DRAWN], "reference"
    else:
        scores["positions"] = position_scores(fit, cells.obs["true_location"].to_numpy(), seed)
        scores["unseen_genes"] = unseen_scores(result, truth)
        known, axis_genes, striped = (
            truth.to_df(),
            list(_SIMULATED_AXIS),
            _of_class(truth, "segment-polarity"),
        )
        drawn, beside = _simulated_choice(truth), "truth"
    if set(axis_genes) <= set(fit.landmarks):
        scores["stripes"] = stripe_scores(
            predicted,
            known,
            striped,
            coordinates,
            axis_patterns=in_situ[axis_genes].to_numpy(),
            landmarks=fit.landmarks,
        )
    compared = [gene for gene in drawn if gene in known]
    figure = draw_gallery(
        predicted,
        known,
        drawn,
        coordinates,
        title=f"{scores['data']}: {len(fit.cell_names)} cells and {len(fit.landmarks)} landmarks give "
        f"{cells.n_vars} genes",
        beside=beside,
        correlations=pd.Series(
            pearson_by_gene(predicted[compared].to_numpy(), known[compared].to_numpy()), index=compared
        ),
        landmarks=fit.landmarks,
    )
    seconds["scoring"] = time.perf_counter() - start
    scores["seconds"] = seconds | {"total": sum(seconds.values())}

    files = [Path(out) / name for name in ("result.h5ad", "fit.npz", "patterns.png", "scoreboard.json")]
    write_h5ad(result, files[0])
    fit.save(files[1])
    with atomic_path(files[2]) as temporary:
        figure.savefig(temporary, dpi=130)
    with atomic_path(files[3]) as temporary:
        temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return DemoReport(fit, result, scores, files)


def _of_class(truth: AnnData, kind: str) -> list[str]:
    return [str(name) for name in truth.var_names[truth.var["class"] == kind]]


def _simulated_choice(truth: AnnData) -> list[str]:
    """Genes to draw: the held-out stripes, then a few of other kinds, unseen by the fit if possible."""
    chosen = _of_class(truth, "segment-polarity")
    for kind, number in (("mixture", 3), ("gap", 1), ("pair-rule", 1), ("dorsoventral", 1)):
        of_kind = truth.var[truth.var["class"] == kind]
        unseen = of_kind.index[~of_kind["landmark"]]
        names = unseen if len(unseen) else of_kind.index
        chosen += [
            str(name) for name in names[len(names) // 2 :][:number]
        ]  # domains at the poles show little
    return chosen
