"""Chosen panels of landmarks against random and high-variance ones, by DREAM scores of cells never seen."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.common import arguments, data_folder, provenance, timed, write_json
from experiments.trust.dream_folds import DreamEmbryo, Fold, load_dream_embryo, place
from experiments.trust.panel_pictures import draw_panels
from perler_jax.inputs.io import atomic_path
from perler_jax.scores.distmap import best_locations
from perler_jax.scores.dream import SilverStandard, dream_scores
from perler_jax.trust.landmark_space import LandmarkSpace, landmark_space
from perler_jax.trust.panel import PanelChoice, choose_panel
from perler_jax.trust.panel_criteria import RemainingEntropy
from perler_jax.trust.ranked_locations import LocationRanking

CRITERIA = ("entropy", "loo")


class Panel(NamedTuple):
    """Landmarks to be scored."""

    kind: str
    draw: int
    genes: np.ndarray


def main() -> None:
    """Run, print, write."""
    parser = arguments("trust", __doc__)
    parser.prog = "python -m experiments.trust.panel"
    options = parser.parse_args()
    config = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    fast = config.pop("fast")
    config |= fast if options.fast else {}
    folder = data_folder(options.data, config["data"])
    embryo = load_dream_embryo(folder, quantile=config["quantile"], n_ranks=config["ranks"])
    numbers = np.unique(embryo.fold_of).tolist()[: config["folds"]]
    seconds: dict[str, float] = {}
    with timed("landmark space of all cells", seconds):
        space = landmark_space(embryo.all_cells(), embryo.reference, embryo.genes)
    final: dict[str, PanelChoice] = {}
    for criterion in CRITERIA:
        with timed(f"choice by {criterion}, all cells", seconds):
            final[criterion] = choose_panel(
                space, min(config["sizes"]), criterion=criterion, progress=sys.stderr.isatty()
            )
    with timed("folds", seconds):
        table, chosen = score_folds(embryo, config, numbers)
    entropies = entropies_of(space, final, config)
    summary = summarise(table)

    options.out.mkdir(parents=True, exist_ok=True)
    for name, frame in {
        "panel": table,
        "panel_entropy": entropies,
        **{f"panel_order_{each}": removal_order(choice) for each, choice in final.items()},
    }.items():
        with atomic_path(options.out / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.5f")
    report = {
        "summary": summary,
        "agreement_of_folds": {name: agreement(panels) for name, panels in chosen.items()},
        "panels_of_folds": chosen,
        "seconds": seconds,
        "config": config,
    }
    write_json(report | provenance(config["seed"], folder), options.out / "panel.json")
    draw_panels(table, entropies, final["entropy"], config, options.out / "panel.png")
    shown = pd.DataFrame(summary)
    print(shown[shown["rule"] == config["rule"]].to_string(index=False, float_format="%.3f"))


def score_folds(
    embryo: DreamEmbryo, config: dict[str, Any], numbers: list[int]
) -> tuple[pd.DataFrame, dict[str, list[list[str]]]]:
    """Tidy scores of every panel in every fold, and the panels that were chosen in each fold."""
    rankings = {
        rule: LocationRanking(embryo.coordinates, n=config["ranks"], rule=rule) for rule in config["rules"]
    }
    rows: list[dict[str, Any]] = []
    chosen: dict[str, list[list[str]]] = {}
    total = len(numbers) * (1 + len(config["sizes"]) * (4 + config["random_panels"]))
    with tqdm(total=total, desc="panels", unit="panel", disable=not sys.stderr.isatty()) as bar:
        for fold in embryo.folds(numbers):
            standard = embryo.standard.take(fold.rows)
            space = landmark_space(fold.train, embryo.reference, embryo.genes)
            choices = {
                criterion: choose_panel(space, min(config["sizes"]), criterion=criterion, progress=False)
                for criterion in CRITERIA
            }
            for panel in [
                Panel("all", 0, embryo.genes),
                *(each for size in config["sizes"] for each in panels(choices, fold, embryo, size, config)),
            ]:
                posterior = place(fold, embryo, panel.genes, config["n_metagenes"])
                compared = len(panel.genes) == config["compared_size"]
                submitted = {
                    rule: rankings[rule](posterior) for rule in (rankings if compared else [config["rule"]])
                }
                if compared:
                    submitted["DistMap"] = distmap_entry(standard, panel.genes)
                for rule, locations in submitted.items():
                    tag = {"rule": rule, "size": len(panel.genes), "panel": panel.kind, "seed": panel.draw}
                    scores = scored(standard, panel.genes, locations)
                    rows.extend(
                        {"fold": fold.number, **tag, "metric": metric, "value": value}
                        for metric, value in scores.items()
                    )
                if panel.kind in CRITERIA:
                    chosen.setdefault(f"{panel.kind} {len(panel.genes)}", []).append(sorted(panel.genes))
                bar.update()
    return pd.DataFrame(rows), chosen


def panels(
    choices: dict[str, PanelChoice], fold: Fold, embryo: DreamEmbryo, size: int, config: dict[str, Any]
) -> Iterator[Panel]:
    """Every panel of a size; the random ones are the same in all folds."""
    for criterion, choice in choices.items():
        yield Panel(criterion, 0, choice.of_size(size))
    for kind, values in (("variance in cells", fold.train), ("variance in reference", embryo.reference)):
        yield Panel(kind, 0, embryo.genes[np.argsort(-values.var(axis=0), kind="stable")[:size]])
    for draw in range(config["random_panels"]):
        yield Panel("random", draw, random_panel(embryo.genes, size, draw, config))


def random_panel(genes: np.ndarray, size: int, draw: int, config: dict[str, Any]) -> np.ndarray:
    """The same whenever it is asked for."""
    return np.random.default_rng((config["seed"], size, draw)).choice(genes, size, replace=False)


def distmap_entry(standard: SilverStandard, panel: np.ndarray) -> np.ndarray:
    """What DistMap would submit with the same panel: is the panel good for this method alone?"""
    columns = np.isin(standard.genes, panel)
    n_ranks = standard.locations.shape[1]
    return best_locations(
        standard.cells_on[:, columns], standard.locations_on[:, columns], n=n_ranks
    ).locations


def scored(standard: SilverStandard, panel: np.ndarray, submitted: np.ndarray) -> dict[str, float]:
    """All scores of an entry; s2 and s3 have one form only."""
    found = dream_scores(standard, panel, submitted)
    dropped = dream_scores(standard, panel, submitted, form="drop_first")
    return {"s1": found.s1, "s2": found.s2, "s3": found.s3, "s1_drop_first": dropped.s1}


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each panel against the random ones of its size: means over folds; margin, and its spread both ways."""
    keys = ["rule", "size", "metric"]
    rows: list[dict[str, Any]] = []
    for (rule, size, metric), part in table.groupby(keys):
        by_panel = part.groupby(["panel", "seed"])["value"].mean()
        by_fold = part.groupby(["panel", "fold"])["value"].mean().unstack("fold")
        for panel in by_fold.index:
            row: dict[str, Any] = {"rule": rule, "size": int(size), "metric": metric, "panel": panel}
            row["mean"] = float(by_panel[panel].mean())
            if panel == "random":
                row["sd_of_panels"] = float(by_panel["random"].std())
            elif "random" in by_fold.index:
                random, margins = by_panel["random"], by_fold.loc[panel] - by_fold.loc["random"]
                row["margin"] = float(margins.mean())
                row["standard_error_over_folds"] = float(margins.sem())
                row["in_sds_of_random_panels"] = float(margins.mean() / random.std())
                row["random_panels_beaten"] = int((random < row["mean"]).sum())
                row["folds_won"] = int((margins > 0).sum())
            rows.append(row)
    return rows


def entropies_of(space: LandmarkSpace, final: dict[str, PanelChoice], config: dict[str, Any]) -> pd.DataFrame:
    """What chosen and random panels leave unknown of a cell's place, nats; all cells."""
    entropy = RemainingEntropy(space)
    rows = []
    for size in config["sizes"]:
        some = [Panel(name, 0, choice.of_size(size)) for name, choice in final.items()]
        some += [
            Panel("random", draw, random_panel(space.genes, size, draw, config))
            for draw in range(config["random_panels"])
        ]
        for kind, draw, genes in some:
            value = entropy.of(np.isin(space.genes, genes))
            rows.append({"size": size, "panel": kind, "seed": draw, "entropy": value})
    return pd.DataFrame(rows)


def removal_order(choice: PanelChoice) -> pd.DataFrame:
    """Landmarks in the order in which they went; those that stayed come last, the best at the very end."""
    stayed = pd.DataFrame({"landmark": choice.panel[::-1]})
    return pd.concat([choice.trace.reset_index(), stayed], ignore_index=True)


def agreement(panels: list[list[str]]) -> dict[str, float]:
    """How alike the panels of different folds are: mean Jaccard index of pairs, landmarks that all share."""
    sets = [set(panel) for panel in panels]
    pairs = [len(a & b) / len(a | b) for i, a in enumerate(sets) for b in sets[:i]]
    return {"jaccard": float(np.mean(pairs)), "in_every_fold": len(set.intersection(*sets))}


if __name__ == "__main__":
    main()
