"""Fits of the fly embryo that have never seen some genes: in no fold, not in tuning, not in calibration."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from tqdm import tqdm

from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fly
from perler_jax.datasets import FlyEmbryo
from perler_jax.held_out.folds import make_folds

__all__ = ["fits_without_genes", "fly_of", "whole_fit"]


def fly_of(folder: Path, config: dict[str, Any]) -> FlyEmbryo:
    """The embryo, thinned where the configuration says so."""
    fly = load_fly(folder)
    cells = fly.cells[:: config.get("every_cell", 1)].copy()
    every = config.get("every_location", 1)
    binary = None if fly.binary_reference is None else fly.binary_reference.iloc[::every]
    return FlyEmbryo(cells, fly.reference[::every].copy(), fly.mirror[::every], binary)


def whole_fit(fly: FlyEmbryo, config: dict[str, Any], reference: AnnData | None = None) -> PerlerFit:
    """A fit with held-out landmarks; of another reference where one is given."""
    settings = PerlerSettings(
        seed=config["seed"], folds=config.get("inner_folds"), n_metagenes=config.get("n_metagenes", 60)
    )
    return fit_perler(
        fly.cells,
        fly.reference if reference is None else reference,
        settings=settings,
        totals=fly.cells.obs["norm_total"].to_numpy(),
        progress=False,
    )


def fits_without_genes(
    fly: FlyEmbryo, config: dict[str, Any], *, progress: bool
) -> Iterator[tuple[int, list[str], PerlerFit]]:
    """(fold, its landmarks, a fit to the reference without them)."""
    names = np.asarray(fly.reference.var_names)
    folds = make_folds(len(names), 10, seed=config["seed"])[: config["folds"]]
    bar = functools.partial(tqdm, desc="folds of genes", unit="fold", disable=not progress)
    for number, fold in bar(list(enumerate(folds))):
        kept = np.setdiff1d(np.arange(len(names)), fold)
        yield number, list(names[fold]), whole_fit(fly, config, fly.reference[:, kept].copy())
