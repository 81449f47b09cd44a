"""Every prior on cells and locations on and off, on the fly embryo, by nested held-out scores.

Noise families, foreign cells and learned location weights, each beside the paper's weighted mean.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.priors.gain import paired_gain
from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fly

CHOICES: dict[str, dict[str, Any]] = {
    "none": {},
    "Student t, df 5": {"noise": "student_t", "noise_df": 5.0},
    "Student t, df 50": {"noise": "student_t", "noise_df": 50.0},
    "foreign cells": {"foreign_cells": True},
    "location weights learned": {"learn_location_weights": True},
}


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    seconds: dict[str, float] = {}
    settings = PerlerSettings(predictor="mean", seed=config["seed"], folds=10 if options.fast else None)
    per_gene: dict[str, np.ndarray] = {}
    steps: dict[str, float] = {}
    plain: PerlerFit | None = None
    for name, changed in CHOICES.items():
        with timed(name, seconds):
            fit = fit_perler(
                fly.cells,
                fly.reference,
                settings=dataclasses.replace(settings, **changed),
                totals=fly.cells.obs["norm_total"].to_numpy(),
                progress=sys.stderr.isatty(),
            )
        per_gene[name] = fit.scores["nested"].to_numpy()
        steps[name] = int(fit.em.n_steps)
        plain = plain or fit
        print(name, per_gene[name].mean().round(4), flush=True)
    assert plain is not None
    rows = [_row(name, scores, per_gene["none"], config) for name, scores in per_gene.items()]
    frame = pd.DataFrame(per_gene, index=pd.Index(plain.landmarks, name="landmark"))
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out / "locations.csv", float_format="%.5f")
    report = {"table": rows, "em_steps": steps, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "locations.json")
    for row in rows:
        print(row)


def _row(name: str, scores: np.ndarray, plain: np.ndarray, config: dict[str, Any]) -> dict[str, Any]:
    """Mean nested score, and its gain over the plain prediction with a bootstrap interval over genes."""
    gain = paired_gain(scores, plain, seed=config["seed"], draws=config["bootstrap"])
    return {
        "prior": name,
        "nested_loo_acc": float(scores.mean()),
        **gain,
    }


if __name__ == "__main__":
    main()
