"""Whatever form the data are given in: is the result that of counts, or is the form refused?"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from experiments.common import arguments, data_folder, load_config, provenance, write_json
from experiments.scales.givings import GIVINGS, Giving
from perler_jax import PerlerInputError, PerlerSettings, PerlerWarning, fit_perler, simulate_embryo
from perler_jax.datasets import load_starmap_pair
from perler_jax.held_out.folds import make_folds
from perler_jax.scores.metrics import pearson_by_gene


@dataclass(frozen=True, eq=False)
class Pair:
    """Cells and map before anything is done to them.

    Attributes:
        cells: (cells, all genes) counts.
        genes: of the cells.
        map: (locations, landmarks) counts, or intensities.
        landmarks: of the map.
        intensities: whether the map holds intensities, which are given as they are.
    """

    cells: np.ndarray
    genes: list[str]
    map: np.ndarray
    landmarks: list[str]
    intensities: bool = False

    @property
    def truth(self) -> np.ndarray:
        """log2(1 + h) at the median depth: what predictions are compared with, whatever was given."""
        if self.intensities:
            return np.log2(1 + self.map)
        totals = np.maximum(self.map.sum(axis=1, keepdims=True), 1.0)
        return np.log2(1 + self.map / totals * np.median(totals))


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("scales", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    names = fast.pop("problems") if options.fast else list(config["problems"])
    rows, data = [], {}
    for name in names:
        problem = config["problems"][name] | (fast if options.fast else {})
        folder = data_folder(options.data, problem["data"]) if "data" in problem else None
        data[name] = provenance(config["seed"], folder)
        pair = load_pair(name, folder, config["seed"])
        for giving in tqdm(GIVINGS, desc=name, unit="giving", disable=not sys.stderr.isatty()):
            rows.append({"problem": name, "giving": giving.name} | run(pair, giving, problem, config["seed"]))
            print(rows[-1], flush=True)
    table = verdicts(pd.DataFrame(rows), config["within"])
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "scales.csv", index=False, float_format="%.4f")
    write_json({"config": config, "runs": data}, options.out / "scales.json")
    print(table.drop(columns=["said"]).to_string(index=False))


def load_pair(name: str, folder: Path | None, seed: int) -> Pair:
    """The data of a problem."""
    if folder is None:
        embryo = simulate_embryo(
            seed=seed, n_locations=500, n_cells=400, n_genes=60, n_landmarks=30, unspatial_fraction=0
        )
        counts, genes = embryo.cells.X.toarray().astype(float), list(embryo.cells.var_names)
        reference = np.asarray(embryo.reference.X, float)
        return Pair(counts, genes, reference, list(embryo.reference.var_names), intensities=True)
    if name == "osmfish_allen":
        located = pd.read_csv(folder / "Spatial_count.txt.gz", sep="\t")
        cells = pd.read_csv(folder / "scRNA_count.txt.gz", sep="\t", index_col=0).T[list(located.columns)]
        genes = list(located.columns)
        return Pair(cells.to_numpy(float), genes, located.to_numpy(float), genes)
    located = load_starmap_pair(folder).reference
    order = np.random.default_rng(seed).permutation(located.n_obs)
    lost, kept = (located.X[np.sort(half)].toarray().astype(float) for half in np.array_split(order, 2))
    return Pair(lost, list(located.var_names), kept, list(located.var_names))


def run(pair: Pair, giving: Giving, problem: dict[str, Any], seed: int) -> dict[str, Any]:
    """Mean correlation at unseen genes and what the program said, or its refusal."""
    scores, said = [], ""
    settings = PerlerSettings(folds=problem["inner"])
    for held in make_folds(len(pair.landmarks), problem["folds"], seed=seed)[: problem["run"]]:
        kept = np.setdiff1d(np.arange(len(pair.landmarks)), held)
        cells = _named(giving.cells(pair.cells), pair.genes)
        reference = AnnData(pair.map) if pair.intensities else giving.reference(pair.map)
        # The held genes' maps are gone after the form was made: their share of the totals was in it.
        reference = _named(reference, pair.landmarks)[:, kept].copy()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", PerlerWarning)
            try:
                fit = fit_perler(cells, reference, settings=settings, progress=False)
            except PerlerInputError as error:
                return {"aCC": np.nan, "read as": "refused", "said": str(error)}
        genes = [pair.landmarks[i] for i in held]
        predicted = np.asarray(fit.reconstruct(genes).X, np.float64)
        scores.append(pearson_by_gene(predicted, pair.truth[:, held]))
        read = fit.provenance()["read_as"]
        said = f"cells {read['cells']}; reference {read['reference']}"
        said += "".join(f"; warned: {each.message}" for each in told if each.category is PerlerWarning)
    scale = f"{fit.preprocessing.scale}, {fit.reference.scale}"
    return {"aCC": float(np.nanmean(np.concatenate(scores))), "read as": scale, "said": said}


def verdicts(table: pd.DataFrame, within: float) -> pd.DataFrame:
    """Difference from counts on both sides, and whether that is near enough."""
    counts = table.groupby("problem", sort=False)["aCC"].transform("first")
    table.insert(3, "difference", table["aCC"] - counts)
    good = table["difference"].abs() <= within
    verdict = np.where(table["aCC"].isna(), "refused", np.where(good, "as counts", "WRONG"))
    table.insert(4, "verdict", verdict)
    return table


def _named(table: AnnData, genes: list[str]) -> AnnData:
    table.var_names = genes
    return table


if __name__ == "__main__":
    main()
