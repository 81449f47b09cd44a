"""Do credible regions hold the true origins of cells as often as they promise? And the resolution curve."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from experiments.common import arguments, data_folder, provenance, timed, write_json
from experiments.trust.position_pictures import draw_positions
from experiments.trust.unseen_genes import fly_of
from perler_jax import PerlerFit, fit_perler, simulate_embryo
from perler_jax.datasets import load_osmfish, load_starmap_pair
from perler_jax.inputs.io import atomic_path
from perler_jax.trust.agreement import calibrate_by_agreement
from perler_jax.trust.calibration import calibrate_on_cells, calibrate_on_map
from perler_jax.trust.origins import Tempering
from perler_jax.trust.positions import cell_positions
from perler_jax.trust.resolution import resolution_curve
from perler_jax.trust.sharpness import choose_tempering

UNTUNED = (0.5, 0.0)  # weights play no part in positions: nothing needs to be held out for them
PLAIN, AGREEMENT = "none (the model's own)", "agreement of landmarks"
ON_CELLS, ON_MAP = "some located cells", "the map's own cells"
DEFAULT = "the default"
TARGET = (0.87, 0.93)


def main() -> None:
    """Run, print, write."""
    parser = arguments("trust", __doc__)
    parser.prog = "python -m experiments.trust.positions"
    options = parser.parse_args()
    config = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    fast = config.pop("fast")
    for name in ("simulated", "halves", "fly"):
        config[name] |= fast[name] if options.fast else {}
    folders = {
        name: data_folder(options.data and options.data / name, name)
        for name in ("osmfish_sscortex", "visual_cortex_starmap", "drosophila")
    }
    seconds: dict[str, float] = {}
    with timed("simulated embryos", seconds):
        rows = list(simulated(config))
    with timed("osmFISH", seconds):
        rows += list(halves(load_osmfish(folders["osmfish_sscortex"]), "osmFISH", config))
    with timed("STARmap", seconds):
        starmap = load_starmap_pair(folders["visual_cortex_starmap"]).reference
        rows += list(halves(starmap, "STARmap", config))
    with timed("fly", seconds):
        curve = fly_resolution(config, folders["drosophila"])
    table = pd.DataFrame(rows)
    summary = summarise(table)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, frame in (("positions", table), ("positions_resolution", curve)):
        with atomic_path(options.out / f"{name}.csv") as path:
            frame.to_csv(path, index=False, float_format="%.5g")
    draw_positions(table, curve, options.out / "positions.png")
    at_four = curve[curve["spacings"] == 4].groupby(["temperature", "n_landmarks"])
    near = at_four[["mass", "share_confident"]].mean()
    report: dict[str, Any] = {
        "coverage": summary.reset_index().to_dict("records"),
        "fly_within_4_spacings": near.reset_index().to_dict("records"),
        "config": config,
        "seconds": seconds,
        "data": {name: provenance(config["seed"], folder)["data_sha256"] for name, folder in folders.items()},
    }
    write_json(report | provenance(config["seed"]), options.out / "positions.json")
    print(summary.round(3).to_string(), near.round(3).to_string(), sep="\n\n")


def simulated(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Embryos whose cells' origins are locations of the map."""
    options = config["simulated"]
    runs = [(kind, draw) for kind in options["kinds"] for draw in range(options["draws"])]
    for kind, draw in tqdm(runs, desc="embryos", disable=not sys.stderr.isatty()):
        seed = config["seed"] + draw
        embryo = simulate_embryo(seed=seed, **options["sizes"] | options["kinds"][kind])
        fit = fit_perler(embryo.cells, embryo.reference, weights=UNTUNED, progress=False)
        origin = embryo.cells.obs["true_location"].to_numpy()
        places = embryo.reference.obsm["spatial"][origin]
        told, scored = _told(len(origin), options["located"], seed)
        known = np.where(told[:, None], places, np.nan)
        methods = {
            PLAIN: Tempering(),
            AGREEMENT: calibrate_by_agreement(fit, n_repeats=options["repeats"], seed=seed).tempering,
            ON_CELLS: calibrate_on_cells(fit, known, seed=seed).tempering,
            DEFAULT: choose_tempering(fit),
        }
        yield from _score(fit, methods, places, scored, config, "simulated embryo", kind, draw)


def halves(section: AnnData, dataset: str, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Half of a section's cells are the map, the others are put on it. True is the map's nearest cell."""
    options = config["halves"]
    section = section[:: options["every_cell"]]
    for split in tqdm(range(options["splits"]), desc=dataset, disable=not sys.stderr.isatty()):
        seed = config["seed"] + split
        order = np.random.default_rng(seed).permutation(section.n_obs)
        located, dissociated = np.sort(order[::2]), np.sort(order[1::2])
        places = np.asarray(section.obsm["spatial"][dissociated])
        fit = fit_perler(
            AnnData(section.X[dissociated], obs=section.obs[[]].iloc[dissociated], var=section.var[[]]),
            _dense(section[located]),
            weights=UNTUNED,
            progress=False,
        )
        told, scored = _told(len(places), options["located"], seed)
        known = np.where(told[:, None], places, np.nan)
        methods = {
            PLAIN: Tempering(),
            AGREEMENT: calibrate_by_agreement(fit, seed=seed).tempering,
            ON_CELLS: calibrate_on_cells(fit, known, seed=seed).tempering,
            ON_MAP: calibrate_on_map(fit, n_cells=options["map_cells"], seed=seed).tempering,
            DEFAULT: choose_tempering(fit),
        }
        yield from _score(fit, methods, places, scored, config, dataset, "half a section", split)


def fly_resolution(config: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Mass near the mode on the fly embryo, by the number of landmarks, as the model states it."""
    fly = fly_of(folder, config["fly"])
    totals = fly.cells.obs["norm_total"].to_numpy()
    fit = fit_perler(fly.cells, fly.reference, totals=totals, weights=UNTUNED, progress=False)
    options = {"n_draws": config["fly"]["draws"], "seed": config["seed"]}
    sizes = config["fly"]["n_landmarks"]
    temperature = calibrate_by_agreement(fit, n_repeats=2, seed=config["seed"]).tempering
    plain = resolution_curve(fit, sizes, **options).assign(temperature=1.0)
    honest = resolution_curve(fit, sizes, tempering=temperature, **options)
    return pd.concat([plain, honest.assign(temperature=temperature.temperature)])


def _score(
    fit: PerlerFit,
    methods: dict[str, Tempering],
    places: np.ndarray,
    scored: np.ndarray,
    config: dict[str, Any],
    dataset: str,
    kind: str,
    draw: int,
) -> Iterator[dict[str, Any]]:
    """Coverage at every level, sizes and errors, of cells that no method was told about."""
    for method, tempering in methods.items():
        found = cell_positions(fit, scored, tempering=tempering, medoid=False)
        levels = found.credible_levels(places[scored])
        assert found.mean is not None
        metrics = {f"coverage_{level:g}": float((levels < level).mean()) for level in config["levels"]}
        metrics |= {
            "temperature": tempering.temperature,
            "spread": tempering.spread,
            "n_locations_90": float(found.table["n_locations_90"].median()),
            "share_of_map_90": float(found.table["n_locations_90"].median() / len(fit.reference.locations)),
            "error_of_mean": float(np.median(np.linalg.norm(found.mean - places[scored], axis=1))),
        }
        for metric, value in metrics.items():
            yield {
                "dataset": dataset,
                "kind": kind,
                "seed": config["seed"] + draw,
                "method": method,
                "metric": metric,
                "value": value,
            }


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over embryos or splits; and in how many of them the 90 % regions cover what was asked."""
    wide = table.pivot_table(
        index=["dataset", "kind", "method", "seed"], columns="metric", values="value", sort=False
    )
    wide["in_target"] = wide["coverage_0.9"].between(*TARGET)
    columns = ["coverage_0.5", "coverage_0.9", "in_target", "temperature", "spread", "n_locations_90"]
    columns += ["share_of_map_90", "error_of_mean"]
    return wide[columns].astype(float).groupby(["dataset", "kind", "method"], sort=False).mean()


def _told(n: int, located: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the cells whose origin is told, and the others, which are scored."""
    told = np.zeros(n, bool)
    told[np.random.default_rng(seed + 1000).permutation(n)[:located]] = True
    return told, np.flatnonzero(~told)


def _dense(cells: AnnData) -> AnnData:
    return AnnData(
        cells.X.toarray() if hasattr(cells.X, "toarray") else cells.X,
        obs=cells.obs[[]],
        var=cells.var[[]],
        obsm={"spatial": cells.obsm["spatial"]},
    )


if __name__ == "__main__":
    main()
