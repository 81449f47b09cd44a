"""Heavy tails and cells from elsewhere: what Gaussian noise makes of them, and the families made for them.

Cells are drawn from the model itself on the map of a simulated embryo, so that sensitivity, background, noise
and origins are known; 5 % of them are then replaced by cells from elsewhere, each metagene from another cell
at random: the same marginals, no place of origin. The noise of the others is Gaussian or Student t.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from experiments.common import arguments, load_config, provenance, write_json
from perler_jax import simulate_embryo
from perler_jax.density import foreign_cells, responsibilities
from perler_jax.em import fit_em, initial_params
from perler_jax.inference.model import CellsFrom
from perler_jax.metagenes import fit_metagenes
from perler_jax.mixture import MappingParams
from perler_jax.noise import GAUSSIAN, NoiseFamily, StudentT
from perler_jax.preprocessing import centre, log_reference

FAMILIES = {
    "Gaussian": (GAUSSIAN, None),
    "Student t": (StudentT(4.0), None),
    "Gaussian, foreign cells": (GAUSSIAN, 0.02),
    "Student t, foreign cells": (StudentT(4.0), 0.02),
}
NOISE = {"Gaussian": GAUSSIAN, "Student t": StudentT(4.0)}
METAGENES = 20
FOREIGN = 0.05


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    draws, n_cells = (2, 500) if options.fast else (10, 2000)
    reference, coordinates = _map(config["seed"])
    rows = []
    for draw in range(draws):
        for noise, true_family in NOISE.items():
            cells, truth, origin, foreign = _cells(reference, n_cells, true_family, config["seed"] + draw)
            for name, (family, share) in FAMILIES.items():
                start = initial_params(cells, reference, noise_family=family, foreign_share=share)
                fitted = fit_em(cells, reference, start, tolerance=1e-7, max_steps=500)
                scores = _scores(fitted.params, truth, cells, reference, coordinates, origin, foreign)
                rows.append({"noise": noise, "fitted": name, "draw": draw, **scores})
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "robust.csv", index=False, float_format="%.5g")
    groups = table.drop(columns="draw").groupby(["noise", "fitted"], sort=False)
    means = groups.agg(["mean", "std"])
    means.columns = [" ".join(each) for each in means.columns]
    report = {"draws": draws, "cells": n_cells, "means": means.reset_index().to_dict("records")}
    write_json(report | provenance(config["seed"]), options.out / "robust.json")
    print(groups.mean().round(3).to_string())


def _map(seed: int) -> tuple[jax.Array, np.ndarray]:
    """Metagenes (unit variance) and coordinates of the locations of a simulated embryo."""
    embryo = simulate_embryo(seed=seed, n_locations=1500, n_cells=800, n_genes=150, n_landmarks=50)
    landmarks = embryo.reference.var_names
    y, _ = centre(np.log2(1 + embryo.cells[:, landmarks].X.toarray().astype(np.float64)))
    h, _ = centre(log_reference(np.asarray(embryo.reference.X)))
    metagenes = fit_metagenes(y, h, n_metagenes=METAGENES, reduction="plsc")
    r = h @ metagenes.reference_loadings
    return jnp.asarray(r / r.std(axis=0), jnp.float32), np.asarray(embryo.reference.obsm["spatial"])


def _cells(
    reference: jax.Array, n_cells: int, family: NoiseFamily, seed: int
) -> tuple[jax.Array, MappingParams, np.ndarray, np.ndarray]:
    """Cells by the model, some replaced; the truth of all."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.6, 1.4, METAGENES), rng.normal(0, 0.3, METAGENES)
    parts = (a, b, rng.uniform(0.5, 1.0, METAGENES))
    truth = MappingParams(*(jnp.asarray(each, jnp.float32) for each in parts), noise_family=family)
    origin = rng.integers(len(reference), size=n_cells)
    cells = np.array(CellsFrom(truth, reference, jnp.asarray(origin)).sample(jax.random.key(seed)))
    foreign = np.arange(n_cells) < FOREIGN * n_cells
    donors = rng.integers(n_cells, size=(foreign.sum(), METAGENES))
    cells[foreign] = cells[donors, np.arange(METAGENES)]
    return jnp.asarray(cells), truth, origin, foreign


def _scores(
    params: MappingParams,
    truth: MappingParams,
    cells: jax.Array,
    reference: jax.Array,
    coordinates: np.ndarray,
    origin: np.ndarray,
    foreign: np.ndarray,
) -> dict[str, float]:
    """Errors of parameters (mean absolute) and of the positions of the tissue's own cells."""
    errors = {
        f"{name}_error": float(np.abs(getattr(params, name) - getattr(truth, name)).mean())
        for name in ("sensitivity", "background", "noise")
    }
    own = np.flatnonzero(~foreign)
    gamma = np.asarray(responsibilities(params, cells[own], reference), np.float64)
    away = np.linalg.norm(gamma @ coordinates - coordinates[origin[own]], axis=1)
    at_truth = np.maximum(gamma[np.arange(len(own)), origin[own]], 1e-300)
    found = {
        **errors,
        "position_error_um": float(away.mean()),
        "log_posterior_of_truth": float(np.log(at_truth).mean()),
    }
    if params.foreign is not None:
        flagged = np.asarray(foreign_cells(params, cells, reference))
        found["foreign_share"] = float(params.foreign.share)
        found["foreign_auc"] = float(
            mannwhitneyu(flagged[foreign], flagged[own]).statistic / (foreign.sum() * len(own))
        )
        found["foreign_found"] = float((flagged[foreign] > 0.5).mean())
        found["own_called_foreign"] = float((flagged[own] > 0.5).mean())
    return found


if __name__ == "__main__":
    main()
