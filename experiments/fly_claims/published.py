"""Origins and stripes by Seurat v1 and Achim et al., written from their publications."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from experiments.common import arguments, data_folder, load_config, provenance, write_json
from experiments.compare.contract import Cells, Reference
from experiments.compare.methods import achim, seurat_v1
from experiments.compare.problems import Problem, make_problem
from experiments.trust.dream_folds import DreamEmbryo, load_dream_embryo
from perler_jax.scores.dream import dream_scores
from perler_jax.scores.stripes import axis_profile, count_stripes, fit_axis
from perler_jax.trust.ranked_locations import LocationRanking

_DREAM_QUANTILE = 0.23  # at which DistMap binarised for the challenge, as in experiments/trust/panel.toml
_RANKS = 10

# (locations, genes) predictions, (cells, locations) scores, and whether these are probabilities.
Placed = tuple[np.ndarray, np.ndarray, bool]


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("fly_claims", __doc__).parse_args(argv)
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    problem = make_problem("fly", folder, {"seed": config["seed"], "folds": 10})
    embryo = load_dream_embryo(folder, quantile=_DREAM_QUANTILE, n_ranks=_RANKS)
    reference = whole_reference(problem)
    ranking = LocationRanking(reference.coordinates, n=_RANKS)
    summary: dict[str, Any] = {}
    for name, method in METHODS.items():
        values, scores, is_posterior = method(
            problem.cells, reference, np.array(config["stripes"]["striped"])
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :_RANKS]
        summary[name] = {
            "ten_best_median_um": ten_best_apart(best, reference.coordinates),
            # Submitted as this package submits its own; a score that is no probability, as DistMap's is.
            "dream": dream(ranking(scores) if is_posterior else best, embryo),
            "stripes": stripes(values, reference, config["stripes"]),
        }
        print(name, summary[name], flush=True)
    write_json(
        {"summary": summary} | provenance(config["seed"], folder),
        options.out / "published.json",
    )


def whole_reference(problem: Problem) -> Reference:
    """The map with all its landmarks, on and off as published."""
    log = np.log2(1.0 + problem.values)
    return Reference(problem.values, log, None, problem.genes, problem.coordinates, problem.binary)


def by_seurat(cells: Cells, reference: Reference, genes: np.ndarray, *, refined: bool = True) -> Placed:
    """Prediction and posterior."""
    found = seurat_v1.predict(cells, reference, genes, [0.0, refined])
    assert found.mapping is not None
    return found.values, found.mapping(), True


def by_achim(cells: Cells, reference: Reference, genes: np.ndarray) -> Placed:
    """Prediction and scores."""
    values = achim.predict(cells, reference, genes, [0.0, 0.9]).values
    assert reference.binary is not None
    specific = achim.specificity(np.exp2(cells.of(reference.genes)) - 1.0)
    return values, achim.correspondence(specific, reference.binary), False


METHODS: dict[str, Callable[..., Placed]] = {
    "Seurat v1 (own)": by_seurat,
    "Seurat v1 (own), not refined": partial(by_seurat, refined=False),
    "Achim et al. (own)": by_achim,
}


def ten_best_apart(best: np.ndarray, coordinates: np.ndarray) -> float:
    """Median over cells of the mean distance of the other best locations from the first."""
    apart = np.linalg.norm(coordinates[best] - coordinates[best[:, :1]], axis=2)
    return float(np.median(apart[:, 1:].mean(axis=1)))


def dream(best: np.ndarray, embryo: DreamEmbryo) -> dict[str, float]:
    """Scores of the DREAM challenge with all landmarks, mean over the folds of cells.

    Neither method learns from other cells' places, so that all cells may be placed at once.
    """
    found = []
    for fold in np.unique(embryo.fold_of):
        rows = np.flatnonzero(embryo.fold_of == fold)
        scores = dream_scores(embryo.standard.take(rows), embryo.genes, best[rows])
        found.append([scores.s1, scores.s2, scores.s3])
    return dict(zip(("s1", "s2", "s3"), np.mean(found, axis=0).tolist(), strict=True))


def stripes(values: np.ndarray, reference: Reference, config: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Number of stripes of each gene at each prominence, as experiments/fly counts them."""
    of_axis = [list(reference.genes).index(gene) for gene in config["axis"]]
    axis = fit_axis(reference.coordinates, reference.linear[:, of_axis])
    return {
        gene: {
            f"{each:g}": count_stripes(*axis_profile(column, reference.coordinates, axis), prominence=each).n
            for each in config["prominences"]
        }
        for gene, column in zip(config["striped"], values.T, strict=True)
    }


if __name__ == "__main__":
    main()
