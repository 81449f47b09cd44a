"""Are transferred labels right, and as sure as they are right? The labels of the locations are known here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.transfer.methods import nearest_weights, tangram_weights, votes
from perler_jax import fit_perler
from perler_jax.datasets import load_osmfish
from perler_jax.labelling.pooling import calibration_error

OURS = "perler_jax"


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("transfer", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    folder = data_folder(options.data, config["data"])
    located = load_osmfish(folder)
    if options.fast:
        located, config["epochs"] = located[:: fast["every"]].copy(), fast["epochs"]
    cells, places = halves(located, config["seed"])
    seconds: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    ours: dict[str, np.ndarray] = {}
    for name, label, categories, found in predictions(cells, places, config, seconds):
        codes = codes_of(places, label, categories)
        right = (found.argmax(axis=1) == codes).astype(float)
        gain, error = paired(right, ours.setdefault(label, right))  # this package is the first
        rows.append(
            {"label": label, "method": name}
            | scored(found, codes)
            | {"minus_perler_jax": gain, "standard_error": error}
        )
    table = pd.DataFrame(rows).sort_values(["label", "right"], ascending=[True, False])
    report = {"scores": table.to_dict("records"), "config": config, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "transfer.json")
    print(table.round(3).to_string(index=False))


def halves(located: AnnData, seed: int) -> tuple[AnnData, AnnData]:
    """Cells cut in two at random, as in experiments/compare: the first half loses its places."""
    order = np.random.default_rng(seed).permutation(located.n_obs)
    lost, kept = (located[np.sort(half)].copy() for half in np.array_split(order, 2))
    return lost, kept


def predictions(
    cells: AnnData, places: AnnData, config: dict[str, Any], seconds: dict[str, float]
) -> Iterator[tuple[str, str, list[str], np.ndarray]]:
    """Per method and label: its name, the label's, the categories, (locations, categories) probabilities."""
    unlabelled = places.copy()
    unlabelled.obs = places.obs[[]]
    with timed(OURS, seconds):
        fit = fit_perler(cells, unlabelled, progress=sys.stderr.isatty())
        carried = fit.transfer(config["labels"])
    for label in config["labels"]:
        categories = list(map(str, carried.uns[f"transferred_{label}"]["categories"]))
        yield OURS, label, categories, np.asarray(carried.obsm[f"transferred_{label}"], np.float64)
    linear = [_per_median(side) for side in (cells, places)]
    near, far = (np.log2(1.0 + side) for side in linear)
    weights = {
        f"{number} nearest neighbours": nearest_weights(near, far, number) for number in config["neighbours"]
    }
    with timed("Tangram-like", seconds):
        weights["Tangram-like weights"] = tangram_weights(
            *linear,
            epochs=config["epochs"],
            learning_rate=config["learning_rate"],
            seed=config["seed"],
        )
    weights["all cells alike"] = np.ones((cells.n_obs, places.n_obs))
    for name, each in weights.items():
        for label in config["labels"]:
            categories = sorted(cells.obs[label].astype(str).unique())
            yield name, label, categories, votes(each, codes_of(cells, label, categories), len(categories))


def codes_of(table: AnnData, label: str, categories: list[str]) -> np.ndarray:
    """(rows,) index of each row's category; -1 where it is not among them."""
    return pd.Index(categories).get_indexer(table.obs[label].astype(str)).astype(int)


def scored(probabilities: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Share of locations with the right label, mean probability of the likeliest, calibration error."""
    return {
        "right": float((probabilities.argmax(axis=1) == codes).mean()),
        "sure": float(probabilities.max(axis=1).mean()),
        "calibration_error": calibration_error(probabilities, codes),
    }


def paired(right: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean difference over locations, and its standard error."""
    difference = right - other
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _per_median(table: AnnData) -> np.ndarray:
    """(rows, genes) molecules brought to the median total."""
    counts = np.asarray(table.X.toarray() if hasattr(table.X, "toarray") else table.X, np.float64)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return counts * np.median(totals) / totals


if __name__ == "__main__":
    main()
