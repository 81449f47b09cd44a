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
from perler_jax.plotting.profile import plot_profile
from perler_jax.scores.stripes import StripeAxis, axis_profile, count_stripes, fit_axis

__all__ = ["draw_patterns", "draw_profiles", "stripe_counts"]


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
