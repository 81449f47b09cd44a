"""The comparison: nothing leaks, knobs are chosen without the scored genes, tables say what they mean."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from experiments.common import load_config
from experiments.compare import __main__ as compare_main
from experiments.compare.__main__ import _earlier
from experiments.compare.contract import Cells, load_cells, load_task, save_cells, save_task
from experiments.compare.problems import Problem, located_halves, make_problem
from experiments.compare.report import markdown, summary
from experiments.compare.runner import (
    Method,
    Run,
    configured_methods,
    missing,
    prepared,
    run_method,
    user_method,
)
from experiments.compare.scoring import bootstrap, choose, score
from perler_jax import simulate_embryo

ROOT = Path(compare_main.__file__).parents[2]


@pytest.fixture
def problem():
    """Nine genes of 12 cells and 10 locations; counts on both sides; cells are from known places."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(20.0, (12, 9)).astype(float)
    values = rng.poisson(15.0, (10, 9)).astype(float)
    coordinates = rng.normal(size=(10, 2))
    return Problem(
        name="small",
        cells=Cells(np.log2(1 + counts), counts, np.array([f"g{i}" for i in range(9)])),
        values=values,
        totals=values.sum(axis=1) + 100.0,
        coordinates=coordinates,
        unit="µm",
        folds=[np.array([0, 4, 8]), np.array([1, 3, 5]), np.array([2, 6, 7])],
        true_positions=coordinates[rng.integers(0, 10, 12)],
    )


def a_run(values, method=None, **positions):
    method = method or Method("m", "m", Path("m.py"))
    shape = 3, len(values)
    return Run(method, "1", np.asarray(values), positions, np.ones(shape), np.ones(shape), 0.1, {})


def test_nothing_of_a_held_out_gene_is_in_its_task(problem, tmp_path):
    task = problem.task(1)
    assert set(task.genes) == {"g1", "g3", "g5"}
    assert not set(task.genes) & set(task.reference.genes)
    # Another map of the held-out genes, brighter everywhere, changes not one number of what a method gets.
    # (Its molecules are part of the location's total, as in an experiment.)
    held = problem.folds[1]
    other = problem.values.copy()
    other[:, held] += np.random.default_rng(1).integers(1, 50, (10, 3))
    grown = (other - problem.values).sum(axis=1)
    changed = replace(problem, values=other, totals=problem.totals + grown)
    for name, each in (("a", problem), ("b", changed)):
        save_task(each.task(1), tmp_path / f"{name}.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_task_survives_its_file(problem, tmp_path):
    task = problem.task(2)
    save_task(task, tmp_path / "task.npz")
    save_cells(task.cells, tmp_path / "cells.npz")
    found = load_task(tmp_path / "task.npz", load_cells(tmp_path / "cells.npz"))
    for side in ("cells", "reference"):
        for name, value in vars(getattr(task, side)).items():
            np.testing.assert_array_equal(getattr(getattr(found, side), name), value, err_msg=name)
    np.testing.assert_array_equal(found.cells.of(found.genes), problem.cells.log[:, problem.folds[2]])
    np.testing.assert_allclose(found.reference.log, np.log2(1 + found.reference.linear))


def test_a_method_gets_all_genes_of_the_cells_and_folds_are_of_shared_ones():
    embryo = simulate_embryo(
        seed=0, n_locations=500, n_cells=400, n_genes=60, n_landmarks=30, unspatial_fraction=0
    )
    found = make_problem("simulated", None, {"seed": 0, "folds": 10})
    task = found.task(3)
    assert sorted(task.cells.genes) == sorted(embryo.cells.var_names)
    assert found.genes.tolist() == embryo.reference.var_names.tolist()
    assert set(task.reference.genes) | set(task.genes) == set(found.genes)
    # A gene that no map has is in the cells as it was counted.
    (name,) = set(found.cells.genes[-1:]) - set(found.genes)
    counts = embryo.cells[:, name].X.toarray().ravel()
    np.testing.assert_array_equal(task.cells.counts_of(np.array([name]))[:, 0], counts)
    few = task.cells.only(task.genes[::-1])
    np.testing.assert_array_equal(few.log, task.cells.of(task.genes[::-1]))
    assert few.genes.tolist() == task.genes[::-1].tolist()


def test_locations_are_brought_to_one_total_of_what_the_method_may_see(problem):
    linear = problem.task(0).reference.linear
    seen = problem.totals - problem.values[:, problem.folds[0]].sum(axis=1)
    kept = [1, 2, 3, 5, 6, 7]
    expected = [[problem.values[k, g] / seen[k] * np.median(seen) for g in kept] for k in range(10)]
    np.testing.assert_allclose(linear, expected)
    whole = problem.values / problem.totals[:, None] * np.median(problem.totals)
    np.testing.assert_allclose(2**problem.truth - 1, whole, rtol=1e-12)


def test_halves_share_no_cell_and_remember_places():
    counts = np.random.default_rng(0).poisson(3.0, (21, 6)).astype(np.float32)
    located = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=[f"g{i}" for i in range(6)]))
    located.obsm["spatial"] = np.arange(42.0).reshape(21, 2)
    found = located_halves("halves", located, "µm", {"seed": 3, "folds": 3})
    places = np.concatenate([found.true_positions, found.coordinates])
    assert {tuple(row) for row in places} == {tuple(row) for row in located.obsm["spatial"]}
    assert abs(len(found.true_positions) - len(found.coordinates)) == 1
    for row, place in zip(found.cells.counts, found.true_positions, strict=True):
        np.testing.assert_array_equal(row, counts[int(place[0]) // 2])


def test_a_fold_has_no_say_in_its_own_knob():
    rng = np.random.default_rng(5)
    table = rng.normal(size=(4, 9))
    folds = [np.array([0, 1, 2]), np.array([3, 8]), np.array([4, 5, 6, 7])]
    for number, fold in enumerate(folds):
        others = [g for g in range(9) if g not in fold]
        means = [sum(row[g] for g in others) / len(others) for row in table]
        assert choose(table, folds)[number] == int(np.argmax(means))
        loud = table.copy()
        loud[1, fold] = 100.0  # only its own genes like candidate 1
        assert choose(loud, folds)[number] == choose(table, folds)[number]


def test_scores_take_each_fold_from_its_own_candidate(problem):
    truth = problem.truth
    noise = np.random.default_rng(1).uniform(0.0, 3.0, truth.shape)
    good_but_for_fold_0 = truth.copy()
    good_but_for_fold_0[:, problem.folds[0]] = noise[:, problem.folds[0]]
    mode = np.stack([np.stack([problem.true_positions + 3.0, problem.true_positions])] * 3)
    method = Method("m", "m", Path("m.py"), knob="k", candidates=(0, 1))
    scored = score(a_run([noise, good_but_for_fold_0], method, mode=mode), problem)
    assert scored.chosen.tolist() == [1, 1, 1]
    expected = [np.corrcoef(good_but_for_fold_0[:, g], truth[:, g])[0, 1] for g in range(9)]
    np.testing.assert_allclose(scored.by_gene["PCC"], expected, atol=1e-9)
    np.testing.assert_allclose(scored.by_gene["RMSE"][problem.folds[1]], 0.0, atol=1e-6)
    np.testing.assert_allclose(scored.position_errors["mode"], 0.0, atol=1e-12)


def test_a_constant_prediction_scores_zero_and_a_negative_one_has_no_ssim(problem):
    constant = np.full((1, *problem.truth.shape), 2.0)
    found = score(a_run(constant), problem).by_gene
    np.testing.assert_array_equal(found["PCC"], 0.0)
    np.testing.assert_allclose(found["RMSE"], np.sqrt(2))
    assert np.isfinite(found["SSIM"]).all()
    below = problem.truth[None].copy()
    below[0, 0, 4] = -0.5
    found = score(a_run(below), problem).by_gene
    assert np.flatnonzero(np.isnan(found["SSIM"])).tolist() == [4]
    assert np.flatnonzero(np.isnan(found["JS"])).tolist() == [4]
    assert np.isfinite(found["PCC"]).all()


def test_bootstrap_has_the_width_of_the_standard_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap(values, 4000, seed=1)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert bootstrap(values, 1500, seed=1) == bootstrap(values, 1500, seed=1)


def tidy_rows(method, metric, values):
    genes = [f"g{number}" for number in range(len(values))]
    return pd.DataFrame({"method": method, "gene": genes, "metric": metric, "value": values})


def test_table_has_paired_differences_and_ranks():
    rng = np.random.default_rng(2)
    base = rng.uniform(size=40)
    parts = []
    # The first one is better by 0.1 at every gene: paired, the interval is a point; unpaired it is wide.
    for name, shift in {"ours": 0.0, "ours_paper": 0.1, "worse": -0.2}.items():
        parts += [tidy_rows(name, "PCC", base + shift), tidy_rows(name, "SSIM", base + shift)]
        parts += [tidy_rows(name, "RMSE", 1 - base - shift), tidy_rows(name, "JS", 1 - base - shift)]
    parts += [tidy_rows("negative", "PCC", base - 0.3), tidy_rows("negative", "RMSE", 1.5 - base)]
    known = {"label": "L", "version": "1", "tuned": "none", "cpu_seconds_per_fold": 1.0, "peak_gb": 0.5}
    runs = {name: known for name in ("ours", "ours_paper", "worse", "negative")}
    runs["absent"] = {"label": "Absent", "skipped": "not installed"}
    table = summary(pd.concat(parts), runs, draws=500, seed=0).set_index("method")
    assert table.index.tolist() == ["ours_paper", "ours", "worse", "negative"]
    better = table.loc["ours_paper", ["difference", "difference_low", "difference_high"]].astype(float)
    np.testing.assert_allclose(better, 0.1, atol=1e-12)
    assert table.loc["ours_paper", "genes_better"] == 40
    from_paper = table.loc["worse", ["from_paper", "from_paper_low", "from_paper_high"]].astype(float)
    np.testing.assert_allclose(from_paper, -0.3, atol=1e-12)
    assert table.loc["ours_paper", "AS"] == 1.0
    assert table.loc["worse", "AS"] == pytest.approx(1 / 3)
    assert pd.isna(table.loc["negative", "AS"])
    text = markdown(table.reset_index(), runs, "µm")
    assert "- Absent: not installed" in text
    assert "+0.100 (+0.100 to +0.100)" in text


METHOD = """
import numpy as np
from experiments.compare.__main__ import _earlier
from experiments.compare.contract import Prediction

def version():
    return "7.1"

def predict(cells, reference, genes, knob, *, shift=0.0):
    rows = len(reference.linear)
    values = np.tile(cells.of(genes).mean(axis=0), (rows, 1)) + shift
    def mapping():
        weights = np.zeros((len(cells.log), rows))
        weights[:, 2] = 1.0
        return weights
    return Prediction(values, mapping)
"""


def test_a_method_in_a_process_of_its_own(problem, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    method = replace(user_method(f"mine={file}"), options={"shift": 0.25})
    with prepared(problem) as tasks:
        run = run_method(method, problem, tasks)
    assert (run.version, run.values.shape) == ("7.1", (1, 10, 9))
    expected = np.tile(problem.cells.log.mean(axis=0) + 0.25, (10, 1))
    np.testing.assert_allclose(run.values[0], expected, rtol=1e-6)
    assert (run.seconds > 0).all()
    assert 0.005 < run.peak_gb < 4
    errors = score(run, problem).position_errors
    expected = np.linalg.norm(problem.coordinates[2] - problem.true_positions, axis=1)
    np.testing.assert_allclose(errors["mode"], expected)
    np.testing.assert_allclose(errors["mean"], expected)


def test_a_stopped_method_goes_on_from_its_finished_fits(problem, tmp_path):
    """It dies at its second fold; called again it makes only what is missing, and the same of it."""
    file, calls, kept = tmp_path / "mine.py", tmp_path / "calls", tmp_path / "kept"
    count = f"    with open({str(calls)!r}, 'a') as f: f.write('+')\n    import os\n"
    dies = f"    if os.path.getsize({str(calls)!r}) == 2: os._exit(9)\n"
    file.write_text(METHOD.replace("    rows =", f"{count}{dies}    rows ="))
    method = user_method(f"mine={file}")
    with prepared(problem) as tasks:
        with pytest.raises(RuntimeError, match="exit code 9"):
            run_method(method, problem, tasks, kept)
        resumed = run_method(method, problem, tasks, kept)
        assert len(calls.read_text()) == len(problem.folds) + 1
        again = run_method(method, problem, tasks, kept)
        assert len(calls.read_text()) == len(problem.folds) + 1, "nothing is left to run"
        whole = run_method(method, problem, tasks)
        for run in (resumed, again):
            np.testing.assert_array_equal(run.values, whole.values)
            assert run.peak_gb > 0.005
        np.testing.assert_array_equal(resumed.seconds, again.seconds)
        record = json.loads((kept / "small" / "mine" / "code.json").read_text())
        assert {"experiments/compare/serve.py", "experiments/compare/contract.py"} <= set(
            record["files"].split()
        )
        assert run.code == record
        older = json.dumps(record | {"sha256": "0"})
        (kept / "small" / "mine" / "code.json").write_text(older)
        with pytest.raises(RuntimeError, match="older ones"):
            run_method(method, problem, tasks, kept)
        with pytest.raises(RuntimeError, match="found others"):
            run_method(replace(method, options={"shift": 1.0}), problem, tasks, kept)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no anchors')", "no anchors"),
        ("return Prediction(cells.log)", "expected finite predictions"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_failing_method_says_why(problem, tmp_path, body, said):
    file = tmp_path / "bad.py"
    head = "from experiments.compare.contract import Prediction\n"
    file.write_text(f"{head}def predict(cells, reference, genes, knob):\n    {body}\n")
    with prepared(problem) as tasks, pytest.raises(RuntimeError, match=said):
        run_method(user_method(f"bad={file}"), problem, tasks)


def test_methods_that_are_not_here_say_how_to_get_them(monkeypatch):
    monkeypatch.delenv("NOWHERE_HOME", raising=False)
    known = Method("x", "X", Path("x.py"))
    assert missing(known, "fly") is None
    assert "install.sh nobody" in missing(replace(known, environment="nobody"), "fly")
    assert "NOWHERE_HOME" in missing(replace(known, needs=("NOWHERE_HOME",)), "fly")
    assert "no-such-program" in missing(replace(known, program="no-such-program"), "fly")
    assert "data set" in missing(replace(known, problems=("osmfish_split",)), "fly")
    with pytest.raises(ValueError, match="NAME=FILE"):
        user_method("x=/nowhere.py")


def test_every_configured_method_has_its_file():
    methods = configured_methods(load_config(compare_main.__file__))
    assert len({method.name for method in methods}) == len(methods) >= 12
    for method in methods:
        assert method.module.is_file(), method.module
        assert method.candidates or method.tuned in ("none", "inside", "no"), method.name
        assert bool(method.candidates) == bool(method.knob), method.name


def test_simulated_problem_knows_its_truth():
    found = make_problem("simulated", None, {"seed": 0, "folds": 10})
    assert found.cells.log.shape == (400, 60)
    assert len(found.genes) == 30
    assert found.true_positions.shape == (400, 3)
    assert sorted(np.concatenate(found.folds)) == list(range(30))


def test_earlier_scores_keep_a_gene_called_nan(tmp_path):
    made_with = {"folds": 2, "seed": 0, "data_sha256": "x"}
    (tmp_path / "fly.json").write_text(json.dumps(made_with | {"runs": {}}))
    scores = pd.DataFrame({"version": "0.1.0", "gene": ["nan", "NA"], "fold": 1, "value": [0.5, np.nan]})
    scores.to_csv(tmp_path / "fly.csv.gz", index=False)
    (found,), _ = _earlier(tmp_path, "fly", made_with)
    assert found["gene"].tolist() == ["nan", "NA"]
    np.testing.assert_array_equal(found["value"], [0.5, np.nan])


def test_the_command_writes_table_scores_and_picture(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "experiments.compare", "--problems", "simulated", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    out = ("--out", str(tmp_path))
    done = run("--methods", "gene_mean", "ridge", *out)
    assert done.returncode == 0, done.stderr
    done = run("--methods", "nearest", "--keep", *out)
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "simulated.csv.gz")
    columns = ["dataset", "method", "version", "gene", "fold", "seed", "metric", "value"]
    assert scores.columns.tolist() == columns
    assert set(scores["method"]) == {"gene_mean", "ridge", "nearest"}
    assert (scores.groupby(["method", "metric"])["gene"].nunique() <= 30).all()
    table = pd.read_csv(tmp_path / "simulated_table.csv").set_index("method")
    assert table["aCC"].idxmin() == "gene_mean"
    assert table.loc["ridge", "aCC"] > 0.4
    known = json.loads((tmp_path / "simulated.json").read_text())
    assert len(known["runs"]["ridge"]["chosen"]) == known["folds"] == 10
    assert known["versions"]["perler_jax"]
    assert (tmp_path / "simulated.png").stat().st_size > 10_000
    assert "nearest neighbours" in (tmp_path / "simulated.md").read_text()
    assert "expected methods" in run("--methods", "nobody", *out).stderr
