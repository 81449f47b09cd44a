"""The benchmarks measure what they say: the dense formula agrees, exponents and memory are recovered."""

import subprocess
import sys

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.benchmarks import dense, formula, growth
from experiments.benchmarks.job import cpu_by_stage
from experiments.benchmarks.measure import Row, Timing, peak_memory, ratio_rows
from experiments.benchmarks.problem import draw_counts, sides, write_counts
from experiments.benchmarks.record import Record
from experiments.benchmarks.targets import markdown
from experiments.benchmarks.worker import measure
from perler_jax.em import fit_em
from perler_jax.mixture import expected_statistics

SIZE = {"cells": 60, "locations": 45, "metagenes": 5, "genes": 7, "dtype": "float32"}


@pytest.fixture(scope="module")
def problem():
    return sides(60, 45, 5)


def test_dense_formula_gives_the_same_statistics_and_fit(problem):
    ours, theirs = expected_statistics(*problem), formula.statistics(*problem)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4), ours, theirs
    )
    fitted = fit_em(*problem[1:]).params, formula.em(*problem[1:]).params
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3), *fitted)


@pytest.mark.parametrize("operation", ["gradient", "tuning points", "reconstruction"])
def test_every_variant_of_a_piece_of_work_gives_the_same(operation):
    works = dense.works_of({**SIZE, "operation": operation})
    first, *others = (jax.tree.leaves(work()) for work in works.values())
    assert len(others) == (2 if operation == "gradient" else 1)
    for other in others:
        for one, same in zip(first, other, strict=True):
            np.testing.assert_allclose(one, same, rtol=1e-3, atol=1e-3 * float(jnp.abs(one).max()))


def test_exponents_are_recovered_with_their_error():
    sizes = [(n, k) for n in (100, 200, 400, 800) for k in (50, 100, 200, 400)]
    noise = np.exp(np.random.default_rng(0).normal(0, 0.02, len(sizes)))
    seconds = [1e-7 * n * k**0.8 * each for (n, k), each in zip(sizes, noise, strict=True)]
    found = {
        str(size): Timing(np.array([each, 9.0]), np.array([each, 9.0]))
        for size, each in zip(sizes, seconds, strict=True)
    }
    rows = {row.quantity: row for row in growth.fit_exponents(("cells", "locations"), sizes, found)}
    for name, true in (("cells", 1.0), ("locations", 0.8)):
        row = rows[f"exponent of {name} alone wall"]
        error = row.high - row.value
        assert 0.001 < error < 0.03
        assert abs(row.value - true) < 4 * error


def test_ratios_are_of_neighbouring_repeats():
    drifting = np.array([1.0, 2.0, 4.0])
    rows = ratio_rows("a / b", Timing(3 * drifting, drifting), Timing(drifting, drifting))
    assert [(row.quantity, row.value, row.low) for row in rows] == [("a / b wall", 3, 3), ("a / b cpu", 1, 1)]


def test_cpu_time_is_shared_out_to_stages():
    seen = np.array([[0, 0], [1, 2], [2, 4], [3, 4.5], [4, 5]])
    found = cpu_by_stage({"first": 2.0, "second": 1.0, "third": 1.0}, seen)
    assert found == {"first": (2.0, 4.0), "second": (1.0, 0.5), "third": (1.0, 0.5)}


def test_peak_memory_sees_what_was_held_for_a_moment():
    with peak_memory() as memory:
        held = np.ones(40_000_000)  # 0.32 GB
        del held
    assert 0.3 < memory.above < 0.5


def test_a_case_replaces_its_own_figures_only(tmp_path):
    record = Record(tmp_path / "results" / "table.csv")
    one, other = {"benchmark": "kernel", "cells": 3}, {"benchmark": "kernel", "cells": 4, "dtype": "float64"}
    assert not record.has(one)
    record.put(one, [Row("seconds", 1.0, "s"), Row("ratio", 2.0)])
    record.put(other, [Row("seconds", 5.0, "s")])
    record.put(one, [Row("seconds", 7.0, "s")])
    table = record.table()
    assert record.has(one)
    assert sorted(zip(table["cells"], table["quantity"], table["value"], strict=True)) == [
        (3, "seconds", 7.0),
        (4, "seconds", 5.0),
    ]
    assert list(tmp_path.glob("results/*")) == [record.path]


def test_cases_that_the_settings_no_longer_have_are_forgotten(tmp_path):
    record = Record(tmp_path / "table.csv")
    old, new, other = ({"benchmark": name, "cells": n} for name, n in (("job", 3), ("job", 4), ("store", 3)))
    for case in (old, new, other):
        record.put(case, [Row("seconds", 1.0, "s")])
    record.keep_only("job", [new, {"benchmark": "job", "cells": 5}])
    assert [record.has(case) for case in (old, new, other)] == [False, True, True]


def test_counts_follow_the_truth_and_are_written_block_by_block(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    truth = ad.AnnData(rng.random((3, 8)), var=pd.DataFrame(index=[f"g{i}" for i in range(8)]))
    counts = draw_counts(truth, 4000, 50.0, rng)
    assert counts.sum(axis=1).mean() == pytest.approx(50, rel=0.02)
    assert counts.sum(axis=1).var() == pytest.approx(50, rel=0.1)
    rate = np.random.default_rng(0).lognormal(0.0, 0.9, 8) * (truth.X + 0.05)
    expected = (rate / rate.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(counts.sum(axis=0).A1 / counts.sum(), expected, atol=0.005)
    monkeypatch.setattr("experiments.benchmarks.problem._BLOCK", 7)
    write_counts(tmp_path / "cells.h5ad", truth, 20, 50.0, seed=1)
    written = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert written.shape == (20, 8)
    assert (np.asarray(written.X.sum(axis=1)) > 20).all()


def test_the_table_says_what_was_wanted(tmp_path):
    record = Record(tmp_path / "table.csv")
    case = {"benchmark": "memory", "cells": 200_000, "locations": 50_000, "dtype": "float32"}
    record.put(case, [Row("em_pass peak above inputs", 0.5, "GB")])
    assert markdown(record.table()).splitlines()[2:] == [
        "| one pass, 200k cells x 50k locations x 50 metagenes, peak above inputs | 0.5 GB |  | <= 1 GB |"
    ]


@pytest.mark.parametrize(
    "case",
    [
        {**SIZE, "benchmark": "memory"},
        {**SIZE, "benchmark": "dense", "operation": "em", "part": "memory", "variants": ["dense"]},
        {
            **{"benchmark": "growth", "axis": "genes", "repeats": 1},
            **{"cells": 60, "locations": 45, "all_genes": [2, 4, 8]},
        },
        {
            "benchmark": "job",
            "source": "simulated",
            "cells": 90,
            "locations": 110,
            "genes": 40,
            "landmarks": 6,
        },
    ],
    ids=lambda case: case["benchmark"],
)
def test_cases_give_positive_figures(case):
    rows = measure(case)
    assert len(rows) >= 1
    assert all(np.isfinite(row["value"]) for row in rows)
    assert any(row["unit"] in ("s", "GB") or "exponent" in row["quantity"] for row in rows)


def test_command_measures_keeps_and_draws(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmarks", "kernel", "--fast", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--only", "float32"], capture_output=True, text=True, check=True)
    assert "em_pass / floor wall" in done.stdout
    table = Record(tmp_path / "benchmarks.csv").table()
    assert set(table["dtype"]) == {"float32"}
    assert {"benchmarks.csv", "provenance.json", "kernel.png"} <= {path.name for path in tmp_path.iterdir()}
