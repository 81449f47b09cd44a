"""What the accuracy rests on: reduction, tuning, landmarks, poorly-predicted genes, pi."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.common import arguments, data_folder, load_config, provenance, timed, write_json
from experiments.fly_claims.fits import fly_fit, thinned
from experiments.validity import pictures
from experiments.validity.downsampling import accuracy_by_landmarks, by_size
from experiments.validity.evaluation import Landmarks, landmarks_of
from experiments.validity.variants import location_weights, poor_genes, reduction, tuning
from perler_jax import PerlerFit, PerlerSettings, load_fly
from perler_jax.held_out.folds import make_folds
from perler_jax.inputs.io import atomic_path

_Result = tuple[pd.DataFrame, Any]


@dataclasses.dataclass(frozen=True)
class Given:
    """What every part starts from."""

    fit: PerlerFit
    points: np.ndarray
    config: dict[str, Any]

    @functools.cached_property
    def marks(self) -> Landmarks:
        """Landmarks of the fit."""
        return landmarks_of(self.fit)

    @functools.cached_property
    def folds(self) -> list[np.ndarray]:
        """A few folds of the landmarks."""
        return make_folds(len(self.marks.names), self.config["folds"], seed=self.config["seed"])

    @functools.cached_property
    def tuned(self) -> dict[str, np.ndarray]:
        """Alpha and beta of either distance, tuned on all landmarks."""
        own = self.fit.weights
        return {
            "fitted": np.array([float(own.alpha[0]), float(own.beta[0])]),
            "released": np.array(self.config["released_weights"]),
        }


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = arguments("validity", __doc__)
    parser.add_argument(
        "--fit", type=Path, help="file of the tuned default fit: read if it is there, else made"
    )
    parser.add_argument("--only", choices=list(_PARTS), nargs="+", default=list(_PARTS), help="parts to run")
    options = parser.parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    folder = data_folder(options.data, config["data"])
    fly = load_fly(folder)
    settings = dataclasses.replace(PerlerSettings.paper(), seed=config["seed"])  # what the claims are about
    if options.fast:
        fly = thinned(fly, fast["every"])
        settings = dataclasses.replace(settings, folds=4, n_metagenes=20)
        config["folds"] = fast["folds"]
        for part in ("reduction", "landmarks", "pi"):
            config[part] |= fast[part]
    seconds: dict[str, float] = {}
    with timed("fit", seconds):
        held_out = not {"tuning", "poor"}.isdisjoint(options.only)
        fit = fly_fit(fly, settings, options.fit, held_out=held_out, progress=sys.stderr.isatty())
    grid = np.meshgrid(config["alphas"], config["betas"], indexing="ij")
    # With both zero every cell weighs alike.
    points = np.stack([each.ravel() for each in grid], axis=1)[1:]
    given = Given(fit, points, config)
    for part in options.only:
        with timed(part, seconds):
            table, found = _PARTS[part](given, options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(options.out / f"{part}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
        about = {"config": config.get(part, {}), "seconds": seconds[part]}
        write_json(
            {"summary": found} | about | provenance(config["seed"], folder), options.out / f"{part}.json"
        )
        print(part, found, sep="\n  ", flush=True)


def _reduction(given: Given, out: Path) -> _Result:
    table, found = reduction(given.marks, given.points, given.folds, given.config["reduction"])
    pictures.draw_variants(table, out / "reduction.png")
    means = table.groupby(["distance", "variant"], sort=False)[["nested", "reconstruction"]].mean()
    return table, {"paired": found, "means": means.reset_index().to_dict("records")}


def _tuning(given: Given, out: Path) -> _Result:
    return tuning(given.fit, given.marks, given.tuned)


def _poor(given: Given, out: Path) -> _Result:
    table, _ = _tuning(given, out)
    tuned = table[table["variant"] == "tuned"]
    scores = {name: rows["held_out"].to_numpy() for name, rows in tuned.groupby("distance")}
    config = given.config
    return poor_genes(given.marks, given.points, scores, config["folds"], config["poor"], config["seed"])


def _landmarks(given: Given, out: Path) -> _Result:
    bar = functools.partial(tqdm, desc="subsets", disable=not sys.stderr.isatty())
    part = given.config["landmarks"]
    table = accuracy_by_landmarks(given.marks, given.points, part, given.config["seed"], progress=bar)
    pictures.draw_landmarks(table, out / "landmarks.png")
    return table, by_size(table)


def _pi(given: Given, out: Path) -> _Result:
    table, found = location_weights(given.fit, given.marks, given.config["pi"]["max_steps"])
    pictures.draw_pi(table, out / "pi.png")
    return table, found


_PARTS: dict[str, Callable[[Given, Path], _Result]] = {
    "tuning": _tuning,
    "pi": _pi,
    "reduction": _reduction,
    "poor": _poor,
    "landmarks": _landmarks,
}

if __name__ == "__main__":
    main()
