"""Several sections and several donors, pooled, ignored and apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import arguments, data_folder, data_hash, load_config, provenance, timed, write_json
from experiments.sections.donors import score_donors, score_laboratories
from experiments.sections.osmfish import score_sections
from perler_jax.datasets import load_osmfish
from perler_jax.inputs.io import atomic_path
from perler_jax.osmfish_pair import load_osmfish_pair

_COLOURS = {
    "one fit, section_key": "#0072B2",
    "a fit of each": "#E69F00",
    "sections ignored": "0.6",
    "one fit, batch_key": "#0072B2",
    "donors ignored": "0.6",
    "first donor alone": "#E69F00",
    "second donor alone": "#F0C36D",
    "mean of both fits": "#CC79A7",
}


def main(argv: list[str] | None = None) -> None:
    """Run, print, write."""
    options = arguments("sections", __doc__).parse_args(argv)
    config = load_config(__file__)
    fast = config.pop("fast")
    if options.fast:
        config["osmfish"] |= {name: fast[name] for name in ("shares", "outer", "splits")}
        config["donors"] |= {name: fast[name] for name in ("draws", "cases", "embryo")}
    options.out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    folder = data_folder(options.data, "osmfish_sscortex")
    located, seed = load_osmfish(folder), config["seed"]
    if options.fast:
        located = located[:: located.n_obs // fast["n_located"]].copy()
    with timed("osmfish", seconds):
        tissue, splits = config["osmfish"], range(config["osmfish"]["splits"])
        sections = pd.concat(
            [score_sections(located, tissue["shares"], tissue["outer"], seed + each) for each in splits]
        )
    with timed("donors", seconds):
        made, draws = config["donors"], range(config["donors"]["draws"])
        donors = pd.concat(
            [
                score_donors(seed + draw, **case, embryo=made["embryo"])
                for case in made["cases"]
                for draw in draws
            ]
        )
    with timed("laboratories", seconds):
        other = load_osmfish_pair(data_folder(None, "osmfish_allen")).cells
        laboratories = pd.concat([score_laboratories(located, other, seed + each) for each in splits])
    tables = {"sections": sections, "donors": donors, "laboratories": laboratories}
    for name, table in tables.items():
        with atomic_path(options.out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    summary = {
        "sections": _means(sections, ["section", "way"], "score"),
        "donors": _means(donors, ["skew", "background", "way"], "score"),
        "laboratories": _means(laboratories, ["way"], "score"),
        "donors, nested": _means(donors.dropna(subset="nested"), ["skew", "background", "way"], "nested"),
    }
    report = {"summary": summary, "config": config, "seconds": seconds, "data_sha256": data_hash(folder)}
    write_json(report | provenance(seed), options.out / "sections.json")
    _draw(sections, donors, options.out)
    for name, rows in summary.items():
        print(name, pd.DataFrame(rows).to_string(index=False, float_format="%.3f"), sep="\n")


def _means(table: pd.DataFrame, by: list[str], column: str) -> list[dict]:
    """Mean over genes, then over seeds, with the least and the largest seed."""
    of_seed = table.groupby([*by, "seed"], sort=False)[column].mean()
    return of_seed.groupby(by, sort=False).agg(["mean", "min", "max"]).reset_index().to_dict("records")


def _draw(sections: pd.DataFrame, donors: pd.DataFrame, out: Path) -> None:
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.45))
    sizes = sections.groupby("section", sort=False)["n_locations"].first()
    groups = [sections[sections["section"] == name] for name in sizes.index]
    _bars(left, groups, [f"{name}\n{n} locations" for name, n in sizes.items()])
    left.set(title="osmFISH in three sections", ylabel="correlation at genes left out")
    cases = [each for _, each in donors.groupby(["background", "skew"])]
    names = [
        f"{'other' if each['skew'].iloc[0] else 'the same'} places,\n"
        f"{'other' if each['background'].iloc[0] else 'the same'} levels"
        for each in cases
    ]
    _bars(right, cases, names)
    right.set(title="two simulated donors", ylabel="correlation with the true pattern")
    with atomic_path(out / "sections.png") as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _bars(ax: Axes, groups: list[pd.DataFrame], names: list[str]) -> None:
    """Mean score of every way, one group of bars per table."""
    ways = list(dict.fromkeys(groups[0]["way"]))
    means = np.array([[each.loc[each["way"] == way, "score"].mean() for way in ways] for each in groups])
    width = 0.8 / len(ways)
    for i, way in enumerate(ways):
        at = np.arange(len(groups)) + (i - (len(ways) - 1) / 2) * width
        ax.bar(at, means[:, i], width * 0.92, color=_COLOURS[way], label=way)
    ax.set_xticks(range(len(groups)), names)
    ax.set_ylim(0.9 * float(np.nanmin(means)), None)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)


if __name__ == "__main__":
    main()
