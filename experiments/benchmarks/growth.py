"""How time grows: exponents fitted to the fastest of several repeats, all sizes in turn in one process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import Row, Timing, interleaved
from experiments.benchmarks.problem import sides
from perler_jax.mixture import expected_statistics
from perler_jax.weights import WeightParams, distance_space, weighted_means

__all__ = ["cases", "fit_exponents", "measure"]


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """One case per axis: all its sizes belong to one fit."""
    return [{"axis": axis, "repeats": config["repeats"], **config[axis]} for axis in config["axes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds at every size and the exponents with their standard errors."""
    if case["axis"] == "pairs":
        sizes = list(itertools.product(case["all_cells"], case["all_locations"]))
        works = {f"{n} x {k}": _em_pass(n, k, case["metagenes"]) for n, k in sizes}
        found = interleaved(works, case["repeats"])
        pairs = [(n * k,) for n, k in sizes]
        return [
            *_seconds(found),
            *fit_exponents(("cells x locations",), pairs, found),
            *fit_exponents(("cells", "locations"), sizes, found),
        ]
    make = _em_pass if case["axis"] == "metagenes" else _means
    values = case["all_" + case["axis"]]
    works = {str(value): make(case["cells"], case["locations"], value) for value in values}
    found = interleaved(works, case["repeats"])
    return [*_seconds(found), *fit_exponents((case["axis"],), [(value,) for value in values], found)]


def fit_exponents(
    names: tuple[str, ...], sizes: Sequence[tuple[int, ...]], found: dict[str, Timing]
) -> list[Row]:
    """Least squares of ln(seconds) on ln(size), with standard errors as low and high.

    Args:
        names: of the axes that vary.
        sizes: one tuple per timing, in their order.
        found: timings.
    """
    design = np.column_stack([np.log(np.asarray(sizes, float)), np.ones(len(sizes))])
    rows = []
    for clock in ("wall", "cpu"):
        seconds = np.log([getattr(timing, clock).min() for timing in found.values()])
        slopes, _, _, _ = np.linalg.lstsq(design, seconds, rcond=None)
        residual = seconds - design @ slopes
        variance = residual @ residual / max(len(seconds) - design.shape[1], 1)
        errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
        for name, slope, error in zip(names, slopes, errors, strict=False):
            quantity = f"exponent of {name}" + (" alone" if len(names) > 1 else "")
            rows.append(Row(f"{quantity} {clock}", slope, "", "", slope - error, slope + error, len(seconds)))
    return rows


def _seconds(found: dict[str, Timing]) -> list[Row]:
    return [
        Row(f"seconds {clock} fastest", getattr(timing, clock).min(), "s", name, repeats=len(timing.wall))
        for name, timing in found.items()
        for clock in ("wall", "cpu")
    ]


def _em_pass(cells: int, locations: int, metagenes: int) -> Callable[[], Any]:
    params, x, r = sides(cells, locations, metagenes)
    return lambda: expected_statistics(params, x, r)


def _means(cells: int, locations: int, genes: int) -> Callable[[], jax.Array]:
    """Reconstruction of one block of genes from 60 metagenes."""
    params, x, r = sides(cells, locations, 60)
    near, far = distance_space(params, x, r)
    values = jnp.asarray(np.random.default_rng(1).normal(size=(cells, genes)), jnp.float32)
    point = WeightParams.single(0.1, 0.3)
    return lambda: weighted_means(point, near, far, None, values)
