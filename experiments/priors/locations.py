"""Every prior on cells and locations on and off, on the fly embryo, by nested held-out scores.

Noise families, foreign cells, location weights (learned), and the pull of neighbours in expression at several
strengths. Neighbours are found among genes that are no landmark, so that no held-out gene has a say in them.
The last row chooses pull, regression, smoothing, alpha and beta together, again without the gene scored.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.priors.gain import paired_gain
from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fly
from perler_jax.held_out.folds import make_folds
from perler_jax.held_out.neighbours import pull_folds
from perler_jax.held_out.refinement_tuning import refined_scores
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.search import objective_terms
from perler_jax.held_out.tuning import tune_weights
from perler_jax.neighbourhood import expression_neighbours
from perler_jax.preprocessing import centre, reference_landmarks
from perler_jax.refinement import candidate_refinements

CHOICES: dict[str, dict[str, Any]] = {
    "none": {},
    "Student t, df 5": {"noise": "student_t", "noise_df": 5.0},
    "Student t, df 50": {"noise": "student_t", "noise_df": 50.0},
    "foreign cells": {"foreign_cells": True},
    "location weights learned": {"learn_location_weights": True},
}
PULLS_UM = (15.0, 30.0, 60.0, 120.0)
LEAST_WITH_REFINEMENT_UM = 60.0
MOST_VARIABLE = 2000


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    seconds: dict[str, float] = {}
    settings = PerlerSettings(seed=config["seed"], folds=10 if options.fast else None)
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
    with timed("neighbours", seconds):
        per_gene |= _pulled(plain, settings)
    rows = [_row(name, scores, per_gene["none"], config) for name, scores in per_gene.items()]
    frame = pd.DataFrame(per_gene, index=pd.Index(plain.landmarks, name="landmark"))
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out / "locations.csv", float_format="%.5f")
    report = {"table": rows, "em_steps": steps, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "locations.json")
    for row in rows:
        print(row)


def _pulled(fit: PerlerFit, settings: PerlerSettings) -> dict[str, np.ndarray]:
    """Nested scores with the pull of neighbours at each strength."""
    assert fit.cells is not None
    assert fit.held_out is not None
    y, _ = centre(np.asarray(fit.preprocessing.apply(fit.cells.dense(fit.landmarks)), np.float64))
    h = reference_landmarks(fit.reference, fit.landmarks)
    others = [gene for gene in fit.cells.genes if gene not in set(fit.landmarks)]
    expression = np.asarray(fit.preprocessing.apply(fit.cells.dense(others)), np.float32)
    variable = np.argsort(expression.var(axis=0))[::-1][:MOST_VARIABLE]
    neighbours = expression_neighbours(expression[:, variable], n_neighbours=10)
    sides = (jnp.asarray(y, settings.dtype), jnp.asarray(h, settings.dtype))
    folds = make_folds(len(fit.landmarks), settings.folds, seed=settings.seed)
    assert fit.reference.coordinates is not None
    candidates = candidate_refinements(fit.reference.coordinates)
    found, tables = {}, []
    for sd in (None, *PULLS_UM):
        pulled, centre_point = fit.held_out, (float(fit.weights.alpha[0]), float(fit.weights.beta[0]))
        if sd is not None:
            pulled = pull_folds(fit.held_out, *sides, fit.reference.coordinates, neighbours, sd)
            tuned = tune_weights(HeldOutScorer(pulled, *sides), folds)
            centre_point = (tuned.alpha, tuned.beta)
            found[f"pull of neighbours, {sd:g} um"] = tuned.nested_scores
        if sd is None or sd >= LEAST_WITH_REFINEMENT_UM:
            tables.append(
                refined_scores(pulled, centre_point, candidates, y, h, fit.reference.coordinates)[2]
            )
        print(sd, centre_point, flush=True)
    found["regression and smoothing"] = _nested(tables[0], folds)
    found["pull, regression and smoothing"] = _nested(np.concatenate(tables), folds)
    return found


def _nested(table: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Scores at the configuration (points x candidates) with the highest J without each fold."""
    flat = table.reshape(-1, table.shape[-1])
    terms = np.asarray(objective_terms(flat), np.float64)
    scores = np.empty(flat.shape[1])
    for fold in folds:
        best = (terms.sum(axis=1) - terms[:, fold].sum(axis=1)).argmax()
        scores[fold] = flat[best, fold]
    return scores


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
