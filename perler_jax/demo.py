"""The whole method end to end, on an embryo whose truth is known or on the real fly.

What is printed is computed from the fit and the reconstruction that are written, and is also left as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from perler_jax.datasets import load_fly
from perler_jax.files import save_fit
from perler_jax.fit import PerlerFit
from perler_jax.io import atomic_path
from perler_jax.metrics import pearson_by_gene, position_error
from perler_jax.perler import fit_perler
from perler_jax.plotting import plot_pattern
from perler_jax.settings import PerlerSettings
from perler_jax.simulate import simulate_embryo
from perler_jax.stripes import StripeAxis, axis_profile, count_stripes, fit_axis

__all__ = ["DemoReport", "run_demo", "write_h5ad"]

# The reference's own striped genes, from which the curved axis is learnt.
_SIMULATED_AXIS = ("stripe7_1", "stripe7_2", "stripe7_3")
_FLY_AXIS = ("ftz", "eve", "h")
_SEGMENT_POLARITY = ("en", "wg", "hh", "mid")
_FLY_STRIPED = (*_SEGMENT_POLARITY, "odd", "prd", "slp1", "run", "ftz", "eve", "h")


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
        return "\n".join([*_scoreboard(self.scores), "", "written", *(f"  {path}" for path in self.files)])

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
    seconds = {"data": time.perf_counter() - start}

    fit = fit_perler(cells, reference, settings=settings, totals=totals, progress=progress)
    seconds |= fit.seconds

    start = time.perf_counter()
    result = fit.reconstruct(progress=progress)
    seconds["reconstruction"] = time.perf_counter() - start

    start = time.perf_counter()
    means = fit.scores[["nested", "held_out", "reconstruction"]].mean()
    scores: dict[str, Any] = {
        "data": "simulated embryo" if truth is not None else "fly embryo",
        "seed": seed if truth is not None else None,
        "cells": cells.n_obs,
        "genes": cells.n_vars,
        "locations": reference.n_obs,
        "landmarks": len(fit.landmarks),
        "nested_loo_acc": float(means["nested"]),
        "loo_acc": float(means["held_out"]),
        "reconstruction_acc": float(means["reconstruction"]),
        "alpha": float(fit.weights.alpha[0]),
        "beta": float(fit.weights.beta[0]),
    }
    if truth is not None:
        scores["positions"] = _position_scores(fit, cells.obs["true_location"].to_numpy(), seed)
        scores["unseen_genes"] = _unseen_correlations(result, truth)
        striped = [str(name) for name in truth.var_names[truth.var["class"] == "segment-polarity"]]
        axis_genes, known = _SIMULATED_AXIS, truth.to_df()
        drawn = _simulated_choice(truth)
    else:
        axis_genes, striped, known = _FLY_AXIS, list(_FLY_STRIPED), reference.to_df()
        drawn = [*striped, "twi"]
    predicted = result.to_df()
    coordinates = np.asarray(result.obsm["spatial"], np.float64)
    if set(axis_genes) <= set(fit.landmarks):
        axis = fit_axis(coordinates, reference[:, list(axis_genes)].to_df().to_numpy(np.float64))
        scores["stripes"] = _stripe_table(predicted, known, striped, fit.landmarks, coordinates, axis)
    beside = "truth" if truth is not None else "reference"
    figure = _draw(predicted, known, drawn, fit.landmarks, coordinates, beside)
    seconds["scores_and_picture"] = time.perf_counter() - start
    scores["seconds"] = seconds | {"total": sum(seconds.values())}

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_h5ad(result, folder / "result.h5ad"), folder / "fit.npz", folder / "patterns.png"]
    save_fit(fit, files[1])
    with atomic_path(files[2]) as temporary:
        figure.savefig(temporary, dpi=130)
    files.append(folder / "scoreboard.json")
    with atomic_path(files[3]) as temporary:
        temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return DemoReport(fit, result, scores, files)


def write_h5ad(table: AnnData, path: Path) -> Path:
    """Write an AnnData whole or not at all, making its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        # A shallow copy: writing turns text columns of the object itself into categories.
        AnnData(
            table.X, obs=table.obs.copy(), var=table.var.copy(), uns=table.uns, obsm=dict(table.obsm)
        ).write_h5ad(temporary, compression="gzip")
    return path


def _position_scores(fit: PerlerFit, truth: np.ndarray, seed: int) -> dict[str, float]:
    """Median distance, in micrometres, from where each cell is placed to where it came from.

    Chance: for the top location, the locations of the other cells; for the mean, the middle of the map.
    """
    coordinates = np.asarray(fit.reference.coordinates, np.float64)
    gamma = fit.posterior().to_numpy()
    top = gamma.argmax(axis=1)
    others = np.random.default_rng(seed).permutation(top)
    middle = np.repeat(coordinates.mean(0, keepdims=True), len(top), axis=0)
    placed = {
        "top_location_um": top,
        "top_location_chance_um": others,
        "posterior_mean_um": gamma.astype(np.float64) @ coordinates,
        "posterior_mean_chance_um": middle,
    }
    medians = {
        name: float(np.median(position_error(coordinates, where, truth))) for name, where in placed.items()
    }
    return medians | {"spacing_um": float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))}


def _unseen_correlations(result: AnnData, truth: AnnData) -> dict[str, float]:
    """Mean correlation with the truth of the genes that are no landmarks, by kind of pattern."""
    unseen = truth.var_names[~truth.var["landmark"] & (truth.var["class"] != "unspatial")]
    values = pearson_by_gene(result[:, unseen].to_df().to_numpy(), truth[:, unseen].to_df().to_numpy())
    by_class = pd.Series(values, index=unseen).groupby(truth.var.loc[unseen, "class"].astype(str)).mean()
    return {str(kind): float(value) for kind, value in by_class.items()}


def _stripe_table(
    predicted: pd.DataFrame,
    known: pd.DataFrame,
    genes: Sequence[str],
    landmarks: np.ndarray,
    coordinates: Float[np.ndarray, "locations 3"],
    axis: StripeAxis,
) -> dict[str, dict[str, Any]]:
    """Stripes counted along the curved axis, in the reconstruction and where the answer is known."""

    def count(values: pd.Series) -> int:
        return count_stripes(*axis_profile(values.to_numpy(np.float64), coordinates, axis)).n

    table: dict[str, dict[str, Any]] = {}
    for gene in genes:
        table[gene] = {"landmark": bool(gene in landmarks), "reconstructed": count(predicted[gene])}
        if gene in known:
            table[gene]["known"] = count(known[gene])
            table[gene]["correlation"] = float(np.corrcoef(predicted[gene], known[gene])[0, 1])
    return table


def _simulated_choice(truth: AnnData) -> list[str]:
    """Genes to draw: the held-out stripes, then one of each other kind, unseen by the fit where there is one."""
    kinds = truth.var["class"].astype(str)
    chosen = [str(name) for name in truth.var_names[kinds == "segment-polarity"]]
    for kind in ("mixture", "mixture", "gap", "pair-rule", "dorsoventral"):
        left = truth.var[(kinds == kind) & ~truth.var_names.isin(chosen)].sort_values(
            "landmark", kind="stable"
        )
        chosen += [str(name) for name in left.index[:1]]
    return chosen[:8]


def _draw(
    predicted: pd.DataFrame,
    known: pd.DataFrame,
    genes: Sequence[str],
    landmarks: np.ndarray,
    coordinates: Float[np.ndarray, "locations 3"],
    beside: str,
) -> Figure:
    """Each gene as reconstructed and, where it exists, as known; two genes per row."""
    rows = -(-len(genes) // 2)
    figure = Figure(figsize=(12.0, 1.55 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, 4, squeeze=False)
    for ax in panels.flat:
        ax.set_axis_off()
    for index, gene in enumerate(genes):
        left, right = panels[index // 2, 2 * (index % 2) : 2 * (index % 2) + 2]
        held_out = "in the fit" if gene in landmarks else "not in the fit"
        plot_pattern(
            predicted[gene].to_numpy(np.float64),
            coordinates,
            ax=left,
            title=f"{gene}, reconstructed ({held_out})",
            scale_bar=100 if index == 0 else None,
        )
        if gene in known:
            plot_pattern(known[gene].to_numpy(np.float64), coordinates, ax=right, title=f"{gene}, {beside}")
        else:
            right.text(0.5, 0.5, f"{gene} is not in the {beside}", ha="center", va="center", color="0.4")
        for ax in (left, right):
            ax.title.set_fontsize(9)
    figure.supxlabel(
        "lateral view, anterior left, dorsal up; each panel from its lowest (dark) to its highest value (bright)",
        fontsize=8,
    )
    return figure


def _scoreboard(scores: dict[str, Any]) -> list[str]:
    """The scoreboard as lines of text."""
    title = f"{scores['data']}: {scores['cells']} cells x {scores['genes']} genes, {scores['locations']} locations"
    lines = [
        f"{title} x {scores['landmarks']} landmarks",
        f"tuned weights: alpha {scores['alpha']:.4g}, beta {scores['beta']:.4g}",
        "",
        "landmarks: mean correlation over locations with the reference",
        f"  {scores['nested_loo_acc']:.3f}  nested: each landmark predicted unseen by fit and tuning (the honest one)",
        f"  {scores['loo_acc']:.3f}  held out: unseen by the fit, seen by tuning",
        f"  {scores['reconstruction_acc']:.3f}  reconstruction: the landmark was in the fit",
    ]
    if "positions" in scores:
        at = scores["positions"]
        lines += ["", f"where cells came from: median error (locations lie {at['spacing_um']:.1f} um apart)"]
        for name, chance in (("top location", "of another cell"), ("posterior mean", "middle of the map")):
            key = name.replace(" ", "_")
            error, by_chance = at[f"{key}_um"], at[f"{key}_chance_um"]
            lines.append(
                f"  {error:5.1f} um = {error / at['spacing_um']:4.1f} spacings by {name:<14}  "
                f"chance ({chance}): {by_chance:.0f} um"
            )
    if scores.get("unseen_genes"):
        lines += ["", "genes that the reference never showed: mean correlation with the truth"]
        lines += [f"  {value:.3f}  {kind}" for kind, value in scores["unseen_genes"].items()]
    if "stripes" in scores:
        beside = "truth" if "positions" in scores else "reference"
        lines += ["", f"stripes counted along the curved axis   reconstructed  {beside:>9}  correlation"]
        for gene, row in scores["stripes"].items():
            seen = f"{gene} ({'in the fit' if row['landmark'] else 'not in the fit'})"
            known = f"{row['known']:>9}  {row['correlation']:>11.3f}" if "known" in row else f"{'absent':>9}"
            lines.append(f"  {seen:<38}{row['reconstructed']:>13}  {known}")
    stages = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in scores["seconds"].items())
    return [*lines, "", f"seconds: {stages}"]
