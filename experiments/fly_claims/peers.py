"""Stripes in what other programs predict from all landmarks, each at its default knob or at a given one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

import experiments.compare
from experiments.common import load_config
from experiments.compare.contract import Cells, Reference, Task
from experiments.compare.problems import Problem
from experiments.compare.runner import Method, configured_methods, missing, prepared, run_method
from perler_jax.datasets import FlyEmbryo

__all__ = ["predicted_by_peers"]


@dataclass(frozen=True, eq=False)
class _InTheFit(Problem):
    """One task: any genes, landmarks among them, from the whole reference."""

    def task(self, fold: int) -> Task:
        landmarks = np.isfinite(self.values).all(axis=0)
        linear = self.values[:, landmarks]
        names = self.cells.genes
        reference = Reference(linear, np.log2(1.0 + linear), None, names[landmarks], self.coordinates)
        return Task(self.cells, reference, names[self.folds[fold]])


def predicted_by_peers(
    fly: FlyEmbryo, genes: list[str], runs: dict[str, dict[str, Any]]
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """What each peer predicts of some genes, and why others are missing.

    Args:
        fly: the embryo.
        genes: of the cells; some may be landmarks.
        runs: label -> name of the method in experiments/compare, and its knob where the default is not meant.

    Returns:
        label -> (locations, genes) log expression, and label -> reason.
    """
    methods = {
        method.name: method for method in configured_methods(load_config(experiments.compare.__file__))
    }
    problem = _problem(fly, genes)
    found: dict[str, pd.DataFrame] = {}
    skipped: dict[str, str] = {}
    with prepared(problem) as tasks:
        for label, wanted in runs.items():
            method = _at_one_knob(methods[wanted["method"]], wanted)
            reason = missing(method, "fly")
            if reason is None:
                try:
                    values = run_method(method, problem, tasks).values[0][:, problem.folds[0]]
                    found[label] = pd.DataFrame(values, columns=genes, index=fly.reference.obs_names)
                    continue
                except RuntimeError as error:
                    reason = f"failed: {error}"
            skipped[label] = reason
    return found, skipped


def _at_one_knob(method: Method, wanted: dict[str, Any]) -> Method:
    knob = wanted.get("knob", method.candidates[0] if method.candidates else None)
    return replace(method, candidates=(knob,))


def _problem(fly: FlyEmbryo, genes: list[str]) -> Problem:
    landmarks = list(fly.reference.var_names)
    names = landmarks + [gene for gene in genes if gene not in landmarks]
    totals = fly.cells.obs["norm_total"].to_numpy(np.float64)[:, None]
    counts = np.asarray(fly.cells[:, names].X.todense(), np.float64)
    values = np.full((fly.reference.n_obs, len(names)), np.nan)
    values[:, : len(landmarks)] = fly.reference.to_df().to_numpy(np.float64)
    return _InTheFit(
        name="fly_stripes",
        cells=Cells(np.log2(1.0 + counts * totals.max() / totals), None, np.array(names)),
        values=values,
        totals=None,
        coordinates=np.asarray(fly.reference.obsm["spatial"], np.float64),
        unit="µm",
        folds=[np.array([names.index(gene) for gene in genes])],
    )
