"""Maps of single cells: genes that the map lacks, where cells go, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.compare.problems import make_problem
from experiments.cortex.dissociated import fit_pair, score_layers_of_cells, score_unmeasured
from experiments.cortex.located import fit_located, score_places, thinned
from experiments.cortex.pictures import draw_dissociated, draw_places
from perler_jax.datasets import load_osmfish, load_starmap_pair
from perler_jax.inputs.io import atomic_path


def main() -> None:
    """Run, print, write."""
    parser = arguments("cortex", __doc__)
    parser.add_argument("--part", choices=["dissociated", "located"], help="only this one")
    options = parser.parse_args()
    config = load_config(__file__)
    fast = config.pop("fast")
    for name, changes in fast.items():
        config[name] |= changes if options.fast else {}
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part != "located":
        dissociated(config, options)
    if options.part != "dissociated":
        located(config, options)


def dissociated(config: dict[str, Any], options: Any) -> None:
    """Tasic's cells on STARmap."""
    name = config["data"]["starmap_split"]
    folder = data_folder(options.data and options.data / name, name)
    pair = load_starmap_pair(folder)
    seconds: dict[str, float] = {}
    with timed("dissociated", seconds):
        fit = fit_pair(pair, config["dissociated"], config["seed"])
        genes, result = score_unmeasured(fit, pair, config)
        layers = score_layers_of_cells(fit, pair, config)
    unmeasured = genes[~genes["landmark"]]
    markers = unmeasured[unmeasured["is_marker"]]
    layered = genes[genes["layer_range"] >= config["dissociated"]["least_layer_range"]]
    of_map = pair.reference.obs.loc[fit.reference.locations, "layer"].value_counts(normalize=True)
    report = {
        "nested_acc": float(fit.scores["nested"].mean()),
        "unmeasured": len(unmeasured),
        "markers": len(markers),
        "median_auc_of_markers": float(markers["auc_on_map"].median()),
        "auc_by_class": markers.groupby("marks")["auc_on_map"].agg(["median", "size"]).to_dict("index"),
        "layered_genes": {
            "landmarks" if known else "unmeasured": {
                "median": float(part["layers"].median()),
                "size": len(part),
            }
            for known, part in layered.groupby("landmark")
        },
        "posterior_in_own_layer": {layer: float(layers.loc[layer, layer]) for layer in layers.index},
        "share_of_map_in_layer": {layer: float(of_map[layer]) for layer in layers.index},
        "weights": repr(fit.weights),
        "seconds": seconds,
    }
    _write(options.out, {"unmeasured_genes": genes, "layers_of_cells": layers})
    draw_dissociated(result, genes, layers, pair, config, options.out / "dissociated.png")
    made_with = {"config": config} | provenance(config["seed"], folder)
    write_json(report | made_with, options.out / "dissociated.json")
    print(pd.Series(report).to_string(), layers.round(2).to_string(), sep="\n\n")


def located(config: dict[str, Any], options: Any) -> None:
    """Halves of located cells."""
    rows, hashes = [], {}
    seconds: dict[str, float] = {}
    for name, label in config["located"]["regions"].items():
        folder = data_folder(options.data and options.data / config["data"][name], config["data"][name])
        whole = make_problem(name, folder, {"seed": config["seed"], "folds": config["located"]["folds"]})
        regions = _regions(name, folder, label, whole)
        every = config["located"]["every_cell"]
        problem = thinned(whole, every)
        with timed(name, seconds):
            fit = fit_located(problem)
            rows += list(score_places(fit, problem, config, (regions[0][::every], regions[1][::every])))
        hashes[name] = provenance(config["seed"], folder)["data_sha256"]
    table = pd.DataFrame(rows)
    _write(options.out, {"places": table.set_index("dataset")})
    draw_places(table, config["located"]["levels"], options.out / "places.png")
    wide = table.pivot_table(index=["dataset", "method"], columns="metric", values="value", sort=False)
    report = {"places": wide.reset_index().to_dict("records"), "data": hashes, "seconds": seconds}
    made_with = {"config": config} | provenance(config["seed"])
    write_json(report | made_with, options.out / "places.json")
    print(wide.round(3).T.to_string())


def _regions(name: str, folder: Any, label: str, problem: Any) -> tuple[np.ndarray, np.ndarray]:
    """Annotation of the cells that play dissociated ones, and of those of the map, by their positions."""
    table = load_osmfish(folder) if name == "osmfish_split" else load_starmap_pair(folder).reference
    places = {tuple(place): at for at, place in enumerate(table.obsm["spatial"].tolist())}
    labels = table.obs[label].astype(str).to_numpy()
    sides = problem.true_positions, problem.coordinates
    lost, kept = (labels[[places[tuple(place)] for place in side.tolist()]] for side in sides)
    return lost, kept


def _write(out: Any, tables: dict[str, pd.DataFrame]) -> None:
    for name, frame in tables.items():
        with atomic_path(out / f"{name}.csv") as path:
            frame.to_csv(path, float_format="%.5g")


if __name__ == "__main__":
    main()
