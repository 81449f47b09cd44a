"""Halpern et al. 2017, the paper's counterpart on zones, on the same halves of the villus."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, write_json
from experiments.compare.methods.halpern import gamma_of_cells, log_likelihood, posterior, zone_profiles
from experiments.villus.__main__ import AREAS, ORACLE, UNIFORM, summarise
from experiments.villus.halves import PER, Halves, split_halves
from experiments.villus.scoring import score_cells, score_genes
from perler_jax.datasets import load_villus

LABEL = "Halpern et al. (own)"


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("villus", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, "intestine_villus")
    cells = load_villus(folder)
    genes, placed, held = [], [], []
    for split in range(config["splits"]):
        halves = split_halves(cells, config, config["seed"] + split)
        of_map = cells[~cells.obs_names.isin(halves.cells.obs_names)]
        even, areas = np.full(len(halves.areas), 1 / len(halves.areas)), halves.areas / halves.areas.sum()
        found = {
            name: zones_of(halves, of_map, prior) for name, prior in {AREAS: areas, UNIFORM: even}.items()
        }
        found[ORACLE] = np.eye(len(areas))[halves.zones]
        for name, weights in found.items():
            label = f"{LABEL}, {name}"
            predicted, inside = profiles_of(halves, of_map, weights)
            scored = score_genes(halves, predicted, config)
            genes.append(scored.assign(split=split, method=label, nested=np.nan))
            placed.append(score_cells(halves, weights).assign(split=split, method=label))
            held.append({"method": label, "inside": inside[~scored["landmark"].to_numpy()].mean()})
    table = summarise(pd.concat(genes), pd.concat(placed))
    inside = pd.DataFrame(held).groupby("method")["inside"].mean()
    table["difference within its 90 % interval"] = inside
    report = {"summary": table.reset_index().to_dict("records"), "config": config}
    write_json(report | provenance(config["seed"], folder), options.out / "published.json")
    print(table.round(3).T.to_string())


def zones_of(halves: Halves, of_map: ad.AnnData, prior: np.ndarray) -> np.ndarray:
    """(cells, zones) posterior of the mapped half.

    Args:
        halves: the split; its landmarks.
        of_map: the cells of the map's half, whose zones are known: the distributions are theirs.
        prior: (zones,) share of each zone.
    """
    landmarks = list(halves.reference.var_names)
    counts, totals = _molecules(of_map, landmarks)
    zones = of_map.obs["zone"].to_numpy()
    fitted = [gamma_of_cells(counts[zones == zone], totals[zones == zone]) for zone in range(len(prior))]
    shapes, rates = map(np.stack, zip(*fitted, strict=True))
    return posterior(log_likelihood(*_molecules(halves.cells, landmarks), shapes, rates, prior), prior)


def profiles_of(halves: Halves, of_map: ad.AnnData, weights: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Profiles of the scored genes, log2(1 + mean of molecules per 10,000), and what their errors are worth.

    Returns:
        (genes, zones) profiles, and (genes, zones) whether predicted and measured mean differ by less than
        1.645 standard errors of their difference: nine times of ten, if the errors are right.
    """
    genes = list(halves.map_profiles.index)
    means, errors = zone_profiles(_shares(halves.cells, genes), weights)
    known = np.eye(len(halves.areas))[of_map.obs["zone"].to_numpy()]
    measured, own = zone_profiles(_shares(of_map, genes), known)
    inside = np.abs(means - measured) <= 1.645 * np.sqrt(errors**2 + own**2)
    return pd.DataFrame(np.log2(1 + means.T), index=genes), inside.T


def _molecules(cells: ad.AnnData, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(cells, genes) molecules, and (cells,) those of all genes."""
    totals = np.asarray(cells.X.sum(axis=1), np.float64).ravel()
    return np.asarray(cells[:, genes].X.toarray(), np.float64), totals


def _shares(cells: ad.AnnData, genes: list[str]) -> np.ndarray:
    counts, totals = _molecules(cells, genes)
    return PER * counts / totals[:, None]


if __name__ == "__main__":
    main()
