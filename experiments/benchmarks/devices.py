"""The same work on 1, 2, 8 devices that the processor is made to show: what spreading costs; does it agree?

Forced devices share the cores that there are: past their number nothing can become faster.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.benchmarks.measure import Row, interleaved, ratio_rows, seconds_rows
from experiments.benchmarks.problem import embryo, sides
from perler_jax.em import fit_em, initial_params
from perler_jax.em_loop import EMResult
from perler_jax.held_out.folds import HeldOutFits, fit_held_out, make_folds
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.landmarks import align_landmarks
from perler_jax.preprocessing import centre, preprocess_cells, reference_landmarks
from perler_jax.scale.devices import request_cpu_devices, use_devices
from perler_jax.scale.spread import shard_cells

__all__ = ["cases", "measure"]


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """One process per number of devices: JAX fixes it when it starts."""
    shared = {**config["size"], "folds": config["folds"], "repeats": config["repeats"], "dtype": "float32"}
    return [{**shared, "devices": devices} for devices in config["devices"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """EM and held-out fits on so many devices and on one of them, in turn; the largest difference."""
    request_cpu_devices(case["devices"])
    _, x, r = sides(case["cells"], case["locations"], case["metagenes"])
    start = initial_params(x, r)

    def em() -> EMResult:
        cells, present = shard_cells(x)
        return fit_em(cells, r, start, cell_weights=present)

    def em_spread() -> EMResult:
        with use_devices(case["devices"]):
            return jax.block_until_ready(em())

    y, h = _landmarks(case)
    folds = make_folds(y.shape[1])[: case["folds"]]
    n_metagenes = min(case["metagenes"], y.shape[1] - 1)

    def held_out() -> HeldOutFits:
        return fit_held_out(y, h, folds, n_metagenes=n_metagenes)

    def held_out_spread() -> HeldOutFits:
        with use_devices(case["devices"]):
            return jax.block_until_ready(held_out())

    works = {"em": em, "em spread": em_spread, "held_out": held_out, "held_out spread": held_out_spread}
    found = interleaved(works, case["repeats"])
    rows = []
    for name in ("em", "held_out"):
        rows += seconds_rows(name, found[name], "one device")
        rows += seconds_rows(name, found[f"{name} spread"], f"{case['devices']} devices")
        rows += ratio_rows(f"{name}: spread / one device", found[f"{name} spread"], found[name])
    one, spread = (each.params.sensitivity for each in (em(), em_spread()))
    return [*rows, Row("em: largest difference of sensitivity", float(np.abs(one - spread).max()))]


def _landmarks(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Centred log2 landmarks of a simulated embryo of the fly's shape, both sides."""
    made = embryo(
        cells=min(case["cells"], 1297),
        locations=min(case["locations"], 3039),
        genes=case["genes"],
        landmarks=case["landmarks"],
        seed=0,
    )
    cells, atlas = as_cells(made.cells), as_reference(made.reference)
    landmarks = align_landmarks(cells, atlas)
    y = preprocess_cells(cells).apply(cells.dense(landmarks))
    return centre(np.asarray(y, np.float64))[0], reference_landmarks(atlas, landmarks)
