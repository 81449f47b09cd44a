"""Chromatin accessibility at every location, carried by the mapping that RNA made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.common import arguments, load_config, provenance, timed, write_json
from experiments.modality.simulation import Accessibility, simulate_accessibility
from perler_jax import PerlerFit, SimulatedEmbryo, fit_perler, simulate_embryo
from perler_jax.inputs.io import atomic_path
from perler_jax.plotting import plot_pattern
from perler_jax.preprocessing import log_normalise, size_factors
from perler_jax.scores.metrics import pearson_by_gene
from perler_jax.weights import weighted_means


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("modality", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    if options.fast:
        config["draws"], config["embryo"] = fast["draws"], fast["embryo"]
        config["accessibility"] |= {name: fast[name] for name in ("classes", "fragments")}
    options.out.mkdir(parents=True, exist_ok=True)
    tables, seconds = [], {}
    with timed("all", seconds):
        for draw in range(config["draws"]):
            seed = config["seed"] + draw
            embryo = simulate_embryo(seed=seed, **config["embryo"])
            chromatin = simulate_accessibility(embryo, seed=seed, **config["accessibility"])
            fit = fit_perler(embryo.cells, embryo.reference, progress=sys.stderr.isatty())
            values = normalised(chromatin)
            carried = carry(fit, values)
            tables.append(scored(carried, values, chromatin, embryo, seed))
            if draw == 0:
                draw_regions(carried, chromatin, embryo, config["picture"]["regions"], options.out)
    table = pd.concat(tables, ignore_index=True)
    with atomic_path(options.out / "modality.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")
    summary = summarise(table)
    report = {"summary": summary, "config": config, "seconds": seconds} | provenance(config["seed"])
    write_json(report, options.out / "modality.json")
    print(pd.DataFrame(summary).to_string(index=False, float_format="%.3f"))


def normalised(chromatin: Accessibility) -> np.ndarray:
    """(cells, regions) log2(1 + fragments), each cell scaled to the median of fragments: its own depth."""
    totals = np.asarray(chromatin.fragments.sum(axis=1), np.float64).ravel()
    return np.asarray(log_normalise(chromatin.fragments, size_factors(totals, "median")).todense())


def carry(fit: PerlerFit, values: np.ndarray) -> np.ndarray:
    """(locations, features) weighted means of any matrix of the fitted cells (Eq. 21).

    The weights know the cells' RNA alone; what is averaged need not be RNA.
    """
    near, far = fit.distance_space()
    log_pi = fit.em.params.log_location_weights
    centre = values.mean(axis=0)  # deviations keep float32's digits for the pattern
    means = weighted_means(
        *(fit.weights, near, far, log_pi, jnp.asarray(values - centre, near.dtype)),
        evidence=fit.evidence_on_device(),
        votes=fit.votes(),
    )
    return np.asarray(means[0], np.float64) + centre


def scored(
    carried: np.ndarray, values: np.ndarray, chromatin: Accessibility, embryo: SimulatedEmbryo, seed: int
) -> pd.DataFrame:
    """Correlation with the openness, per region: carried; from the true places; from shuffled cells.

    A region that is open everywhere has no pattern to correlate with. For all regions the spread of the
    carried pattern over locations is given relative to that of the cells.
    """
    places = np.asarray(embryo.truth.obsm["spatial"])
    origin = embryo.cells.obs["true_location"].to_numpy()
    apart = np.linalg.norm(places[:, None] - places[origin], axis=2)
    oracle = 0.0
    for width in (10.0, 15.0, 22.0, 33.0):  # micrometres; each region takes its best one
        kernel = np.exp(-0.5 * (apart / width) ** 2)
        means = kernel @ values / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-12)
        oracle = np.fmax(oracle, np.nan_to_num(pearson_by_gene(means, chromatin.truth)))
    shuffled = carried[np.random.default_rng(seed).permutation(len(carried))]
    metrics = {
        "carried": pearson_by_gene(carried, chromatin.truth),
        "true places": np.where(np.ptp(chromatin.truth, axis=0) > 0, oracle, np.nan),
        "shuffled locations": pearson_by_gene(shuffled, chromatin.truth),
        "relative spread": carried.std(axis=0) / values.std(axis=0),
    }
    return pd.concat(
        [
            chromatin.regions.assign(seed=seed, metric=name, value=column).rename_axis("region").reset_index()
            for name, column in metrics.items()
        ]
    )


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean over regions, then over embryos, with the least and largest embryo."""
    of_draw = table.groupby(["class", "metric", "seed"], sort=False)["value"].mean()
    found = of_draw.groupby(["class", "metric"], sort=False).agg(["mean", "min", "max"]).dropna()
    return found.reset_index().to_dict("records")


def draw_regions(
    carried: np.ndarray, chromatin: Accessibility, embryo: SimulatedEmbryo, each: int, out: Path
) -> None:
    """Some regions of each class: truth beside what was carried, in the same row."""
    places = np.asarray(embryo.truth.obsm["spatial"])
    classes = list(dict.fromkeys(chromatin.regions["class"]))[:-1]
    figure = Figure(figsize=(5.8 * each, 1.75 * len(classes) + 0.6), layout="constrained")
    axes = figure.subplots(len(classes), 2 * each, squeeze=False)
    scores = pearson_by_gene(carried, chromatin.truth)
    for row, kind in zip(axes, classes, strict=True):
        rows = np.flatnonzero(chromatin.regions["class"] == kind)
        middle = rows[np.argsort(scores[rows])][len(rows) // 2 - each // 2 :][:each]  # as good as most
        for i, region in enumerate(middle):
            for ax, values, name in (
                (row[2 * i], chromatin.truth[:, region], kind),
                (row[2 * i + 1], carried[:, region], f"carried, r = {scores[region]:.2f}"),
            ):
                plot_pattern(values, places, ax=ax)
                ax.set_title(name, fontsize=9)
    figure.supxlabel("lateral view, anterior left; left of each pair: true openness", fontsize=9)
    with atomic_path(out / "modality.png") as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
