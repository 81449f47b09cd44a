"""Seurat's transfer anchors (Stuart et al. 2019) through Rscript: tables out, tables in."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.compare.contract import Cells, Prediction, Reference

_SCRIPT = Path(__file__).with_suffix(".R")


def version() -> str:
    """Of the package."""
    return _run("version")


def predict(cells: Cells, reference: Reference, genes: np.ndarray, dims: int) -> Prediction:
    """Predict; the knob is the number of dimensions of the CCA."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Seurat turns _ in gene names into -: numbers instead.
        for file, values in {
            "cells": cells.of(np.concatenate([reference.genes, genes])),
            "locations": reference.log,
        }.items():
            names = [f"gene{number}" for number in range(values.shape[1])]
            pd.DataFrame(values, columns=names).to_csv(folder / f"{file}.csv", index=False)
        _run(str(folder), str(min(dims, len(reference.genes) - 1)))
        predicted = pd.read_csv(folder / "predicted.csv")
    return Prediction(predicted.to_numpy())


def _run(*arguments: str) -> str:
    done = subprocess.run(
        ["Rscript", "--vanilla", str(_SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "rror" in line]
        raise RuntimeError(" ".join(said[-2:]) or done.stderr[-300:])
    return done.stdout.strip()
