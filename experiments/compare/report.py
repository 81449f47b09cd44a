"""The table of one data set, from its tidy scores and what is known of each run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.compare.scoring import Scored, bootstrap

__all__ = ["OURS", "describe", "markdown", "summary"]

OURS = "ours"
# Methods from which all others are told apart gene by gene: column of the table -> method.
_BASES = {"difference": OURS, "from_paper": "ours_paper"}


def describe(scored: Scored, draws: int, seed: int) -> dict[str, Any]:
    """What the tidy scores do not hold: knobs, time, memory, position errors."""
    run, folds = scored.run, len(scored.chosen)
    method = run.method
    found: dict[str, Any] = {
        "label": method.label,
        "version": run.version,
        "tuned": f"{method.knob}, {len(method.candidates)} values" if method.candidates else method.tuned,
        "chosen": [method.knobs[at] for at in scored.chosen] if method.candidates else None,
        "seconds_per_fold": float(run.seconds.sum() / folds),
        "cpu_seconds_per_fold": float(run.cpu_seconds.sum() / folds),
        "peak_gb": run.peak_gb,
        "code": run.code,
    }
    for name, errors in scored.position_errors.items():
        found[f"position_error_{name}"] = float(np.median(errors))
        found[f"position_error_{name}_95"] = bootstrap(errors, draws, seed, np.median)
    return found


def summary(scores: pd.DataFrame, runs: dict[str, dict[str, Any]], draws: int, seed: int) -> pd.DataFrame:
    """One row per method, the most accurate first.

    Args:
        scores: tidy scores of one data set.
        runs: method -> what `describe` gives, or ``{"label", "skipped"}``.
        draws: of the bootstrap over genes.
        seed: of the bootstrap; every method is resampled by the same genes.
    """
    means, counts = (
        scores.pivot_table(index="method", columns="metric", values="value", aggfunc=how)
        for how in ("mean", "count")
    )
    by_gene = scores[scores["metric"] == "PCC"].pivot(index="gene", columns="method", values="value")
    ranks = _accuracy_scores(scores)
    rows = []
    for name in by_gene.columns:
        values = by_gene[name].to_numpy()
        row = {"method": name, "aCC": values.mean()}
        row["aCC_low"], row["aCC_high"] = bootstrap(values, draws, seed)
        for column, base in _BASES.items():
            if name != base and base in by_gene:
                gain = values - by_gene[base].to_numpy()
                row[column] = gain.mean()
                row[f"{column}_low"], row[f"{column}_high"] = bootstrap(gain, draws, seed)
                if base == OURS:
                    row["genes_better"] = int((gain > 0).sum())
        for metric in means.columns.drop("PCC"):  # a mean over some genes only is no score of the method
            row[metric] = means.loc[name, metric] if counts.loc[name, metric] == len(values) else np.nan
        row["AS"] = ranks.get(name)
        known = runs[name]
        row |= {key: value for key, value in known.items() if np.isscalar(value)}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("aCC", ascending=False, ignore_index=True)


def _accuracy_scores(scores: pd.DataFrame) -> dict[str, float]:
    """Accuracy score AS of Li et al. 2022: mean over four metrics of a method's rank, best 1, worst 1/n.

    Only methods for which all four are defined at every gene take part.
    """
    higher = {"PCC": True, "SSIM": True, "RMSE": False, "JS": False}
    wide = scores[scores["metric"].isin(list(higher))].pivot_table(
        index="method", columns="metric", values="value", aggfunc=["mean", "count"]
    )
    complete = (wide["count"] == wide["count"]["PCC"].max()).all(axis=1)
    means = wide["mean"][complete]
    ranks = pd.DataFrame({name: means[name].rank(ascending=up) for name, up in higher.items()})
    return (ranks / max(len(means), 1)).mean(axis=1).to_dict()


def markdown(table: pd.DataFrame, runs: dict[str, dict[str, Any]], unit: str) -> str:
    """The table for people, and below it who is missing and why."""
    columns = ["method", "aCC (95 %)", "minus ours (95 %)", "minus paper (95 %)"]
    columns += ["SSIM", "RMSE", "JS", "AS", "Moran diff."]
    placed = "position_error_mode" in table
    if placed:
        columns += [f"cell off by, mode ({unit})", f"mean ({unit})"]
    sure = "coverage_90" in table
    if sure:
        columns += ["90 % interval holds", "its width (SD)"]
    columns += ["CPU s per fold", "peak GB", "tuned", "version"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for _, row in table.iterrows():
        cells = [
            row["label"],
            f"{row['aCC']:.3f} ({row['aCC_low']:.3f}-{row['aCC_high']:.3f})",
            *(_interval(row, column) for column in _BASES),
            *(_number(row.get(name), ".3f") for name in ("SSIM", "RMSE", "JS", "AS", "Moran's I difference")),
        ]
        if placed:
            cells += [_number(row.get(f"position_error_{name}"), ".0f") for name in ("mode", "mean")]
        if sure:
            cells += [_number(row.get("coverage_90"), ".3f"), _number(row.get("width_90"), ".2f")]
        cells += [_number(row["cpu_seconds_per_fold"], ".3g"), _number(row["peak_gb"], ".2f")]
        cells += [row["tuned"], row["version"]]
        lines.append("| " + " | ".join(cells) + " |")
    skipped = [f"- {each['label']}: {each['skipped']}" for each in runs.values() if "skipped" in each]
    return "\n".join([*lines, *(["", "Not in the table:", "", *skipped] if skipped else [])]) + "\n"


def _number(value: Any, form: str) -> str:
    return "" if value is None or pd.isna(value) else format(float(value), form)


def _interval(row: pd.Series, name: str) -> str:
    if name not in row or pd.isna(row[name]):
        return ""
    return f"{row[name]:+.3f} ({row[name + '_low']:+.3f} to {row[name + '_high']:+.3f})"
