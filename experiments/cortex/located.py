"""Located cells that play dissociated ones: how far off they are put, and whether regions keep their word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from experiments.compare.problems import Problem
from perler_jax import CellExpression, PerlerFit, SpatialReference, fit_perler
from perler_jax.trust.calibration import calibrate_on_map
from perler_jax.trust.origins import Tempering
from perler_jax.trust.positions import cell_positions

__all__ = ["fit_located", "score_places", "thinned"]

_UNTUNED = (0.5, 0.0)  # weights play no part in positions: nothing needs to be held out for them


def thinned(problem: Problem, every: int) -> Problem:
    """The same with every so-manieth cell and location."""
    assert problem.true_positions is not None
    assert problem.cells.counts is not None
    assert problem.totals is not None
    return replace(
        problem,
        cells=replace(problem.cells, log=problem.cells.log[::every], counts=problem.cells.counts[::every]),
        values=problem.values[::every],
        totals=problem.totals[::every],
        coordinates=problem.coordinates[::every],
        true_positions=problem.true_positions[::every],
    )


def fit_located(problem: Problem) -> PerlerFit:
    """A fit by all genes of the problem."""
    genes = problem.cells.genes.astype(object)
    names = [
        np.array([f"{kind} {number}" for number in range(len(rows))], dtype=object)
        for kind, rows in (("cell", problem.cells.log), ("location", problem.coordinates))
    ]
    return fit_perler(
        CellExpression(problem.cells.log, names[0], genes, scale="log2"),
        SpatialReference(problem.truth, names[1], genes, problem.coordinates, scale="log2"),
        weights=_UNTUNED,
        progress=False,
    )


def score_places(
    fit: PerlerFit,
    problem: Problem,
    config: dict[str, Any],
    regions: tuple[np.ndarray, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Tidy rows: errors of the likeliest place and of the mean, coverage of credible regions.

    ``regions``: annotated layer or region of each cell and of each location.
    """
    options, truth = config["located"], problem.true_positions
    assert truth is not None
    depth = options["depth_axis"].get(problem.name)
    methods = {
        "as the model says": Tempering(),
        "tempered on the map": calibrate_on_map(
            fit, n_cells=options["map_cells"], seed=config["seed"]
        ).tempering,
    }
    for method, tempering in methods.items():
        found = cell_positions(fit, tempering=tempering, medoid=False)
        levels = found.credible_levels(truth)
        assert found.top is not None
        assert found.mean is not None
        rows = {f"coverage_{level:g}": (levels < level).mean() for level in options["levels"]}
        for name, places in (("mode", found.top), ("mean", found.mean)):
            rows |= _errors(name, places, truth, depth)
        tops = pd.Index(fit.reference.locations).get_indexer(found.table["top_location"])
        rows["mode_in_its_region"] = (regions[1][tops] == regions[0]).mean()
        rows["share_of_map_90"] = found.table["n_locations_90"].median() / len(problem.coordinates)
        rows |= {"temperature": tempering.temperature, "spread": tempering.spread}
        yield from _tidy(problem.name, method, rows)
    # What one can do without expression, and what nobody can do better than: the map holds other cells.
    chance = np.random.default_rng(config["seed"]).integers(0, len(problem.coordinates), len(truth))
    rows = _errors("mode", problem.coordinates[chance], truth, depth)
    rows |= _errors("mean", np.broadcast_to(problem.coordinates.mean(axis=0), truth.shape), truth, depth)
    rows["mode_in_its_region"] = (regions[1][chance] == regions[0]).mean()
    yield from _tidy(problem.name, "chance", rows)
    nearest = cKDTree(problem.coordinates).query(truth)[1]
    rows = _errors("mode", problem.coordinates[nearest], truth, depth)
    rows["mode_in_its_region"] = (regions[1][nearest] == regions[0]).mean()
    yield from _tidy(problem.name, "nearest cell of the map", rows)


def _errors(name: str, places: np.ndarray, truth: np.ndarray, depth: int | None) -> dict[str, float]:
    """Median distance to the truth, in the plane and, where there is one, along the axis of depth."""
    off = places - truth
    found = {f"error_{name}": float(np.median(np.linalg.norm(off, axis=1)))}
    if depth is not None:
        found[f"depth_error_{name}"] = float(np.median(np.abs(off[:, depth])))
    return found


def _tidy(dataset: str, method: str, rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for metric, value in rows.items():
        yield {"dataset": dataset, "method": method, "metric": metric, "value": float(value)}
