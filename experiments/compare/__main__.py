"""Every method on every data set: held-out genes, true positions, time and memory."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.common import arguments, data_folder, load_config, provenance, write_json
from experiments.compare.pictures import draw_comparison
from experiments.compare.problems import Problem, make_problem
from experiments.compare.report import describe, markdown, summary
from experiments.compare.runner import Method, configured_methods, missing, prepared, run_method, user_method
from experiments.compare.scoring import score, tidy
from perler_jax.inputs.io import atomic_path
from perler_jax.inputs.tables import text_columns

_TEXT = ("dataset", "method", "version", "gene", "metric")  # of the table of scores


def main() -> None:
    """Run, print, write."""
    config = load_config(__file__)
    options = _parser(config).parse_args()
    methods = configured_methods(config)
    if options.fast:
        methods = [each for each in methods if each.is_builtin]
        if options.out == _parser(config).get_default("out"):
            sys.exit("expected --out FOLDER with --fast: its numbers are not for the record")
    if options.methods:
        unknown = set(options.methods) - {each.name for each in methods}
        if unknown:
            sys.exit(f"expected methods of config.toml, found {', '.join(sorted(unknown))}")
        methods = [each for each in methods if each.name in options.methods]
    methods += [user_method(each) for each in options.method]
    names = options.problems or (config["fast_problems"] if options.fast else list(config["problems"]))
    for name in names:
        compare(name, methods, config, options)


def _parser(config: dict[str, Any]) -> argparse.ArgumentParser:
    parser = arguments("compare", __doc__)
    parser.add_argument(
        "--problems", nargs="+", choices=list(config["problems"]), help="only these data sets"
    )
    parser.add_argument("--methods", nargs="+", help="only these of config.toml")
    parser.add_argument(
        "--method", action="append", default=[], metavar="NAME=FILE.py", help="one of your own"
    )
    parser.add_argument("--keep", action="store_true", help="keep the other methods' rows of an earlier run")
    parser.add_argument("--drop", nargs="+", default=[], metavar="NAME", help="but not these rows of it")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="keep finished fits there; go on from them after a kill",
    )
    return parser


def compare(name: str, methods: list[Method], config: dict[str, Any], options: argparse.Namespace) -> None:
    """One data set: run the methods, then write scores, table and picture."""
    row = config["problems"][name]
    folder = None
    if "data" in row:
        folder = data_folder(options.data / row["data"] if options.data else None, row["data"])
    problem = make_problem(name, folder, config)
    if options.fast:
        problem = problem.first_folds(config["fast_folds"])
    made_with = {"folds": len(problem.folds)} | provenance(config["seed"], folder)
    scores, runs = _earlier(options.out, name, made_with) if options.keep else ([], {})
    gone = {*options.drop, *(method.name for method in methods)}
    scores = [each[~each["method"].isin(gone)] for each in scores]
    runs = {each: known for each, known in runs.items() if each not in gone}
    with prepared(problem) as tasks:
        for method in tqdm(methods, desc=name, unit="method", disable=not sys.stderr.isatty()):
            found, known = _one(method, problem, tasks, config, options.resume)
            scores, runs = [*scores, *found], runs | {method.name: known}
            _say(name, known)
    together = pd.concat(scores, ignore_index=True)
    table = summary(together, runs, config["bootstrap"], config["seed"])
    _write(options.out, problem, together, table, runs, made_with, row["title"])


def _one(
    method: Method, problem: Problem, tasks: list[Path], config: dict[str, Any], kept: Path | None
) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Tidy scores (none if it cannot run) and what is known of the run."""
    reason = missing(method, problem.name)
    if reason is None:
        try:
            scored = score(run_method(method, problem, tasks, kept), problem)
            return [tidy(scored, problem, config["seed"])], describe(
                scored, config["bootstrap"], config["seed"]
            )
        except RuntimeError as error:
            reason = f"failed: {error}"
    return [], {"label": method.label, "skipped": reason}


def _say(problem: str, known: dict[str, Any]) -> None:
    said = known.get("skipped") or f"{known['cpu_seconds_per_fold']:.3g} CPU s per fold"
    print(f"{problem}: {known['label']}: {said}", flush=True)


def _earlier(
    out: Path, name: str, made_with: dict[str, Any]
) -> tuple[list[pd.DataFrame], dict[str, dict[str, Any]]]:
    """Scores and runs of an earlier run of the same folds of the same data."""
    path = out / f"{name}.json"
    if not path.is_file():
        return [], {}
    known = json.loads(path.read_text(encoding="utf-8"))
    for key in ("folds", "seed", "data_sha256"):
        if known.get(key) != made_with.get(key):
            sys.exit(f"expected {path} to be of the same {key}, found another: run without --keep")
    scores = out / f"{name}.csv.gz"
    options = text_columns(pd.read_csv(scores, nrows=0).columns, _TEXT)
    return [pd.read_csv(scores, **options)], known["runs"]


def _write(
    out: Path,
    problem: Problem,
    scores: pd.DataFrame,
    table: pd.DataFrame,
    runs: dict[str, dict[str, Any]],
    made_with: dict[str, Any],
    title: str,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = scores.to_csv(index=False, float_format="%.5f")
    with atomic_path(out / f"{problem.name}.csv.gz") as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same numbers, the same file
    table.to_csv(out / f"{problem.name}_table.csv", index=False, float_format="%.5g")
    text = f"# {title[0].upper() + title[1:]}\n\n{markdown(table, runs, problem.unit)}"
    (out / f"{problem.name}.md").write_text(text, encoding="utf-8")
    write_json({"runs": runs} | made_with, out / f"{problem.name}.json")
    draw_comparison(table, scores, title, problem.unit, out / f"{problem.name}.png")
    print(text)


if __name__ == "__main__":
    main()
