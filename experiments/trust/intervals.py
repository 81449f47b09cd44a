"""Do intervals hold the values of genes that nothing has seen? The fly embryo, ten folds of genes."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.optimize
from scipy.stats import spearmanr

from experiments.common import arguments, data_folder, provenance, timed, write_json
from experiments.trust.interval_pictures import draw_intervals
from experiments.trust.memory import compare_memory
from experiments.trust.unseen_genes import fits_without_genes, fly_of, whole_fit
from perler_jax import PerlerFit, as_reference
from perler_jax.datasets import FlyEmbryo
from perler_jax.inputs.io import atomic_path
from perler_jax.preprocessing import reference_landmarks
from perler_jax.reconstruction import zscore
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.trust.conformal import (
    Intervals,
    calibration_error,
    coverage_by_gene,
    learn_intervals,
    scale_terms,
)
from perler_jax.trust.predictor import landmark_table
from perler_jax.trust.reliability import gene_reliability
from perler_jax.trust.summary import held_out_patterns, summarise

RECOMMENDED = "constant + error + on"
# Which terms the scale has; None for the slope learns it, 1 takes the standardised prediction as it is.
SCALES: dict[str, tuple[list[int], float | None]] = {
    RECOMMENDED: ([0, 1, 2], None),
    "constant + error": ([0, 1], None),
    "error": ([1], None),
    "constant": ([0], None),
    "constant, not shrunk": ([0], 1.0),
}
CURVE = np.round(np.arange(0.01, 1.0, 0.01), 2)


def main() -> None:
    """Run, print, write."""
    parser = arguments("trust", __doc__)
    parser.prog = "python -m experiments.trust.intervals"
    options = parser.parse_args()
    config = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, config["data"])
    seconds: dict[str, float] = {}
    fly = fly_of(folder, config)
    parts, curves = [], []
    with timed("folds", seconds):
        for number, genes, fit in fits_without_genes(fly, config, progress=sys.stderr.isatty()):
            table, curve = score_fold(fly, fit, genes, config)
            parts.append(table.assign(fold=number))
            curves.append(curve)
    with timed("memory", seconds):
        memory = compare_memory(whole_fit(fly, config), fly.cells)

    table, curve = pd.concat(parts), pd.concat(curves, axis=1)
    fixed = {"dataset": config["data"], "version": version("perler_jax"), "seed": config["seed"]}
    tidy = table.assign(**fixed)[["dataset", "method", "version", "gene", "fold", "seed", "metric", "value"]]
    report = {
        "scales": summary_of(table, curve, config),
        "reliability": _reliability(table),
        "memory": memory,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, frame in {"intervals": tidy, "calibration": bands_of(curve)}.items():
        with atomic_path(options.out / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.4f")
    draw_intervals(bands_of(curve), table, RECOMMENDED, options.out / "intervals.png")
    report |= {"seconds": seconds, "config": config} | provenance(config["seed"], folder)
    write_json(report, options.out / "intervals.json")
    print(pd.DataFrame(report["scales"]).T.to_string(float_format="%.3f"))
    print(report["reliability"])
    print(memory)


def score_fold(
    fly: FlyEmbryo, fit: PerlerFit, genes: list[str], config: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-gene metrics of every scale, and coverage at every level of the curve (levels x (scale, gene))."""
    landmarks = landmark_table(fit, fit.expression())
    known = (*held_out_patterns(fit, landmarks), landmarks.reference)
    predicted = summarise(fit, genes, level=None)
    mean = np.asarray(predicted.X, np.float64)
    error = np.asarray(predicted.layers["standard_error"], np.float64)
    atlas = as_reference(fly.reference)
    truth = reference_landmarks(atlas, np.asarray(genes))
    metrics: dict[tuple[str, str], np.ndarray] = {}
    curve: dict[tuple[str, str], np.ndarray] = {}
    for name in SCALES:
        intervals = intervals_of(name, *known)
        placed, unit = intervals.place(truth, mean), mean.std(axis=0) / intervals.slope
        coverage = {level: _coverage(intervals, mean, error, placed, level) for level in CURVE}
        stacked = np.stack(list(coverage.values()))
        curve |= {(name, gene): stacked[:, at] for at, gene in enumerate(genes)}
        for level in config["levels"]:
            metrics[name, f"coverage_{round(100 * level)}"] = coverage[level]
        half = intervals.half_width(mean, error, 0.9)
        beyond = np.maximum(np.abs(placed - mean) - half, 0) / unit
        metrics[name, "width_90"] = (2 * half / unit).mean(axis=0)
        metrics[name, "interval_score_90"] = (2 * half / unit + 20 * beyond).mean(axis=0)
        metrics[name, "calibration_error"] = np.array([calibration_error(CURVE, each) for each in stacked.T])
        for part, keep in _parts(fly, genes, mean).items():
            inside = coverage_by_gene(placed, mean - half, mean + half, keep)
            metrics[name, f"coverage_90_{part}"] = inside
    metrics[RECOMMENDED, "correlation"] = pearson_by_gene(mean, truth)
    reliability = gene_reliability(fit, genes, seed=config["seed"])
    for column in ("predicted", "predicted_lower", "predicted_upper"):
        metrics[RECOMMENDED, f"reliability_{column}"] = reliability[column].to_numpy()
    rows = [
        {"method": name, "metric": metric, "gene": gene, "value": value}
        for (name, metric), values in metrics.items()
        for gene, value in zip(genes, values, strict=True)
    ]
    return pd.DataFrame(rows), pd.DataFrame(curve, index=CURVE)


def intervals_of(name: str, prediction: np.ndarray, error: np.ndarray, truth: np.ndarray) -> Intervals:
    """Intervals whose scale has some of the terms only; the recommended one is the package's own."""
    used, slope = SCALES[name]
    whole = learn_intervals(prediction, error, truth)
    if name == RECOMMENDED:
        return whole
    slope = slope or whole.slope
    size = np.abs(zscore(truth) - slope * zscore(prediction))
    terms = scale_terms(prediction, error, slope)
    chosen = np.zeros(3)
    chosen[used], _ = scipy.optimize.nnls(terms[used].reshape(len(used), -1).T, size.ravel())
    return Intervals(slope, chosen, size / np.maximum(np.einsum("i,ikg->kg", chosen, terms), 1e-9))


def _coverage(
    intervals: Intervals, mean: np.ndarray, error: np.ndarray, placed: np.ndarray, level: float
) -> np.ndarray:
    if not np.isfinite(intervals.quantile(level)):  # no finite interval promises so much from so few genes
        return np.ones(mean.shape[1])
    half = intervals.half_width(mean, error, level)
    return coverage_by_gene(placed, mean - half, mean + half)


def _parts(fly: FlyEmbryo, genes: list[str], mean: np.ndarray) -> dict[str, np.ndarray]:
    """Locations to look at apart: without zeros of the reference, where it is on or off, fifths of X."""
    values = np.asarray(fly.reference[:, genes].X)
    parts = {"nonzero": values > 0}
    if fly.binary_reference is not None:
        on = fly.binary_reference[genes].to_numpy() > 0
        parts |= {"on": on, "off": ~on}
    fifth = mean.argsort(axis=0).argsort(axis=0) * 5 // len(mean)
    return parts | {f"fifth_{number + 1}": fifth == number for number in range(5)}


def summary_of(table: pd.DataFrame, curve: pd.DataFrame, config: dict[str, Any]) -> dict[str, Any]:
    """Figures of each scale: means over genes; the calibration error is that of the mean curve."""
    means = table.groupby(["method", "metric"])["value"].mean().unstack()
    spread = table[table["metric"] == "coverage_90"].groupby("method")["value"].std()
    found = {}
    for name in SCALES:
        row = {
            metric: float(means.loc[name, metric]) for metric in means if np.isfinite(means.loc[name, metric])
        }
        row["calibration_error_by_gene"] = row.pop("calibration_error")
        pooled = curve[name].mean(axis=1).to_numpy()
        found[name] = {
            "calibration_error": calibration_error(CURVE, pooled),
            "sd_over_genes_of_coverage_90": float(spread[name]),
            **row,
        }
    return found


def bands_of(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean coverage at every level, with the middle 80 % of genes."""
    rows = []
    for name in SCALES:
        genes = curve[name]
        columns = {"coverage": genes.mean(axis=1)}
        columns |= {f"genes_{q:.0%}": genes.quantile(q, axis=1) for q in (0.1, 0.9)}
        rows.append(pd.DataFrame(columns).rename_axis("level").reset_index().assign(method=name))
    return pd.concat(rows)


def _reliability(table: pd.DataFrame) -> dict[str, float]:
    """Score that was predicted for each unseen gene against the correlation that it got."""
    wide = table[table["method"] == RECOMMENDED].pivot(index="gene", columns="metric", values="value")
    low, high = wide["reliability_predicted_lower"], wide["reliability_predicted_upper"]
    return {
        "spearman": float(spearmanr(wide["reliability_predicted"], wide["correlation"])[0]),
        "coverage_90": float(((wide["correlation"] >= low) & (wide["correlation"] <= high)).mean()),
        "mean_correlation": float(wide["correlation"].mean()),
    }


if __name__ == "__main__":
    main()
