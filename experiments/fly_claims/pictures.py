"""What a person wants to see of the claims on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.fly_claims.mapping import mapped_metagenes
from experiments.fly_claims.segments import stripe_profile
from perler_jax import PerlerFit
from perler_jax.inputs.io import atomic_path
from perler_jax.plotting import plot_pattern, plot_posterior
from perler_jax.scores.stripes import StripeAxis
from perler_jax.trust.positions import CellPositions

__all__ = ["draw_genes", "draw_mapping", "draw_order", "draw_origins", "draw_patterns"]

_CELLS, _MAPPED, _OTHER = "0.65", "#D55E00", "#0072B2"


def draw_mapping(fit: PerlerFit, table: pd.DataFrame, path: Path) -> None:
    """Cells with the reference before and after mapping (principal axes of the cells), and calibration."""
    cells = np.asarray(fit.cell_metagenes, np.float64)
    reference = np.asarray(fit.reference_metagenes, np.float64)
    noise = fit.parameters["noise"].to_numpy()
    centre = cells.mean(0)
    axes_of = np.linalg.svd((cells - centre) / noise, full_matrices=False)[2][:2].T

    def flat(points: np.ndarray) -> np.ndarray:
        return (points - centre) / noise @ axes_of

    raw = (reference - reference.mean(0)) / reference.std(0) * cells.std(0) + centre
    figure = Figure(figsize=(14.0, 4.4), layout="constrained")
    before, after, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for ax, points, name in (
        (before, raw, "reference, standardised"),
        (after, mapped_metagenes(fit), "reference, mapped"),
    ):
        ax.scatter(*flat(cells).T, s=5, c=_CELLS, lw=0, label="cells", rasterized=True)
        ax.scatter(*flat(points).T, s=4, c=_MAPPED, lw=0, alpha=0.5, label=name, rasterized=True)
        ax.set(xlabel="first axis of the cells (noise units)", ylabel="second axis (noise units)", title=name)
        ax.legend(frameon=False, markerscale=3, fontsize=8, loc="upper right")
        ax.spines[["top", "right"]].set_visible(False)
    limits = [(ax.get_xlim(), ax.get_ylim()) for ax in (before, after)]
    for ax in (before, after):
        ax.set_xlim(min(each[0][0] for each in limits), max(each[0][1] for each in limits))
        ax.set_ylim(min(each[1][0] for each in limits), max(each[1][1] for each in limits))
    shown = right.scatter(table["correlation"], table["slope"], c=np.arange(1, len(table) + 1), s=28)
    right.axhline(1.0, color="0.5", lw=1, ls="--", zorder=0)
    right.set(
        xlabel="correlation of a metagene with its expectation from the others",
        ylabel="slope (1: on scale)",
        title="calibration, each metagene left out",
    )
    right.spines[["top", "right"]].set_visible(False)
    figure.colorbar(shown, ax=right, label="metagene")
    _save(figure, path)


def draw_origins(fit: PerlerFit, found: CellPositions, shown: list[float], path: Path) -> None:
    """Where some cells came from, from the surest to the least sure, and how sure all are."""
    coordinates = np.asarray(fit.reference.coordinates, np.float64)
    table = found.table
    order = table["effective_locations"].sort_values()
    names = [str(order.index[round(quantile * (len(order) - 1))]) for quantile in shown]
    posterior = fit.posterior(names)
    figure = Figure(figsize=(4.3 * len(names), 5.2), layout="constrained")
    grid = figure.add_gridspec(2, len(names), height_ratios=[1.0, 1.1])
    for column, (name, quantile) in enumerate(zip(names, shown, strict=True)):
        ax = figure.add_subplot(grid[0, column])
        title = f"{100 * quantile:.0f} % of cells are surer: {order[name]:.1f} effective locations"
        plot_posterior(posterior.loc[name].to_numpy(), coordinates, title=title, ax=ax)
        ax.title.set_fontsize(9)
    ax = figure.add_subplot(grid[1, :])
    values = table["within_4_spacings"]
    ax.hist(values, np.linspace(0, 1, 41), color=_OTHER)
    ax.axvline(values.mean(), color="black", lw=1.2, ls="--", label=f"mean {values.mean():.2f}")
    spacing = found.spacing or np.nan
    ax.set(
        xlabel=f"posterior mass within four spacings ({4 * spacing:.0f} µm) of the most probable location",
        ylabel="cells",
    )
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_genes(table: pd.DataFrame, names: list[str], poor_below: float, path: Path) -> None:
    """Reconstruction against held out, and agreement of correlation structure against held out."""
    figure = Figure(figsize=(10.5, 4.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        poor = table[f"poor_{name}"]
        for ax, x, label in (
            (row[0], table[f"reconstruction_{name}"], "correlation, gene in the fit"),
            (row[1], table["agreement"], "agreement of correlations with other landmarks"),
        ):
            y = table[f"held_out_{name}"]
            ax.scatter(x[~poor], y[~poor], s=22, c=_OTHER, label="well predicted")
            ax.scatter(x[poor], y[poor], s=22, c=_MAPPED, label=f"poorly predicted (below {poor_below:g})")
            for gene in y.nsmallest(5).index:  # below the others, which rise to the right
                ax.annotate(gene, (x[gene], y[gene]), (4, -8), textcoords="offset points", fontsize=7)
            ax.set(xlabel=label, ylabel="correlation, gene held out", title=f"{name} distance")
            ax.spines[["top", "right"]].set_visible(False)
        row[0].legend(frameon=False, fontsize=8, loc="upper left")
        low = min(0.0, *row[0].get_ylim())
        row[0].plot([low, 1], [low, 1], color="0.5", lw=1, ls="--", zorder=0)
    _save(figure, path)


def draw_patterns(
    predicted: dict[str, pd.DataFrame], genes: list[str], coordinates: np.ndarray, path: Path
) -> None:
    """Genes that are no landmark: a row each, two views by every method."""
    views = ("lateral", "ventral")
    figure = Figure(figsize=(2.9 * len(predicted) * 2, 1.55 * len(genes) + 0.9), layout="constrained")
    axes = figure.subplots(len(genes), len(predicted) * 2, squeeze=False)
    for row, gene in zip(axes, genes, strict=True):
        for column, (method, table) in enumerate(predicted.items()):
            values = table[gene].to_numpy(np.float64)
            limits = (float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99)))
            for at, view in enumerate(views):
                ax = row[2 * column + at]
                # The ventral view shows both halves: the given one and its mirror image.
                plot_pattern(values, coordinates, view=view, mirror=view == "ventral", limits=limits, ax=ax)
                ax.set_title(f"{gene}, {method}, {view}", fontsize=8)
    figure.supxlabel("anterior left; colours from the 1st to the 99th percentile of each pattern", fontsize=9)
    _save(figure, path)


def draw_order(
    predicted: dict[str, pd.DataFrame],
    lags: pd.DataFrame,
    coordinates: np.ndarray,
    axis: StripeAxis,
    width: float,
    config: dict[str, Any],
    path: Path,
) -> None:
    """Profiles of neighbours in a parasegment along the trunk, and the lags behind the anchor."""
    anchor = config["anchor"]
    genes = [*[gene for gene in config["order"] if config["order"][gene]], anchor]
    colours = dict(zip(genes, ("#009E73", "#CC79A7", "black"), strict=False))
    figure = Figure(figsize=(12.0, 2.6 * len(predicted) + 3.0), layout="constrained")
    axes = figure.subplots(len(predicted) + 1, 1, height_ratios=[1] * len(predicted) + [1.1])
    for ax, (method, table) in zip(axes, predicted.items(), strict=False):
        for gene in genes:
            values = table[gene].to_numpy(np.float64)
            grid, profile = stripe_profile(values, coordinates, axis, config["detrend"] * width)
            ax.plot(grid, profile, color=colours[gene], lw=1.5, label=gene)
        ax.set(ylabel="less its trend (sd)", title=f"{method} distance: lateral profiles")
        ax.legend(frameon=False, ncols=3, fontsize=8, loc="upper right")
        ax.spines[["top", "right"]].set_visible(False)
    axes[-2].set_xlabel("position along the straightened axis (µm), anterior left")
    ax, order = axes[-1], list(dict.fromkeys(lags["gene"]))
    for colour, (shift, (method, rows)) in zip(
        (_MAPPED, _OTHER),
        zip((0.12, -0.12), lags.groupby("distance", sort=False), strict=False),
        strict=False,
    ):
        at = np.array([order.index(gene) for gene in rows["gene"]]) + shift
        errors = np.abs(rows[["low_um", "high_um"]].to_numpy().T - rows["lag_um"].to_numpy())
        ax.errorbar(
            rows["lag_um"], at, xerr=errors, fmt="o", ms=5, capsize=3, color=colour, label=str(method)
        )
    ax.axvline(0.0, color="black", lw=1)
    for edge in (-width / 2, width / 2):
        ax.axvline(edge, color="0.7", lw=1, ls="--", zorder=0)
    ax.set(
        yticks=range(len(order)),
        yticklabels=order,
        ylim=(len(order) - 0.5, -0.5),
        xlabel=f"lag behind {anchor} (µm), posterior right; dashed: half a parasegment; bars: 95 %",
    )
    ax.legend(frameon=False, title="distance", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
