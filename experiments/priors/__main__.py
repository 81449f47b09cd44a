"""Every refinement on and off, on the fly embryo, by nested held-out scores."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.priors.gain import paired_gain
from perler_jax import PerlerSettings, fit_perler, load_fly
from perler_jax.held_out.folds import make_folds
from perler_jax.held_out.refinement_tuning import RefinementTuning, refined_scores, tune_refinement
from perler_jax.preprocessing import centre, reference_landmarks
from perler_jax.refinement import Refinement, candidate_refinements


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    seconds: dict[str, float] = {}
    fly = load_fly(folder)
    # --fast takes ten folds in place of one per landmark.
    settings = PerlerSettings(seed=config["seed"], folds=10 if options.fast else None)
    with timed("fit", seconds):
        fit = fit_perler(
            fly.cells,
            fly.reference,
            settings=settings,
            totals=fly.cells.obs["norm_total"].to_numpy(),
            progress=sys.stderr.isatty(),
        )
    assert fit.cells is not None
    assert fit.held_out is not None
    y, _ = centre(np.asarray(fit.preprocessing.apply(fit.cells.dense(fit.landmarks)), np.float64))
    h = reference_landmarks(fit.reference, fit.landmarks)
    candidates = candidate_refinements(fit.reference.coordinates)
    centre_point = (float(fit.weights.alpha[0]), float(fit.weights.beta[0]))
    with timed("refinement", seconds):
        points, _, table = refined_scores(
            fit.held_out, centre_point, candidates, y, h, fit.reference.coordinates
        )
    folds = make_folds(len(fit.landmarks), settings.folds, seed=settings.seed)

    def tuned(of: Sequence[Refinement]) -> RefinementTuning:
        at = [candidates.index(each) for each in of]
        return tune_refinement(points, list(of), table[:, at], folds)

    plain = fit.scores["nested"].to_numpy()
    subsets = {
        "smoothing": [each for each in candidates if each.ridge is None],
        "regression": [each for each in candidates if each.smoothing == 0],
        "regression and smoothing": candidates,
    }
    rows, per_gene = [{"refinement": "none", "nested_loo_acc": float(plain.mean())}], {"none": plain}
    for name, of in subsets.items():
        found = tuned(of)
        per_gene[name] = found.nested_scores
        rows.append(_row(name, found, plain, config))
    frame = pd.DataFrame(per_gene, index=pd.Index(fit.landmarks, name="landmark"))
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out / "scores.csv", float_format="%.5f")
    report: dict[str, Any] = {"nested_loo_acc": rows[-1]["nested_loo_acc"], "table": rows, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "priors.json")
    for row in rows:
        print(row)


def _row(name: str, found: RefinementTuning, plain: np.ndarray, config: dict[str, Any]) -> dict[str, Any]:
    """Mean nested score, and its gain over the plain prediction with a bootstrap interval over genes."""
    gain = paired_gain(found.nested_scores, plain, seed=config["seed"], draws=config["bootstrap"])
    return {
        "refinement": name,
        "nested_loo_acc": float(found.nested_scores.mean()),
        "loo_acc": float(found.scores.mean()),
        **gain,
        "chosen": dataclasses.asdict(found.refinement),
        "alpha_beta": list(found.weights),
    }


if __name__ == "__main__":
    main()
