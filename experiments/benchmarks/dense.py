"""Each piece of the method against the dense formula: time in one process in turn, memory in one each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import formula
from experiments.benchmarks.measure import Row, interleaved, peak_memory, ratio_rows, seconds_rows
from experiments.benchmarks.problem import sides
from perler_jax.density import log_density
from perler_jax.em import fit_em
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.weights import WeightParams, distance_space, weighted_means

__all__ = ["cases", "measure", "works_of"]

_POINTS = 16  # of alpha and beta per pass, as tuning has them


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """For every size and piece of work: one process for the times, one per variant for the memory."""
    found = []
    for size in config["sizes"]:
        for operation in config["operations"]:
            others = ["dense"]
            if operation == "gradient" and size["cells"] * size["locations"] <= config["most_triples"]:
                others.append("triples")
            shared = {**size, "operation": operation, "dtype": "float32"}
            # One other at a time: gigabytes given back by one of them slow down whatever is measured next.
            for other in others:
                variants = ["streamed", other]
                found.append(shared | {"part": "time", "variants": variants, "repeats": config["repeats"]})
            found += [shared | {"part": "memory", "variants": [variant]} for variant in ["streamed", *others]]
    return found


def measure(case: dict[str, Any]) -> list[Row]:
    """Seconds and their ratio to the dense formula's, or GB above the inputs."""
    works = works_of(case)
    name = case["operation"]
    if case["part"] == "memory":
        variant = case["variants"][0]
        with peak_memory() as memory:
            jax.block_until_ready(works[variant]())
        return [Row(f"{name} peak above inputs", memory.above, "GB", variant)]
    found = interleaved({each: works[each] for each in case["variants"]}, case["repeats"])
    rows = [row for variant, timing in found.items() for row in seconds_rows(name, timing, variant)]
    for variant in case["variants"][1:]:
        rows += ratio_rows(f"{name}: streamed / {variant}", found["streamed"], found[variant])
    return rows


def works_of(case: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """The same piece of work, streamed and dense."""
    params, x, r = sides(case["cells"], case["locations"], case["metagenes"], case["dtype"])
    if case["operation"] == "em_pass":
        return {
            "streamed": lambda: expected_statistics(params, x, r),
            "dense": lambda: formula.statistics(params, x, r),
        }
    if case["operation"] == "em":
        return {"streamed": lambda: fit_em(x, r), "dense": lambda: formula.em(x, r)}
    if case["operation"] == "gradient":
        return {
            "streamed": lambda: _gradient(params, x, r),
            "dense": lambda: formula.gradient(params, x, r),
            "triples": lambda: formula.triple_gradient(params, x, r),
        }
    tuning = case["operation"] == "tuning points"
    steps = jnp.linspace(0.05, 0.2, _POINTS if tuning else 1, dtype=x.dtype)
    weights = WeightParams(steps, 2 * steps)
    shape = case["cells"], 1 if tuning else case["genes"]
    values = jnp.asarray(np.random.default_rng(1).normal(size=shape), x.dtype)
    near, far = distance_space(params, x, r)
    return {
        "streamed": lambda: weighted_means(weights, near, far, None, values),
        "dense": lambda: formula.means(weights, near, far, values),
    }


@jax.jit
def _gradient(params: MappingParams, x: jax.Array, r: jax.Array) -> MappingParams:
    return jax.grad(lambda at: log_density(at, x, r).sum())(params)
