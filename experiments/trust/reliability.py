"""Can the score of a gene be told before its reference is seen? The fly embryo, landmarks left out."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from experiments.common import arguments, data_folder, provenance, timed, write_json
from experiments.trust.unseen_genes import fly_of, whole_fit
from perler_jax.inputs.io import atomic_path
from perler_jax.plotting.trust import plot_reliability
from perler_jax.trust.reliability import gene_reliability
from perler_jax.trust.signals import SIGNALS


def main() -> None:
    """Run, print, write."""
    parser = arguments("trust", __doc__)
    parser.prog = "python -m experiments.trust.reliability"
    options = parser.parse_args()
    config = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, config["data"])
    seconds: dict[str, float] = {}
    with timed("fit", seconds):
        fit = whole_fit(fly_of(folder, config), config)
    with timed("table of all genes", seconds):
        table = gene_reliability(
            fit,
            seed=config["seed"],
            splits=config["splits"],
            level=config["level"],
            progress=sys.stderr.isatty(),
        )
    known = table[table["is_landmark"]]
    report = {
        "spearman_with_nested": agreement_of(known, config),
        "interval": interval_of(known),
        "flags": {
            "landmarks": known["flag"].value_counts().to_dict(),
            "all genes": table["flag"].value_counts().to_dict(),
        },
        "ranking": ranking_of(table),
        "genes": len(table),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    spatial = table.sort_values("spatial_rank").head(config["shown"])
    for name, frame in {"reliability_landmarks": known, "reliability_spatial": spatial}.items():
        with atomic_path(options.out / f"{name}.csv") as temporary:
            frame.to_csv(temporary, float_format="%.4f")
    draw(known, report, options.out / "reliability.png")
    report |= {"seconds": seconds, "config": config} | provenance(config["seed"], folder)
    write_json(report, options.out / "reliability.json")
    for name, row in report["spearman_with_nested"].items():
        print(f"{name:26s} {row['value']:6.3f}  ({row['low']:.3f} to {row['high']:.3f})")
    print(report["interval"], report["flags"], report["ranking"], sep="\n")


def agreement_of(known: pd.DataFrame, config: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Spearman correlation of each column with the nested score, with a bootstrap over landmarks."""
    rng = np.random.default_rng(config["seed"])
    draws = rng.integers(0, len(known), (config["bootstrap"], len(known)))
    nested, found = known["nested"].to_numpy(), {}
    for name in ("predicted_with_reference", "predicted", "agreement", "detection_rate", *SIGNALS):
        values = known[name].to_numpy(np.float64)
        drawn = [spearmanr(values[draw], nested[draw])[0] for draw in draws]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        found[name] = {"value": float(spearmanr(values, nested)[0]), "low": float(low), "high": float(high)}
    return found


def interval_of(known: pd.DataFrame) -> dict[str, float]:
    """How often the interval of a predicted score holds the nested one, and how wide it is."""
    inside = (known["nested"] >= known["predicted_lower"]) & (known["nested"] <= known["predicted_upper"])
    width = known["predicted_upper"] - known["predicted_lower"]
    return {"coverage": float(inside.mean()), "mean_width": float(width.mean())}


def ranking_of(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How far up genes known to be patterned (the landmarks) come among all, by each ranking.

    The area under the ROC curve is a lower bound of its worth: other genes have patterns, too.
    """
    patterned = table["is_landmark"].to_numpy()
    seen = (table["flag"] != "poor").to_numpy() | patterned
    found = {}
    for name in ("spatial_share", "split_half", "morans_i"):
        aucs = {}
        for which, kept in {"all genes": np.ones(len(table), bool), "not poor": seen}.items():
            ranks, on = rankdata(table[name].fillna(-1.0).to_numpy()[kept]), patterned[kept]
            wins = ranks[on].sum() - on.sum() * (on.sum() + 1) / 2
            aucs[which] = float(wins / (on.sum() * (~on).sum()))
        found[name] = aucs
    return found


def draw(known: pd.DataFrame, report: dict[str, Any], path: Path) -> None:
    """Predicted against nested scores: as of a gene without a reference, and with it."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 5.4), layout="constrained")
    titles = {"predicted": "as if it had no reference", "predicted_with_reference": "agreement with it known"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        bounds: dict[str, Any] = {}
        if name == "predicted":
            bounds = {end: known[f"predicted_{end}"].to_numpy() for end in ("lower", "upper")}
        plot_reliability(
            known[name].to_numpy(),
            known["nested"].to_numpy(),
            genes=list(known.index),
            title=f"{title}\nSpearman {report['spearman_with_nested'][name]['value']:.2f}",
            ax=ax,
            **bounds,
        )
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
