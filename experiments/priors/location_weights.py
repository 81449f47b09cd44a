"""How many cells come from where: uniform, learned freely, with a Dirichlet prior, or smooth over the tissue.

`python -m experiments.priors.location_weights`, fly embryo, ten folds of landmarks. In every fold the mapping
and pi are fitted anew without the fold's genes (MAP, from the fit with uniform pi), alpha and beta are tuned
on the held-out genes of all folds, and a gene's score is the one at the point that is best without its fold.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.priors.gain import paired_gain
from perler_jax import PerlerSettings, fit_perler, load_fly
from perler_jax.density import cell_votes
from perler_jax.held_out.folds import HeldOutFits, fit_held_out, make_folds
from perler_jax.held_out.scoring import HeldOutScorer
from perler_jax.held_out.tuning import tune_weights
from perler_jax.inference.map_em import fit_map_em
from perler_jax.inference.map_fit import fit_map
from perler_jax.inference.priors import ConjugatePriors, MappingPriors
from perler_jax.inference.spatial import (
    autoregressive_location_weights,
    location_graph,
    smooth_location_weights,
)
from perler_jax.mixture import MappingParams
from perler_jax.preprocessing import centre, reference_landmarks

FitPi = Callable[[jax.Array, jax.Array, MappingParams], MappingParams]
FOLDS = 10


def main() -> None:
    """Run, print, write."""
    options = arguments("priors", __doc__).parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    totals = fly.cells.obs["norm_total"].to_numpy()
    fit = fit_perler(fly.cells, fly.reference, totals=totals, weights=(0.1, 0.3), progress=False)
    y, _ = centre(np.asarray(fit.preprocessing.apply(fit.expression().dense(fit.landmarks)), np.float64))
    h = reference_landmarks(fit.reference, fit.landmarks)
    folds = make_folds(len(fit.landmarks), 2 if options.fast else FOLDS, seed=config["seed"])
    most = len(fit.landmarks) - max(map(len, folds))
    n_metagenes = min(PerlerSettings().n_metagenes, most)
    plain = fit_held_out(y, h, folds, n_metagenes=n_metagenes)
    sides = jnp.asarray(y, jnp.float32), jnp.asarray(h, jnp.float32)
    ways = _ways(np.asarray(fit.reference.coordinates), 2 if options.fast else 25)
    frame = pd.DataFrame(index=pd.Index(fit.landmarks, name="landmark"))
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, way in ways.items():  # written as it goes: the last ones take long
        with timed(name, seconds):
            fits = plain if way is None else _with_pi(plain, *sides, name, way)
            tuned = tune_weights(HeldOutScorer(fits, *sides), folds)
        frame[name] = tuned.nested_scores
        gain = paired_gain(
            tuned.nested_scores, frame["uniform"].to_numpy(), seed=config["seed"], draws=config["bootstrap"]
        )
        row = {"prior": name, "nested_acc": float(tuned.nested_scores.mean())} | gain
        rows.append(
            row | {"alpha": tuned.alpha, "beta": tuned.beta, "effective_locations": _effective(fits, len(h))}
        )
        print(rows[-1], flush=True)
        frame.to_csv(options.out / "location_weights.csv", float_format="%.5f")
        report = {"folds": len(folds), "table": rows, "seconds": seconds}
        write_json(report | provenance(config["seed"], folder), options.out / "location_weights.json")


def _ways(coordinates: np.ndarray, max_steps: int) -> dict[str, FitPi | None]:
    """Every way to fit pi; None keeps it uniform."""

    def conjugate(concentration: float) -> FitPi:
        priors = ConjugatePriors(location_concentration=concentration)
        return lambda x, r, start: fit_map_em(x, r, priors, start, max_steps=8 * max_steps).params

    def smooth(prior: Any) -> FitPi:
        priors = MappingPriors(location_weights=prior)
        return lambda x, r, start: fit_map(x, r, priors, start, max_steps=max_steps, progress=False).params

    graph = location_graph(coordinates)
    return {
        "uniform": None,
        "free": conjugate(1.0),
        "Dirichlet, 1 cell per location": conjugate(2.0),
        "Dirichlet, 10 cells per location": conjugate(11.0),
        "Gaussian process": smooth(smooth_location_weights(coordinates)),
        "conditional autoregression": smooth(autoregressive_location_weights(graph)),
    }


def _with_pi(fits: HeldOutFits, y: jax.Array, h: jax.Array, name: str, way: FitPi) -> HeldOutFits:
    """The same folds with mapping and pi fitted together."""
    params, votes = [], []
    for index in tqdm(range(len(fits.n_steps)), desc=name, disable=not sys.stderr.isatty(), leave=False):
        fold = jax.tree.map(lambda leaf, index=index: leaf[index], fits)
        x, r = y @ fold.cell_loadings, h @ fold.reference_loadings
        uniform = jnp.full(len(h), -np.log(len(h)), x.dtype)
        found = way(x, r, dataclasses.replace(fold.params, log_location_weights=uniform))
        params.append(found)
        votes.append(cell_votes(found, x, r, None))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    return dataclasses.replace(fits, params=stacked, votes=None if votes[0] is None else jnp.stack(votes))


def _effective(fits: HeldOutFits, n_locations: int) -> float:
    """Of how many locations cells come: e to the entropy of pi, mean over folds."""
    if fits.params.log_location_weights is None:
        return float(n_locations)
    log_pi = np.asarray(fits.params.log_location_weights, np.float64)
    return float(np.exp(-np.sum(np.exp(log_pi) * np.maximum(log_pi, -1e3), axis=1)).mean())


if __name__ == "__main__":
    main()
