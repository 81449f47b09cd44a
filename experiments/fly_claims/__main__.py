"""What the paper says of the fly embryo beyond accuracy, timing and stripes, by either distance."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.fly_claims import pictures
from experiments.fly_claims.fits import fly_fit, thinned, with_pooled_distance
from experiments.fly_claims.genes import landmark_table, structure
from experiments.fly_claims.mapping import calibration, mixing
from experiments.fly_claims.origins import concentration, ten_best_places
from experiments.fly_claims.patterns import domain_order, ventral_stripes
from experiments.fly_claims.peers import predicted_by_peers
from experiments.fly_claims.segments import parasegment_width, stripe_lags
from perler_jax import PerlerFit, PerlerSettings, load_fly
from perler_jax.datasets import FlyEmbryo
from perler_jax.inputs.io import atomic_path
from perler_jax.scores.distmap import binarise_cells, virtual_in_situ
from perler_jax.scores.stripes import StripeAxis, axis_profile, count_stripes, fit_axis
from perler_jax.trust.origins import Tempering
from perler_jax.trust.positions import cell_positions


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = arguments("fly_claims", __doc__)
    parser.add_argument(
        "--fit", type=Path, help="file of the tuned fit, preset paper: read if it is there, else made"
    )
    parser.add_argument("--only", choices=list(_PARTS), nargs="+", default=list(_PARTS), help="parts to run")
    options = parser.parse_args(argv)
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    settings = dataclasses.replace(PerlerSettings.paper(), seed=config["seed"])  # what the claims are about
    if options.fast:
        fly = thinned(fly, config["fast"]["every"])
        settings = dataclasses.replace(settings, folds=config["fast"]["folds"], n_metagenes=20)
        config["segments"]["draws"] = config["fast"]["draws"]
    seconds: dict[str, float] = {}
    with timed("fit", seconds):
        fit = fly_fit(fly, settings, options.fit, progress=sys.stderr.isatty())
    with timed("released distance", seconds):
        fits = {"fitted": fit, "released": with_pooled_distance(fit, tuple(config["released_weights"]))}
    for name in options.only:
        with timed(name, seconds):
            found = _PARTS[name](fits, fly, config, options.out)
        about = {"config": config.get(name, {}), "seconds": seconds[name]}
        write_json(
            {"summary": found} | about | provenance(config["seed"], folder), options.out / f"{name}.json"
        )
        print(name, _plain(found), sep="\n  ", flush=True)


def mapping(fits: dict[str, PerlerFit], fly: FlyEmbryo, config: dict[str, Any], out: Path) -> dict[str, Any]:
    """The mapped reference among the cells. The distance has no part in it."""
    fit, seed = fits["fitted"], config["seed"]
    table = calibration(fit, seed)
    _write(table.reset_index(), out / "metagenes.csv")
    pictures.draw_mapping(fit, table, out / "mapping.png")
    weight = table["correlation"].to_numpy()
    told = table[weight > 0.2]  # where the other metagenes say something
    return {
        "mixing": mixing(fit, neighbours=config["mapping"]["neighbours"], seed=seed),
        "metagenes": len(table),
        "metagenes_expected_by_others": len(told),
        "slope_median": float(told["slope"].median()),
        "slope_quartiles": [float(told["slope"].quantile(q)) for q in (0.25, 0.75)],
        "correlation_median": float(table["correlation"].median()),
        "distance_of_distributions_median": float(table["distance_of_distributions"].median()),
        "distance_before_median": float(table["distance_before"].median()),
        "closer_after_mapping": int((table["distance_of_distributions"] < table["distance_before"]).sum()),
    }


def origins(fits: dict[str, PerlerFit], fly: FlyEmbryo, config: dict[str, Any], out: Path) -> dict[str, Any]:
    """How small a region cells are assigned to. The distance has no part in it."""
    fit = fits["fitted"]
    found = cell_positions(fit, tempering=Tempering(), medoid=False)
    table, summary = ten_best_places(fit, fly)
    columns = ["effective_locations", "radius_50", "radius_90", "within_2_spacings", "within_4_spacings"]
    _write(table.join(found.table[columns]).reset_index(), out / "origins.csv")
    pictures.draw_origins(fit, found, config["origins"]["shown"], out / "origins.png")
    return {"model": concentration(found), "ten_best": summary}


def genes(fits: dict[str, PerlerFit], fly: FlyEmbryo, config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Well- and poorly-predicted landmarks."""
    poor_below = config["genes"]["poor_below"]
    table = landmark_table(fits, poor_below)
    _write(table.reset_index(), out / "landmarks.csv")
    pictures.draw_genes(table, list(fits), poor_below, out / "landmarks.png")
    scores = {
        name: {column: float(fit.scores[column].mean()) for column in ("held_out", "reconstruction")}
        | {"alpha": float(fit.weights.alpha[0]), "beta": float(fit.weights.beta[0])}
        for name, fit in fits.items()
    }
    return {name: scores[name] | structure(table, name) for name in fits}


def patterns(fits: dict[str, PerlerFit], fly: FlyEmbryo, config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Genes that are no landmark: domains along both axes, stripes and their order in a parasegment."""
    of, segments, stripes = config["patterns"], config["segments"], config["stripes"]
    coordinates = np.asarray(fly.reference.obsm["spatial"], np.float64)
    striped = fly.reference[:, stripes["axis"]].to_df()
    axis = fit_axis(coordinates, striped.to_numpy(np.float64))
    width = parasegment_width(striped, coordinates, axis)
    wanted = list(
        dict.fromkeys(
            [*of["anteroposterior"], *of["dorsoventral"], *stripes["striped"], *segments["reported"]]
        )
    )
    predicted = {name: fit.reconstruct(wanted).to_df() for name, fit in fits.items()}
    predicted["DistMap"] = _distmap(fly, wanted)
    rows: list[pd.DataFrame] = []
    report: dict[str, Any] = {"parasegment_um": width, "axis": repr(axis)}
    expected = {name: of[name] for name in ("anteroposterior", "dorsoventral")}
    for name, table in predicted.items():
        centres, order = domain_order(table, coordinates, axis, expected)
        rows.append(centres.assign(method=name))
        report[name] = {
            "order": order,
            "ventral": {
                gene: ventral_stripes(table[gene].to_numpy(np.float64), coordinates, axis)
                for gene in of["ventral"]
            },
            "stripes": {
                gene: _stripes(table[gene].to_numpy(np.float64), coordinates, axis, stripes["prominences"])
                for gene in stripes["striped"]
            },
        }
    _write(pd.concat(rows), out / "domains.csv")
    lags = []
    for name, fit in fits.items():
        found = stripe_lags(fit, coordinates, axis, width, segments, config["seed"])
        lags.append(found.assign(distance=name))
        report[name]["lags"] = {row["gene"]: _finite(row) for row in found.to_dict("records")}
    _write(pd.concat(lags), out / "lags.csv")
    pictures.draw_patterns(predicted, of["shown"], coordinates, out / "patterns.png")
    by_fit = {name: predicted[name] for name in fits}
    pictures.draw_order(by_fit, pd.concat(lags), coordinates, axis, width, segments, out / "order.png")
    return report


def peers(fits: dict[str, PerlerFit], fly: FlyEmbryo, config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Stripes in what other programs predict, all landmarks in use. The fits have no part in it."""
    stripes = config["stripes"]
    coordinates = np.asarray(fly.reference.obsm["spatial"], np.float64)
    axis = fit_axis(coordinates, fly.reference[:, stripes["axis"]].to_df().to_numpy(np.float64))
    predicted, skipped = predicted_by_peers(fly, stripes["striped"], config["peers"])
    measured = np.log2(1.0 + fly.reference.to_df())
    report: dict[str, Any] = {"skipped": skipped}
    for name, table in predicted.items():
        own = [gene for gene in table if gene in measured]
        report[name] = {
            "striped_landmarks_correlation": float(np.mean([table[g].corr(measured[g]) for g in own])),
            "stripes": {
                gene: _stripes(table[gene].to_numpy(np.float64), coordinates, axis, stripes["prominences"])
                for gene in table
            },
        }
    if predicted:
        pictures.draw_patterns(predicted, config["peers_shown"], coordinates, out / "peers.png")
    return report


def _stripes(
    values: np.ndarray, coordinates: np.ndarray, axis: StripeAxis, prominences: list[float]
) -> dict[str, int]:
    """Number of stripes at each prominence, as experiments/fly counts them."""
    profile = axis_profile(values, coordinates, axis)
    return {f"{each:g}": count_stripes(*profile, prominence=each).n for each in prominences}


def _distmap(fly: FlyEmbryo, genes: list[str]) -> pd.DataFrame:
    """DistMap's virtual in situ of the genes, all landmarks in use."""
    assert fly.binary_reference is not None
    names = list(fly.binary_reference.columns)
    totals = fly.cells.obs["norm_total"].to_numpy(np.float64)[:, None]
    in_situ = fly.binary_reference.to_numpy().astype(bool)

    def normalised(some: list[str]) -> np.ndarray:
        return np.log2(1 + np.asarray(fly.cells[:, some].X.todense(), np.float64) * totals.max() / totals)

    cells_on = binarise_cells(normalised(names), in_situ).on
    values = virtual_in_situ(cells_on, in_situ, normalised(genes), threshold=0.0)
    return pd.DataFrame(values, index=fly.reference.obs_names, columns=genes)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """What is known of a row."""
    return {key: value for key, value in row.items() if key != "gene" and value == value}


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")


def _plain(found: dict[str, Any]) -> str:
    return "\n  ".join(f"{key}: {value}" for key, value in found.items())


_PARTS = {"mapping": mapping, "origins": origins, "genes": genes, "patterns": patterns, "peers": peers}

if __name__ == "__main__":
    main()
