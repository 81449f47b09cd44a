"""Figures and tables of the pages, read from the committed results of experiments.

A page writes ``{{ figures.NAME }}`` or, on a line of its own, ``{{ tables.NAME }}``. A name that is not
here, or a result that is gone, ends the build.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

# Names of the problems of experiments/compare, as a reader knows them.
PROBLEMS = {
    "fly": "fly embryo",
    "osmfish_split": "osmFISH, one half on the other",
    "osmfish_allen": "Allen on osmFISH",
    "starmap_tasic": "Tasic on STARmap",
    "seqfish_tasic": "Tasic on seqFISH",
    "starmap_split": "STARmap, one half on the other",
}
SCALED = {  # those of experiments/scales
    "osmfish_allen": "osmFISH, dissociated cells of another laboratory",
    "starmap_halves": "STARmap, one half on the other",
    "simulated": "simulated embryo",
}


def result(path: str, *keys: Any) -> Any:
    """A value of a committed JSON file.

    Args:
        path: below experiments/.
        keys: one after the other into it.
    """
    found = json.loads((EXPERIMENTS / path).read_text(encoding="utf-8"))
    for key in keys:
        found = found[key]
    return found


def prior(name: str) -> float:
    """Nested score of the fly with a prior of experiments/priors."""
    table = pd.DataFrame(result("priors/results/locations.json", "table"))
    return table.set_index("prior")["nested_loo_acc"][name]


def landmarks(size: int) -> float:
    """Mean correlation at unseen genes of the fly with so many landmarks, from experiments/validity."""
    rows = result("validity/results/landmarks.json", "summary")
    (found,) = [
        each["mean"]
        for each in rows
        if (each["distance"], each["metric"], each["size"]) == ("fitted", "of_the_others", size)
    ]
    return found


def method(problem: str, name: str) -> float:
    """Mean correlation of a method at genes hidden from everything, from experiments/compare."""
    table = pd.read_csv(EXPERIMENTS / f"compare/results/{problem}_table.csv").set_index("method")
    return float(table.loc[name, "aCC"])


def form(problem: str, given: str) -> float:
    """Mean correlation at unseen genes of a data set in a form, from experiments/scales."""
    table = pd.read_csv(EXPERIMENTS / "scales/results/scales.csv")
    (found,) = table.loc[(table["problem"] == problem) & (table["giving"] == given), "aCC"]
    return float(found)


# What each is and where it is from stands in the function; how it is printed, in the format.
FIGURES: dict[str, tuple[str, Callable[[], Any]]] = {
    "fly_nested": ("{:.2f}", lambda: result("fly/results/fly.json", "nested_loo_acc")),
    "fly_outer": ("{:.2f}", lambda: method("fly", "ours")),
    "fly_in_fit": ("{:.2f}", lambda: result("fly/results/fly.json", "reconstruction_acc")),
    "fly_learned_weights": ("{:.2f}", lambda: prior("location weights learned")),
    "landmarks_30": ("{:.2f}", lambda: landmarks(30)),
    "landmarks_60": ("{:.2f}", lambda: landmarks(60)),
    "fly_seconds": ("{:.0f}", lambda: result("fly/results/fly.json", "seconds", "total")),
    "fly_memory": ("{:.1f}", lambda: result("fly/results/fly.json", "peak_rss_gb")),
    "osmfish_pair": ("{:.2f}", lambda: form("osmfish_allen", "counts on both sides")),
    "interval_90": (
        "{:.0%}",
        lambda: result("trust/results/intervals.json", "scales", "constant + error + on", "coverage_90"),
    ),
    "reliability_map": (
        "{:.2f}",
        lambda: result(
            "trust/results/reliability.json", "spearman_with_nested", "predicted_with_reference", "value"
        ),
    ),
    "reliability_no_map": (
        "{:.2f}",
        lambda: result("trust/results/reliability.json", "spearman_with_nested", "predicted", "value"),
    ),
    "genes_good": (
        "{}",
        lambda: result("trust/results/reliability.json", "flags", "all genes", "good"),
    ),
    "genes_poor": (
        "{}",
        lambda: result("trust/results/reliability.json", "flags", "all genes", "poor"),
    ),
}


def all_figures() -> dict[str, str]:
    """Every figure as it is printed."""
    return {name: form.format(read()) for name, (form, read) in FIGURES.items()}


def markdown(table: pd.DataFrame) -> str:
    """A table with its index as Markdown, numbers as they are printed already."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    rows = [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_of_methods() -> pd.DataFrame:
    """Mean correlation at unseen genes, methods x data sets, best first on the first."""
    columns = {}
    for name, title in PROBLEMS.items():
        table = pd.read_csv(EXPERIMENTS / f"compare/results/{name}_table.csv")
        columns[title] = table.drop_duplicates("label").set_index("label")["aCC"]
    found = pd.DataFrame(columns).sort_values(next(iter(PROBLEMS.values())), ascending=False)
    best = found.round(3).max()

    def printed(value: float, name: str) -> str:
        if pd.isna(value):
            return "–"
        return f"**{value:.3f}**" if round(value, 3) == best[name] else f"{value:.3f}"

    shown = pd.DataFrame(
        {name: [printed(value, name) for value in found[name]] for name in found}, found.index
    )
    return shown.rename_axis("method")


def cost_of_methods() -> pd.DataFrame:
    """Time and memory of one fold of the fly, tuning included."""
    table = pd.read_csv(EXPERIMENTS / "compare/results/fly_table.csv").set_index("label")
    shown = pd.DataFrame(
        {
            "CPU seconds per fold": [f"{each:.1f}" for each in table["cpu_seconds_per_fold"]],
            "peak memory, GB": [f"{each:.1f}" for each in table["peak_gb"]],
            "what was tuned": table["tuned"].to_list(),
        },
        index=table.index,
    )
    return shown.rename_axis("method")


def landmarks_curve() -> pd.DataFrame:
    """Accuracy at landmarks that no fit has seen, by the number of landmarks (fly, three random subsets)."""
    table = pd.read_csv(EXPERIMENTS / "validity/results/landmarks.csv")
    rows = table[(table["distance"] == "fitted") & (table["metric"] == "of_the_others")]
    by = rows.groupby("size")["value"]
    shown = pd.DataFrame(
        {
            "mean correlation at unseen genes": by.mean().map("{:.2f}".format),
            "lowest and highest of the subsets": [
                f"{low:.2f} to {high:.2f}" for low, high in zip(by.min(), by.max(), strict=True)
            ],
        }
    )
    return shown.rename_axis("landmarks")


def sharpness_curve() -> pd.DataFrame:
    """How sharply so many landmarks place a cell of the fly, as the model says and tempered."""
    table = pd.read_csv(EXPERIMENTS / "trust/results/positions_resolution.csv")
    rows = table[table["spacings"] == 4].copy()
    rows["posterior"] = ["as the model says" if t == 1 else "tempered" for t in rows["temperature"]]
    mass = rows.pivot_table(index="n_landmarks", columns="posterior", values="mass")
    return mass.map(lambda v: "–" if pd.isna(v) else f"{v:.2f}").rename_axis("landmarks")


def forms_of_data() -> pd.DataFrame:
    """The same data in every form: accuracy, or refused (experiments/scales)."""
    table = pd.read_csv(EXPERIMENTS / "scales/results/scales.csv")
    values = pd.to_numeric(table["aCC"], errors="coerce")
    table["shown"] = ["refused" if pd.isna(value) else f"{value:.3f}" for value in values]
    table["problem"] = table["problem"].map(SCALED).fillna(table["problem"])
    wide = table.pivot(index="giving", columns="problem", values="shown")
    return wide.loc[table["giving"].drop_duplicates()].fillna("–").rename_axis("given as")


def settings_table() -> pd.DataFrame:
    """Every setting: default, allowed values, and what its docstring says."""
    from typing import get_args, get_type_hints

    from perler_jax.settings import PerlerSettings

    said: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(PerlerSettings.__doc__ or "").partition("Attributes:")[2].splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        found = re.match(r" {4}(\w+): (.*)", line)
        if found:
            name, said[found[1]] = found[1], found[2]
        elif line.strip():
            said[name] += " " + line.strip()
    hints = get_type_hints(PerlerSettings)
    rows = {}
    for field in dataclasses.fields(PerlerSettings):
        words = [each for each in get_args(hints[field.name]) if isinstance(each, str)]
        rows[f"`{field.name}`"] = {
            "default": f"`{field.default!r}`",
            "allowed": ", ".join(f"`{each}`" for each in words),
            "what it does": said[field.name],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("setting")


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "accuracy": accuracy_of_methods,
    "cost": cost_of_methods,
    "landmarks": landmarks_curve,
    "sharpness": sharpness_curve,
    "scales": forms_of_data,
    "settings": settings_table,
}


def all_tables() -> dict[str, str]:
    """Every table as Markdown."""
    return {name: markdown(make()) for name, make in TABLES.items()}
