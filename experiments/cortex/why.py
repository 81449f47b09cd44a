"""Why a method is or is not ahead on a map of single cells: its cheap stand-in, ridge regression, changed.

``python -m experiments.cortex.why`` fits nothing by EM. Every change is scored at held-out genes as in
experiments/compare, at its best penalty: a bound on what the change could bring, not a result of a method.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg

from experiments.common import arguments, data_folder, load_config, provenance, write_json
from experiments.compare.contract import Task
from experiments.compare.levels import without_levels
from experiments.compare.problems import make_problem
from perler_jax.inputs.io import atomic_path
from perler_jax.prediction.regression import standard_landmarks
from perler_jax.scores.metrics import pearson_by_gene

_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_AS_IT_IS = "as it is"


def main() -> None:
    """Run, print, write."""
    parser = arguments("cortex", __doc__)
    parser.prog = "python -m experiments.cortex.why"
    options = parser.parse_args()
    config = load_config(__file__)
    settings = {"seed": config["seed"], "folds": config["located"]["folds"]}
    rows, hashes = [], {}
    for name, data in config["why"].items():
        folder = data_folder(options.data and options.data / data, data)
        problem = make_problem(name, folder, settings)
        for fold in range(2 if options.fast else len(problem.folds)):
            truth = problem.truth[:, problem.folds[fold]]
            for change, penalty, values in predictions(problem.task(fold)):
                scores = np.nan_to_num(pearson_by_gene(values, truth))
                rows += [(name, change, penalty, score) for score in scores]
        hashes[name] = provenance(config["seed"], folder)["data_sha256"]
    found = pd.DataFrame(rows, columns=["dataset", "change", "penalty", "value"])
    means = found.groupby(["dataset", "change", "penalty"], sort=False)["value"].mean()
    best = means.loc[means.groupby(["dataset", "change"], sort=False).idxmax()].rename("aCC")
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out / "why.csv") as path:
        means.rename("aCC").to_csv(path, float_format="%.5g")
    report: dict[str, Any] = {"best": best.reset_index().to_dict("records"), "data": hashes}
    write_json(report | provenance(config["seed"]), options.out / "why.json")
    print(best.reset_index("penalty")["aCC"].unstack("dataset").round(3).to_string())


def predictions(task: Task) -> Iterator[tuple[str, float, np.ndarray]]:
    """Per change and penalty: predictions (locations, genes)."""
    reference, values = task.reference, task.cells.of(task.genes)
    plain = task.cells.of(reference.genes), reference.log
    levelled = without_levels(task.cells, reference)
    sides = {
        _AS_IT_IS: plain,
        "levels taken off": levelled,
        "levels of the map taken off": (plain[0], levelled[1]),
        "on and off": (plain[0] > 0, reference.linear > 0),
        "log2(1 + 8 h)": (plain[0], np.log2(1.0 + 8.0 * reference.linear)),
    }
    centred = values - values.mean(axis=0)
    for change, (of_cells, of_map) in sides.items():
        landmarks, standard = (standard_landmarks(np.asarray(side, float)) for side in (of_cells, of_map))
        cross = landmarks.T @ centred / len(landmarks)
        grams = {change: landmarks.T @ landmarks / len(landmarks)}
        if change == _AS_IT_IS:
            of_reference = standard.T @ standard / len(standard)
            grams["covariance of the map"] = of_reference
            grams["half of each covariance"] = (grams[change] + of_reference) / 2
        for label, gram in grams.items():
            for penalty in _PENALTIES:
                matrix = gram + penalty * np.eye(len(gram))
                yield label, penalty, standard @ scipy.linalg.solve(matrix, cross, assume_a="pos")


if __name__ == "__main__":
    main()
