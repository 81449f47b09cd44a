"""What each kind of expert adds on the fly embryo: shares learned from fewer of them, nested scores."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.priors.gain import paired_gain
from perler_jax import PerlerSettings, load_fly
from perler_jax.held_out.expert_choice import ExpertTuning, tune_experts
from perler_jax.held_out.expert_grams import ExpertScorer
from perler_jax.prediction.experts import Expert
from perler_jax.problem import prepare_problem
from perler_jax.selection import expert_scorer, fit_folds

BASE = "weighted mean alone, its best alpha and beta"


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    seconds: dict[str, float] = {}
    fly = load_fly(folder)
    # --fast takes ten folds in place of one per landmark.
    settings = PerlerSettings(seed=config["seed"], folds=10 if options.fast else None)
    problem = prepare_problem(
        fly.cells, fly.reference, settings, totals=fly.cells.obs["norm_total"].to_numpy()
    )
    how: dict[str, Any] = {"tiles": None, "checkpoint": None, "progress": sys.stderr.isatty()}
    with timed("held-out fits", seconds):
        fits = [fit_folds(problem, levels=levels, **how) for levels in (True, False)]
    scorer = expert_scorer(problem, *fits)
    with timed("experts", seconds):
        grams = scorer.grams_of_genes()
    whole = tune_experts(grams, scorer.experts, scorer.polishes, problem.folds)
    per_gene = {BASE: whole.plain.nested_scores}
    rows = [{"experts": BASE, "nested_loo_acc": float(per_gene[BASE].mean())}]
    for name, (experts, polishes) in subsets(scorer).items():
        found = part(grams, scorer, experts, polishes, problem.folds)
        per_gene[name] = found.nested_scores
        gain = paired_gain(
            found.nested_scores, per_gene[BASE], seed=config["seed"], draws=config["bootstrap"]
        )
        chosen = {"n_experts": len(experts), "chosen": repr(found.mixture.choice)}
        rows.append({"experts": name, "nested_loo_acc": float(found.nested_scores.mean()), **gain, **chosen})
    frame = pd.DataFrame(per_gene, index=pd.Index(problem.landmarks, name="landmark"))
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out / "scores.csv", float_format="%.5f")
    report: dict[str, Any] = {"nested_loo_acc": rows[-1]["nested_loo_acc"], "table": rows, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "priors.json")
    for row in rows:
        print(row)


def subsets(scorer: ExpertScorer) -> dict[str, tuple[list[int], list[int]]]:
    """Indices of experts and of polishes, by what they are; the last is all."""
    every, polished = list(range(len(scorer.experts))), list(range(len(scorer.polishes)))

    def of(kind: Any) -> list[int]:
        return [at for at in every if kind(scorer.experts[at])]

    def plain(expert: Expert) -> bool:
        return expert.is_plain

    smoothed = [at for at in polished if not scorer.polishes[at].span]
    return {
        "weighted means mixed": (of(plain), [0]),
        "the same, smoothed": (of(plain), smoothed),
        "the same, drawn to the landmarks' maps as well": (of(plain), polished),
        "regressions alone": (of(lambda each: each.average is None), [0]),
        "all but neighbours, as they are": (of(lambda each: not each.uses_neighbours), [0]),
        "all but neighbours": (of(lambda each: not each.uses_neighbours), polished),
        "all, as they are": (every, [0]),
        "all: the default": (every, polished),
    }


def part(
    grams: np.ndarray,
    scorer: ExpertScorer,
    experts: list[int],
    polishes: list[int],
    folds: list[np.ndarray],
) -> ExpertTuning:
    """Shares of some of the experts and polishes."""
    pairs = [at * len(scorer.polishes) + polish for at in experts for polish in polishes]
    kept = np.array([*pairs, grams.shape[1] - 1])
    return tune_experts(
        grams[:, kept[:, None], kept],
        tuple(scorer.experts[at] for at in experts),
        tuple(scorer.polishes[at] for at in polishes),
        folds,
    )


if __name__ == "__main__":
    main()
