"""Methods that take a binary map, written from their publications, on the same simulated cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.compare.contract import Cells, Prediction, Reference
from experiments.compare.methods import achim, distmap, seurat_v1
from experiments.zebrafish.__main__ import summarise
from experiments.zebrafish.simulation import ZebrafishCells, simulate_cells
from perler_jax.datasets import load_zebrafish_reference
from perler_jax.held_out.folds import make_folds
from perler_jax.scores.metrics import pearson_by_gene, position_error, roc_auc_by_gene


def by_stained_genes(cells: Cells, reference: Reference, genes: np.ndarray, knob: list[Any]) -> Prediction:
    """Seurat v1 that knows no gene of the cells but those with a stain."""
    found = seurat_v1.predict(cells.only(reference.genes), reference, reference.genes[:1], knob)
    assert found.mapping is not None
    weights = found.mapping()
    means = weights.T @ cells.of(genes) / (weights.sum(axis=0)[:, None] + 1e-12)
    return Prediction(means, lambda: weights)


# Name -> method and knob: each method's own default, nothing tuned, and one variant.
METHODS: dict[str, tuple[Callable[..., Prediction], list[Any]]] = {
    "Seurat v1 (own)": (seurat_v1.predict, [0.0, True]),
    "Seurat v1 (own), not refined": (seurat_v1.predict, [0.0, False]),
    "Seurat v1 (own), stained genes only": (by_stained_genes, [0.0, True]),
    "DistMap (own)": (distmap.predict, [0.0, 0.0]),
    "Achim et al. (own), level 0.05": (achim.predict, [0.0, 0.05]),
    "Achim et al. (own), level 0.9": (achim.predict, [0.0, 0.9]),
}
_FOLDS = 10


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("zebrafish", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    folder = data_folder(options.data, config["data"])
    reference = load_zebrafish_reference(folder)
    if options.fast:
        config |= {name: fast[name] for name in ("draws", "kinds")}
        config["simulation"] |= {name: fast[name] for name in ("n_cells", "n_hidden")}
        reference = reference[:, fast["genes"]].copy()
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    with timed("all", seconds):
        for kind, changed in config["kinds"].items():
            for draw in range(config["draws"]):
                seed = config["seed"] + draw
                made = simulate_cells(reference, seed=seed, **config["simulation"] | changed)
                for name, (predict, knob) in METHODS.items():
                    found = scored(predict, knob, made, reference)
                    rows.extend({"kind": kind, "seed": seed, "method": name} | row for row in found)
    table = pd.DataFrame(rows)
    report: dict[str, Any] = {
        name: summarise(table[table["method"] == name]) for name in table["method"].unique()
    }
    report = {"simulated": report, "config": config, "seconds": seconds}
    write_json(report | provenance(config["seed"], folder), options.out / "published.json")
    for name, found in report["simulated"].items():
        print(name, pd.DataFrame(found).to_string(index=False, float_format="%.3f"), sep="\n")


def scored(
    predict: Callable[..., Prediction], knob: list[Any], made: ZebrafishCells, reference: AnnData
) -> list[dict[str, Any]]:
    """Stained genes held out in ten folds, hidden genes against the truth, every cell's place."""
    counts = np.asarray(made.cells.X, np.float64)
    totals = np.maximum(counts.sum(axis=1), 1.0)
    linear = counts * (np.median(totals) / totals)[:, None]
    cells = Cells(np.log2(1.0 + linear), counts, made.cells.var_names.to_numpy(str))
    binary, names = np.asarray(reference.X, np.float64), reference.var_names.to_numpy(str)
    places = np.asarray(reference.obsm["spatial"], np.float64)

    def map_of(kept: np.ndarray) -> Reference:
        stains = binary[:, kept]
        return Reference(stains, np.log2(1.0 + stains), None, names[kept], places, stains == 1)

    everything = np.arange(len(names))
    areas = np.empty(len(names))
    for fold in make_folds(len(names), _FOLDS, seed=0):
        found = predict(cells, map_of(np.setdiff1d(everything, fold)), names[fold], knob)
        areas[fold] = roc_auc_by_gene(found.values, binary[:, fold])
    found = predict(cells, map_of(everything), np.array(made.hidden), knob)
    assert found.mapping is not None
    correlations = np.nan_to_num(pearson_by_gene(found.values, made.truth[made.hidden].to_numpy()))
    origin = made.cells.obs["true_bin"].to_numpy()
    errors = position_error(places, found.mapping() @ places, places[origin])
    parts = {"auc_held_out": areas, "r_hidden": correlations, "position_error": errors}
    return [{"metric": name, "value": float(each)} for name, values in parts.items() for each in values]


if __name__ == "__main__":
    main()
