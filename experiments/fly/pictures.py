"""Stripes counted, and what a person wants to see: patterns, profiles, the tuning surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from perler_jax import PerlerFit
from perler_jax.app.gallery import draw_gallery
from perler_jax.inputs.io import atomic_path
from perler_jax.pl.fits import held_out_pattern
from perler_jax.plotting.patterns import plot_pattern
from perler_jax.plotting.profile import plot_profile
from perler_jax.scores.stripes import StripeAxis, axis_profile, count_stripes, fit_axis

__all__ = ["draw_held_out", "draw_patterns", "draw_profiles", "stripe_counts"]


def stripe_counts(
    result: AnnData, reference: AnnData, config: dict[str, Any]
) -> tuple[StripeAxis, dict[str, Any]]:
    """Stripes of each gene in the reconstruction, and in the reference where it has the gene."""
    coordinates = np.asarray(reference.obsm["spatial"], np.float64)
    axis = fit_axis(coordinates, reference[:, config["axis"]].to_df().to_numpy(np.float64))
    tables = {"reconstructed": result.to_df(), "reference": reference.to_df()}
    counts: dict[str, Any] = {}
    for gene in config["striped"]:
        counts[gene] = {"landmark": gene in tables["reference"]}
        for name, table in tables.items():
            if gene in table:
                profile = axis_profile(table[gene].to_numpy(np.float64), coordinates, axis)
                counts[gene][name] = {
                    f"{prominence:g}": count_stripes(*profile, prominence=prominence).n
                    for prominence in config["prominences"]
                }
    return axis, counts


def draw_patterns(result: AnnData, fit: PerlerFit, genes: list[str], path: Path) -> None:
    """Each gene reconstructed and, if it is a landmark, as measured; lateral view."""
    reference = fit.reference
    known = pd.DataFrame(np.asarray(reference.values), reference.locations, reference.genes)
    figure = draw_gallery(
        result.to_df(),
        known,
        genes,
        np.asarray(reference.coordinates, np.float64),
        title="Fly embryo: striped genes reconstructed from dissociated cells",
        beside="reference",
        correlations=fit.scores["reconstruction"],
        landmarks=fit.landmarks,
    )
    _save(figure, path)


def draw_held_out(
    result: AnnData, fit: PerlerFit, landmarks: list[str], others: list[str], path: Path
) -> None:
    """Maps, and below them what the cells predict: landmarks held out, genes that have no map."""
    where = np.asarray(fit.reference.coordinates, np.float64)
    figure = Figure(figsize=(3.1 * (len(landmarks) + len(others)), 3.5), layout="constrained")
    panels = figure.subplots(2, len(landmarks) + len(others))
    for gene, (above, below) in zip([*landmarks, *others], panels.T, strict=True):
        if gene in landmarks:
            row = int(np.flatnonzero(fit.landmarks == gene)[0])
            measured, predicted = held_out_pattern(fit, row)
            plot_pattern(measured, where, view="lateral", ax=above, title=f"{gene}, the map")
            title = f"{gene}, predicted without it: r = {np.corrcoef(measured, predicted)[0, 1]:.2f}"
        else:
            predicted, title = result[:, gene].to_df()[gene].to_numpy(np.float64), f"{gene}, predicted"
            above.set_axis_off()
            above.set_title(f"{gene}, the map")
            above.text(
                0.5, 0.5, "not measured", ha="center", va="center", color="0.5", transform=above.transAxes
            )
        plot_pattern(predicted, where, view="lateral", ax=below, title=title)
    _save(figure, path)


def draw_profiles(
    result: AnnData, reference: AnnData, axis: StripeAxis, config: dict[str, Any], path: Path
) -> None:
    """Lateral profiles along the curved axis with the counted stripes; in situ dashed."""
    coordinates = np.asarray(reference.obsm["spatial"], np.float64)
    predicted, measured = result.to_df(), reference.to_df()
    genes = config["striped"]
    figure = Figure(figsize=(12.0, 1.9 * -(-len(genes) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(genes) // 2), 2).ravel()
    for ax in panels[len(genes) :]:
        ax.set_axis_off()
    for ax, gene in zip(panels, genes, strict=False):
        grid, profile = axis_profile(_standard(predicted[gene]), coordinates, axis)
        stripes = count_stripes(grid, profile, prominence=config["default_prominence"])
        plot_profile(grid, profile, stripes=stripes, ax=ax, unit="z-score")
        if gene in measured:
            ax.plot(*axis_profile(_standard(measured[gene]), coordinates, axis), color="0.5", lw=1, ls="--")
        ax.set_title(
            f"{gene}: {stripes.n} peaks{' (dashed: in situ)' if gene in measured else ''}", fontsize=10
        )
        ax.set_xlabel("")
    figure.supxlabel("position along the straightened axis (µm), anterior left", fontsize=9)
    _save(figure, path)


def _standard(values: pd.Series) -> np.ndarray:
    array = values.to_numpy(np.float64)
    return (array - array.mean()) / array.std()


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
