"""Are suggested genes worth measuring? Landmarks are hidden, suggested from cells alone, then looked up."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from experiments.common import arguments, data_folder, provenance, timed, write_json
from perler_jax import PerlerFit, fit_perler, load_fly
from perler_jax.datasets import FlyEmbryo
from perler_jax.inputs.io import atomic_path
from perler_jax.trust.landmark_space import space_of_fit
from perler_jax.trust.panel_criteria import RemainingEntropy
from perler_jax.trust.suggestion import suggest_landmarks


def main() -> None:
    """Run, print, write."""
    parser = arguments("trust", __doc__)
    parser.prog = "python -m experiments.trust.suggestion"
    options = parser.parse_args()
    config = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    seconds: dict[str, float] = {}
    whole = fit_landmarks(fly, fly.reference.var_names.to_numpy(), config)
    with timed("suggestions among all genes", seconds):
        suggested = suggest_landmarks(whole, config["suggested"], seed=config["seed"], progress=False)
    entropy = RemainingEntropy(space_of_fit(whole))
    with timed("hidden landmarks", seconds):
        per_gene, per_draw = zip(
            *(hide_and_look(fly, entropy, draw, config) for draw in range(config["draws"])), strict=True
        )
    genes, draws = pd.concat(per_gene), pd.DataFrame(per_draw)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, frame in {"suggestion_hidden": genes, "suggestion_draws": draws}.items():
        with atomic_path(options.out / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.5f")
    with atomic_path(options.out / "suggestion_fly.csv") as temporary:
        suggested.to_csv(temporary, float_format="%.5f")
    columns = draws.columns.drop("draw")
    report = {
        "mean": {name: float(draws[name].mean()) for name in columns},
        "standard_error": {name: float(draws[name].sem()) for name in columns},
        "draws_won_against_random": int((draws["suggested"] > draws["random"]).sum()),
        "seconds": seconds,
        "config": config,
    }
    write_json(report | provenance(config["seed"], folder), options.out / "suggestion.json")
    print(draws.to_string(index=False, float_format="%.3f"))
    print(suggested.to_string(float_format="%.3f"))


def fit_landmarks(fly: FlyEmbryo, landmarks: np.ndarray, config: dict[str, Any]) -> PerlerFit:
    """The method with some of the landmarks; nothing of the others' maps is seen."""
    return fit_perler(
        fly.cells,
        fly.reference[:, landmarks].copy(),
        totals=fly.cells.obs["norm_total"].to_numpy(),
        weights=tuple(config["weights"]),
        progress=sys.stderr.isatty(),
    )


def hide_and_look(
    fly: FlyEmbryo, entropy: RemainingEntropy, draw: int, config: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """One draw: hidden landmarks gene by gene, and what the first few suggested ones lower the entropy by.

    The truth is the entropy of places with the hidden landmark's real map (`RemainingEntropy`).
    """
    genes = entropy.space.genes
    rng = np.random.default_rng((config["seed"], draw))
    measured = np.isin(genes, rng.choice(genes, config["measured"], replace=False))
    hidden = genes[~measured]
    fit = fit_landmarks(fly, genes[measured], config)
    found = suggest_landmarks(fit, len(hidden), candidates=hidden, seed=config["seed"], progress=False)
    before = entropy.of(measured)

    def told(added: np.ndarray) -> float:
        return before - entropy.of(measured | np.isin(genes, added))

    table = found.rename_axis("gene").reset_index()
    table.insert(0, "draw", draw)
    table["true_gain"] = [told(np.array([gene])) for gene in table["gene"]]
    n = config["added"]
    assert fit.cells is not None
    variances = np.asarray(fit.preprocessing.apply(fit.cells.dense(hidden)), np.float64).var(axis=0)
    random = [told(rng.choice(hidden, n, replace=False)) for _ in range(config["random_additions"])]
    best = table.nlargest(n, "true_gain")["gene"].to_numpy()
    return table, {
        "draw": draw,
        "spearman": float(spearmanr(table["gain_alone"], table["true_gain"]).statistic),
        "suggested": told(found.index.to_numpy()[:n]),
        "random": float(np.mean(random)),
        "random_sd": float(np.std(random, ddof=1)),
        "largest variance in cells": told(hidden[np.argsort(-variances)[:n]]),
        "largest true gains": told(best),
    }


if __name__ == "__main__":
    main()
