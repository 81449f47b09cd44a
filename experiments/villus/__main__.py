"""Where the tissue is a few zones: profiles of unseen genes, and the zone of each cell."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.villus.halves import Halves, split_halves
from experiments.villus.pictures import draw_profiles, draw_zones
from experiments.villus.scoring import FAMILIES, score_cells, score_genes
from perler_jax import PerlerFit, fit_perler
from perler_jax.datasets import load_villus
from perler_jax.inputs.io import atomic_path
from perler_jax.weights import WeightParams

AREAS, UNTUNED, UNIFORM = "zone areas", "zone areas, posterior as weights", "uniform"
CENTROID, ORACLE = "nearest zone", "true zones"


def main() -> None:
    """Run, print, write."""
    options = arguments("villus", __doc__).parse_args()
    config = load_config(__file__)
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, "intestine_villus")
    cells = load_villus(folder)
    seconds: dict[str, float] = {}
    genes, placed, profiles = [], [], pd.DataFrame()
    with timed("all splits", seconds):
        for split in tqdm(range(config["splits"]), unit="split", disable=not sys.stderr.isatty()):
            halves = split_halves(cells, config, config["seed"] + split)
            for name, predicted, posterior, nested in predictions(halves):
                genes.append(score_genes(halves, predicted, config).assign(split=split, method=name))
                placed.append(score_cells(halves, posterior).assign(split=split, method=name))
                if nested is not None:
                    genes[-1]["nested"] = nested
                if split == 0 and name == AREAS:
                    profiles = predicted
    of_genes, of_cells = pd.concat(genes), pd.concat(placed)
    table = summarise(of_genes, of_cells)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, frame in {"genes.csv.gz": of_genes, "cells.csv.gz": of_cells, "summary.csv": table}.items():
        # The same numbers, the same file: no time of writing in it.
        packed = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
        with atomic_path(options.out / name) as path:
            frame.to_csv(path, float_format="%.5g", compression=packed)
    first = split_halves(cells, config, config["seed"])
    draw_profiles(first, profiles, config["markers"], options.out / "profiles.png")
    draw_zones(of_cells.query("method == @AREAS"), of_genes, options.out / "zones.png")
    report: dict[str, Any] = {
        "summary": table.reset_index().to_dict("records"),
        "markers": of_genes.query("method == @AREAS and marker")["correlation"]
        .groupby("gene")
        .mean()
        .to_dict(),
        "config": config,
        "seconds": seconds,
    }
    write_json(report | provenance(config["seed"], folder), options.out / "villus.json")
    print(table.round(3).T.to_string())


def predictions(halves: Halves) -> Iterator[tuple[str, pd.DataFrame, np.ndarray, pd.Series | None]]:
    """Per method: name, profiles (genes x zones), posterior (cells x zones), nested scores.

    The map holds the landmarks only: no other gene's profile is within a method's reach.
    """
    genes, zones = list(halves.map_profiles.index), range(len(halves.areas))

    def profiles(fit: PerlerFit) -> pd.DataFrame:
        return fit.reconstruct(genes).to_df().T.set_axis(zones, axis=1)

    for name, areas in {AREAS: halves.areas, UNIFORM: None}.items():
        fit = fit_perler(halves.cells, halves.reference, location_weights=areas, progress=False)
        posterior = fit.posterior().to_numpy()
        yield name, profiles(fit), posterior, fit.scores["nested"]
        if name == AREAS:
            untuned = dataclasses.replace(fit, weights=WeightParams.single(0.5, 0.0))
            yield UNTUNED, profiles(untuned), posterior, None
    centroid = _nearest(halves)
    yield CENTROID, halves.means_by(centroid), centroid, None
    truth = np.eye(len(zones))[halves.zones]
    yield ORACLE, halves.means_by(truth), truth, None


def summarise(genes: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """One row per method: mean over splits, and the lowest and highest split of the main figure."""
    unseen = genes[~genes["landmark"]]
    parts = {"unseen genes": unseen} | {name: unseen[unseen["family"] == name] for name in FAMILIES}
    columns = {
        f"aCC, {name}": part.groupby("method", sort=False)["correlation"].mean()
        for name, part in parts.items()
    }
    by_split = (
        unseen.groupby(["method", "split"], sort=False)["correlation"].mean().groupby("method", sort=False)
    )
    columns |= {"aCC, lowest split": by_split.min(), "aCC, highest split": by_split.max()}
    columns["peak within one zone"] = unseen.groupby("method", sort=False)["peak_error"].apply(
        lambda e: (e <= 1).mean()
    )
    columns["nested LOO aCC, landmarks"] = genes.groupby("method", sort=False)["nested"].mean()
    of_cells = cells.groupby("method", sort=False)
    columns["cells in their zone"] = of_cells["error"].apply(lambda error: (error == 0).mean())
    columns["cells within one zone"] = of_cells["error"].apply(lambda error: (error <= 1).mean())
    columns["zones off, mean"] = of_cells["error"].mean()
    columns["probability of the true zone"] = of_cells["probability"].mean()
    columns["90 % region holds it"] = of_cells["in_region"].mean()
    return pd.DataFrame(columns).loc[list(genes["method"].unique())].rename_axis("method")


def _nearest(halves: Halves) -> np.ndarray:
    """Each cell in the zone with whose z-scored landmarks its own correlate best: the plainest method."""
    landmarks = list(halves.reference.var_names)
    sides = halves.log_of(landmarks), np.log2(1 + np.asarray(halves.reference.X, np.float64))
    cells, zones = ((side - side.mean(0)) / side.std(0) for side in sides)
    cells, zones = (rows - rows.mean(1, keepdims=True) for rows in (cells, zones))
    scores = cells @ (zones / np.linalg.norm(zones, axis=1, keepdims=True)).T
    return np.eye(len(zones))[scores.argmax(axis=1)]


if __name__ == "__main__":
    main()
