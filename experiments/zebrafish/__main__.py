"""A binary reference of few bins: the ROC objective on the real zebrafish map, with cells of known origin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.zebrafish.simulation import ZebrafishCells, simulate_cells
from perler_jax import PerlerFit, PerlerSettings, fit_perler
from perler_jax.datasets import load_zebrafish_cells, load_zebrafish_reference
from perler_jax.inputs.data import CellExpression
from perler_jax.inputs.io import atomic_path
from perler_jax.plotting.canvas import EXPRESSION
from perler_jax.scores.metrics import pearson_by_gene, position_error, roc_auc_by_gene
from perler_jax.trust.positions import cell_positions

POSTERIOR = (0.5, 0.0)


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = arguments("zebrafish", __doc__)
    parser.add_argument(
        "--cells", type=Path, help="GSE66688_zdata.expMatrix.txt.gz: the public cells as well"
    )
    options = parser.parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    folder = data_folder(options.data, config["data"])
    reference = load_zebrafish_reference(folder)
    if options.fast:
        config |= {name: fast[name] for name in ("draws", "kinds", "folds")}
        config["simulation"] |= {name: fast[name] for name in ("n_cells", "n_hidden")}
        reference = reference[:, fast["genes"]].copy()
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    shown: tuple[PerlerFit, ZebrafishCells] | None = None
    with timed("simulated cells", seconds):
        for kind, changed in config["kinds"].items():
            for draw in range(config["draws"]):
                seed = config["seed"] + draw
                made = simulate_cells(reference, seed=seed, **config["simulation"] | changed)
                fit = _fit(made.cells, reference, config.get("folds"))
                rows.extend({"kind": kind, "seed": seed} | row for row in scored(fit, made, reference))
                if kind == config["picture"]["kind"] and draw == 0:
                    shown = fit, made
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out / "zebrafish.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")
    report: dict[str, Any] = {"simulated": summarise(table), "config": config, "seconds": seconds}
    if shown is not None:
        genes = [gene for gene in config["picture"]["genes"] if gene in reference.var_names]
        draw_genes(*shown, reference, genes, options.out / "zebrafish.png")
    if options.cells is not None:
        report["public"] = public(options.cells, reference)
    write_json(report | provenance(config["seed"], folder), options.out / "zebrafish.json")
    print(pd.DataFrame(report["simulated"]).to_string(index=False, float_format="%.3f"))
    if "public" in report:
        print(report["public"])


def scored(fit: PerlerFit, made: ZebrafishCells, reference: AnnData) -> list[dict[str, Any]]:
    """Every stained gene held out, every hidden gene against the truth, every cell's place."""
    places = np.asarray(reference.obsm["spatial"], np.float64)
    rows: list[dict[str, Any]] = []

    def add(metric: str, values: np.ndarray, names: Any) -> None:
        rows.extend(
            {"metric": metric, "name": n, "value": float(v)} for n, v in zip(names, values, strict=True)
        )

    add("auc_nested", fit.scores["nested"].to_numpy(), fit.scores.index)
    add("auc_reconstruction", fit.scores["reconstruction"].to_numpy(), fit.scores.index)
    assert fit.tuning is not None
    plain = np.flatnonzero((fit.tuning.points == POSTERIOR).all(axis=1))
    if len(plain):
        add("auc_posterior_weights", fit.tuning.table[plain[0]], fit.scores.index)
    truth = made.truth.to_numpy()
    binary = np.asarray(reference.X, np.float64)
    n_stained = binary.shape[1]
    add("auc_of_the_truth", roc_auc_by_gene(truth[:, :n_stained], binary), reference.var_names)
    patterns = np.asarray(fit.reconstruct(made.hidden).X, np.float64)
    add("r_hidden", pearson_by_gene(patterns, made.truth[made.hidden].to_numpy()), made.hidden)
    origin = made.cells.obs["true_bin"].to_numpy()
    found = cell_positions(fit, medoid=False)
    assert found.mean is not None
    error = position_error(places, found.mean, places[origin])
    chance = position_error(places, np.broadcast_to(places.mean(0), found.mean.shape), places[origin])
    add("position_error", error, fit.cell_names)
    add("position_error_of_the_centre", chance, fit.cell_names)
    return rows


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Median over genes or cells of each simulation; then mean, least and largest over draws."""
    of_draw = table.groupby(["kind", "metric", "seed"], sort=False)["value"].median()
    found = of_draw.groupby(["kind", "metric"], sort=False).agg(["mean", "min", "max"])
    return found.add_prefix("median_").reset_index().to_dict("records")


def public(path: Path, reference: AnnData) -> dict[str, float]:
    """The paper's own run: 851 cells of Satija et al. 2015 on the 64 bins."""
    published = load_zebrafish_cells(path)
    # Normalised by its authors, not logged: as they did, and the paper.
    values = np.log2(1 + np.asarray(published.X, np.float64))
    cells = CellExpression(values, published.obs_names.to_numpy(), published.var_names.to_numpy(), "log2")
    fit = _fit(cells, reference)
    return {
        "cells": published.n_obs,
        "landmarks": len(fit.landmarks),
        "auc_nested_median": float(fit.scores["nested"].median()),
        "auc_held_out_median": float(fit.scores["held_out"].median()),
        "auc_reconstruction_median": float(fit.scores["reconstruction"].median()),
    }


def draw_genes(
    fit: PerlerFit, made: ZebrafishCells, reference: AnnData, genes: list[str], path: Path
) -> None:
    """Stain, reconstruction and truth of genes on the embryo laid flat: eight by eight bins."""
    bins = reference.obs["tier_index"].to_numpy(), reference.obs["dv_index"].to_numpy()
    tables = {
        "stain": reference.to_df(),
        "reconstructed": fit.reconstruct(genes).to_df(),
        "truth of the cells": made.truth,
    }
    figure = Figure(figsize=(1.9 * len(genes), 6.0), layout="constrained")
    axes = figure.subplots(len(tables), len(genes), squeeze=False)
    for row, (name, table) in zip(axes, tables.items(), strict=True):
        for ax, gene in zip(row, genes, strict=True):
            grid = np.full((bins[0].max() + 1, bins[1].max() + 1), np.nan)
            grid[bins] = table[gene]
            ax.imshow(grid, cmap=EXPRESSION)
            ax.set(xticks=[], yticks=[], title=gene if name == "stain" else "")
        row[0].set_ylabel(name)
    figure.supxlabel(
        "ventral left, dorsal right; animal pole above, margin below; each panel from its lowest to "
        "its highest value",
        fontsize=9,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _fit(cells: Any, reference: AnnData, folds: int | None = None) -> PerlerFit:
    settings = PerlerSettings(objective="roc", folds=folds)
    return fit_perler(cells, reference, settings=settings, progress=sys.stderr.isatty())


if __name__ == "__main__":
    main()
