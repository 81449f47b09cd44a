"""Peak memory of one pass over all genes, in a process of its own: ``... memory FIT CELLS plain|summary``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from anndata import AnnData

from experiments.common import peak_rss_gb
from perler_jax import PerlerFit, load_fit, read_cells
from perler_jax.trust.conformal import learn_intervals
from perler_jax.trust.predictor import landmark_table
from perler_jax.trust.summary import held_out_patterns, summarise

__all__ = ["compare_memory"]


def compare_memory(fit: PerlerFit, cells: AnnData) -> dict[str, Any]:
    """Peak resident memory and time of a plain reconstruction and of the summary with intervals."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "fit.npz", Path(folder) / "cells.h5ad"
        fit.save(paths[0])
        cells.write_h5ad(paths[1])
        found = {kind: _measure(*paths, kind) for kind in ("plain", "summary")}
    return {**found, "ratio": found["summary"]["peak_rss_gb"] / found["plain"]["peak_rss_gb"]}


def _measure(fit: Path, cells: Path, kind: str) -> dict[str, float]:
    command = [sys.executable, "-m", "experiments.trust.memory", str(fit), str(cells), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _main() -> None:
    fit = load_fit(sys.argv[1], cells=read_cells(sys.argv[2]))
    start = time.process_time()
    if sys.argv[3] == "plain":
        fit.reconstruct()
    else:
        landmarks = landmark_table(fit, fit.expression())
        intervals = learn_intervals(*held_out_patterns(fit, landmarks), landmarks.reference)
        summarise(fit, intervals=intervals)
    print(json.dumps({"peak_rss_gb": peak_rss_gb(), "cpu_seconds": time.process_time() - start}))


if __name__ == "__main__":
    _main()
