"""The demo's scoreboard: plain numbers from a fit and its reconstruction, and the same as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from perler_jax.fit import PerlerFit
from perler_jax.scores.metrics import pearson_by_gene, position_error
from perler_jax.scores.stripes import axis_profile, count_stripes, fit_axis

__all__ = ["fit_scores", "position_scores", "scoreboard_text", "stripe_scores", "unseen_scores"]

#: Smallest peak that counts as a stripe, as a share of the profile's range: lenient, the usual one, strict.
PROMINENCES = (0.02, 0.08, 0.2)


def fit_scores(fit: PerlerFit, n_genes: int) -> dict[str, Any]:
    """Sizes, tuned weights and mean correlations of the landmarks."""
    means = fit.scores[["nested", "held_out", "reconstruction"]].mean()
    return {
        "cells": len(fit.cell_names),
        "genes": n_genes,
        "locations": fit.reference.n_locations,
        "landmarks": len(fit.landmarks),
        "nested_loo_acc": _number(means["nested"]),
        "loo_acc": _number(means["held_out"]),
        "nested_paper_acc": _number(fit.scores["nested_paper"].mean()),
        "reconstruction_acc": _number(means["reconstruction"]),
        "predictor": fit.describe_predictor(),
        "alpha": float(fit.weights.alpha[0]),
        "beta": float(fit.weights.beta[0]),
    }


def position_scores(fit: PerlerFit, true_location: np.ndarray, seed: int) -> dict[str, float]:
    """Median distance, in micrometres, from where each cell is placed to where it came from.

    Chance: for the most probable location, that of another cell; for the mean, the middle of the map.
    """
    coordinates = np.asarray(fit.reference.coordinates, np.float64)
    gamma = fit.posterior().to_numpy()
    top = gamma.argmax(axis=1)
    placed = {
        "top_location_um": top,
        "top_location_chance_um": np.random.default_rng(seed).permutation(top),
        "posterior_mean_um": gamma.astype(np.float64) @ coordinates,
        "posterior_mean_chance_um": np.repeat(coordinates.mean(0, keepdims=True), len(top), axis=0),
    }
    medians = {
        name: float(np.median(position_error(coordinates, where, true_location)))
        for name, where in placed.items()
    }
    return medians | {"spacing_um": float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))}


def unseen_scores(result: AnnData, truth: AnnData) -> dict[str, dict[str, Any]]:
    """Correlation with the truth of the genes that are no landmarks, by kind of pattern: number and mean."""
    unseen = truth.var_names[~truth.var["landmark"] & (truth.var["class"] != "unspatial")]
    values = pearson_by_gene(result[:, unseen].to_df().to_numpy(), truth[:, unseen].to_df().to_numpy())
    by_class = pd.Series(values, index=unseen).groupby(truth.var.loc[unseen, "class"].astype(str))
    return {str(kind): {"genes": len(each), "mean": _number(each.mean())} for kind, each in by_class}


def stripe_scores(
    predicted: pd.DataFrame,
    known: pd.DataFrame,
    genes: Sequence[str],
    coordinates: np.ndarray,
    *,
    axis_patterns: np.ndarray,
    landmarks: Sequence[str] | np.ndarray,
) -> dict[str, dict[str, Any]]:
    """Stripes counted along the curved axis, in the reconstruction and where the answer is known.

    Args:
        predicted: locations x genes.
        known: what to compare with; it may lack some of the genes.
        genes: names to count.
        coordinates: (locations, 3) positions, micrometres.
        axis_patterns: (locations, n) striped patterns of the reference, from which the axis is learnt.
        landmarks: genes that were in the fit.

    Returns:
        For each gene: whether it was in the fit; the counts at each of `PROMINENCES`; the correlation.
    """
    axis = fit_axis(coordinates, axis_patterns)

    def count(values: pd.Series) -> list[int]:
        profile = axis_profile(values.to_numpy(np.float64), coordinates, axis)
        return [count_stripes(*profile, prominence=share).n for share in PROMINENCES]

    table: dict[str, dict[str, Any]] = {}
    for gene in genes:
        table[gene] = {"in_fit": gene in landmarks, "reconstructed": count(predicted[gene])}
        if gene in known:
            table[gene]["known"] = count(known[gene])
            both = predicted[[gene]].to_numpy(np.float64), known[[gene]].to_numpy(np.float64)
            table[gene]["correlation"] = _number(pearson_by_gene(*both)[0])
    return table


def scoreboard_text(scores: dict[str, Any]) -> str:
    """The scoreboard in at most 100 columns; parts whose numbers are missing are left out."""
    lines = [
        f"{scores['data']}: {scores['cells']} cells x {scores['genes']} genes, {scores['locations']} "
        f"locations x {scores['landmarks']} landmarks",
        *textwrap.wrap(f"predictor: {scores['predictor']}", 100, subsequent_indent="  "),
        "",
        "landmarks: mean correlation over locations with the reference",
        f"{_text(scores['nested_loo_acc'])}  nested: held out, predictor chosen without it (report this)",
        f"{_text(scores['nested_paper_acc'])}  the same by the paper's weighted mean",
        f"{_text(scores['loo_acc'])}  held out: unseen by the fit, seen by the choice",
        f"{_text(scores['reconstruction_acc'])}  reconstruction: seen by the fit and by the choice",
    ]
    if at := scores.get("positions"):
        lines += [
            "",
            f"cells: median distance of where they came from (locations lie {at['spacing_um']:.1f} um apart)",
            f"{at['top_location_um']:6.1f} um  from the most probable location "
            f"(by chance, from that of another cell: {at['top_location_chance_um']:.0f} um)",
            f"{at['posterior_mean_um']:6.1f} um  from the mean of the posterior "
            f"(by chance, from the middle of the map: {at['posterior_mean_chance_um']:.0f} um)",
        ]
    if unseen := scores.get("unseen_genes"):
        lines += ["", "genes that the reference never showed: mean correlation with the truth"]
        lines += [f"{_text(row['mean'])}  {kind} ({row['genes']} genes)" for kind, row in unseen.items()]
    if stripes := scores.get("stripes"):
        beside = "truth" if at else "reference"
        low, usual, high = (f"{share:.0%}" for share in PROMINENCES)
        lines += [
            "",
            f"stripes along the curved axis: peaks of {usual} of the range (in brackets: of {high} to {low})",
            f"  {'gene':<12}{'':<16}{'reconstructed':>14}{beside:>14}{'correlation':>14}",
        ]
        for gene, row in stripes.items():
            known = f"{_counts(row['known'])}{_text(row['correlation']):>14}" if "known" in row else "-"
            seen = "in the fit" if row["in_fit"] else "not in the fit"
            lines.append(f"  {gene:<12}{seen:<16}{_counts(row['reconstructed'])}{known:>14}")
    *stages, total = (f"{name.replace('_', ' ')} {value:.1f}" for name, value in scores["seconds"].items())
    seconds = f"seconds: {total} ({', '.join(stages)})"
    return "\n".join([*lines, "", *textwrap.wrap(seconds, 100, subsequent_indent="  ")])


def _counts(counts: Sequence[int]) -> str:
    low, usual, high = counts
    return f"{f'{usual} ({high}-{low})':>14}"


def _number(value: Any) -> float | None:
    """JSON has no NaN: a score that is not defined is null."""
    return float(value) if np.isfinite(value) else None


def _text(score: float | None) -> str:
    return " undefined" if score is None else f"  {score:.3f}"
