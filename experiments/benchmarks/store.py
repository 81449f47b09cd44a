"""All genes of many sparse cells to a store on disk: peak memory, and a kill half-way.

The cells lie in an h5ad file and are never read whole. A first process is killed when half the blocks are
done; a second finishes. The peak is that of either.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from experiments.benchmarks.measure import Row, peak_memory, timed
from experiments.benchmarks.problem import embryo, write_counts
from perler_jax import fit_perler, load_fit, read_cells

__all__ = ["cases", "measure"]


def cases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sizes."""
    return [{**size, "dtype": "float32"} for size in config["sizes"]]


def measure(case: dict[str, Any]) -> list[Row]:
    """Write the cells, fit, reconstruct and kill, resume, compare with some genes made directly."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="store-") as name:
        folder = Path(name)
        counts, saved, target = folder / "cells.h5ad", folder / "fit.npz", folder / f"all.{case['format']}"
        sizes = {each: case[each] for each in ("locations", "genes", "landmarks")}
        made = embryo(cells=2, **sizes, seed=0)
        write_counts(counts, made.truth, case["cells"], case["depth"], seed=1)
        made.reference.write_h5ad(folder / "reference.h5ad")
        rows.append(Row("counts on disk", counts.stat().st_size / 1e9, "GB"))
        fitted = _run("fit", counts, folder / "reference.h5ad", saved)
        rows += [Row(**row) for row in fitted["rows"]]
        killed = _killed_half_way(counts, saved, target, case["genes"])
        rows.append(Row("blocks kept by the killed process", killed))
        resumed = _run("reconstruct", counts, saved, target)
        rows += [Row(**row) for row in resumed["rows"]]
        fit = load_fit(saved, cells=read_cells(counts, backed=True))
        some = [str(gene) for gene in made.truth.var_names[:: max(1, case["genes"] // 5)]]
        written = ad.read_h5ad(target, backed="r") if target.suffix == ".h5ad" else ad.read_zarr(target)
        stored = np.asarray(written[:, some].to_memory().X)
        difference = np.abs(stored - np.asarray(fit.reconstruct(some).X)).max()
        rows.append(Row("largest difference from a direct reconstruction", float(difference)))
    return rows


def _command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "experiments.benchmarks.store", *map(str, words)]


def _run(*words: Any) -> dict[str, Any]:
    done = subprocess.run(_command(*words), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _killed_half_way(counts: Path, saved: Path, target: Path, genes: int) -> int:
    """Blocks that were there when the process was killed, no less than about half of all."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    process = subprocess.Popen(_command("reconstruct", counts, saved, target), stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            blocks = sorted(unfinished.glob("block*.npz"))
            if blocks:
                with np.load(blocks[0], allow_pickle=False) as first:
                    width = first["values"].shape[1]
                if 2 * len(blocks) * width >= genes:
                    break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return len(list(unfinished.glob("block*.npz")))


def _main() -> None:
    """One step in a process of its own: ``fit COUNTS REFERENCE FIT`` or ``reconstruct COUNTS FIT TARGET``."""
    step, counts, second, third = sys.argv[1:]
    rows: list[Row] = []
    with peak_memory() as memory, timed(step, rows):
        cells = read_cells(counts, backed=True)
        if step == "fit":
            fit_perler(cells, ad.read_h5ad(second), weights=(0.1, 0.3), progress=False).save(third)
        else:
            load_fit(second, cells=cells).reconstruct_to(third)
    rows.append(Row(f"{step} peak resident", memory.peak, "GB"))
    print(json.dumps({"rows": [vars(row) for row in rows]}))


if __name__ == "__main__":
    _main()
