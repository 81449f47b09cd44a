"""A virtual embryo measured as a real one: dissociated cells, an in situ reference, and the truth of both.

The patterns are those of ``virtual_embryo``. What is added here is the measurement, made so that the two
sides disagree as real ones do: each landmark has its own in situ scale, background, saturation and noise;
each gene its own capture rate and background in the cells; each cell its own depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from perler_jax._typing import Float, Real
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.axes import EMBRYO
from perler_jax.simulation.virtual_embryo import draw_patterns, egg_length, half_ellipsoid, named_gene_classes

__all__ = ["SimulatedEmbryo", "simulate_embryo"]


@dataclass(frozen=True, eq=False)
class SimulatedEmbryo:
    """A simulated experiment whose answer is known.

    Attributes:
        cells: cells x genes, UMI counts, CSR; ``obs["true_location"]`` is the index of the location that each
            cell came from.
        reference: locations x landmarks, in situ intensity on each landmark's own scale;
            ``obsm["spatial"]`` in micrometres (x anterior to posterior, y across, z up to dorsal, as
            ``uns["spatial_axes"]`` says).
        truth: locations x genes, noise-free expression in arbitrary units of about 0-1;
            ``obsm["spatial"]``; ``obs["egg_length"]``, the position along the curved axis;
            ``var["class"]`` (gap, pair-rule, segment-polarity, dorsoventral, mixture or unspatial) and
            ``var["landmark"]``.
    """

    cells: ad.AnnData
    reference: ad.AnnData
    truth: ad.AnnData

    def __repr__(self) -> str:
        return (
            f"SimulatedEmbryo({self.cells.n_obs} cells x {self.cells.n_vars} genes; "
            f"{self.reference.n_obs} locations x {self.reference.n_vars} landmarks)"
        )


def simulate_embryo(
    *,
    seed: int,
    n_locations: int = 2000,
    n_cells: int = 1000,
    n_genes: int = 300,
    n_landmarks: int = 50,
    unspatial_fraction: Real = 0.3,
    location_weights: Float[np.ndarray, " locations"] | None = None,
    depth: Real = 2000.0,
    cell_noise: Real = 0.5,
    dropout: Real = 0.02,
    reference_noise: Real = 0.08,
) -> SimulatedEmbryo:
    """Simulate the right half of a fly-like embryo, its in situ reference and cells dissociated from it.

    Landmarks are all gap, pair-rule and dorsoventral genes, then mixtures. The segment-polarity genes (14
    stripes) are never landmarks, nor part of one: predicting them is the test.

    Args:
        seed: of NumPy's ``default_rng``; the same seed and sizes give the same embryo.
        n_locations: locations of the reference, >= 100. The default (spacing 7.6 um) resolves the 14 stripes
            (period 22 um); with 1200 locations (10 um) they can be predicted but hardly counted.
        n_cells: dissociated cells.
        n_genes: genes measured in the cells, >= 28 (the named patterns).
        n_landmarks: genes of the reference.
        unspatial_fraction: share of the genes without pattern.
        location_weights: how often cells come from each location, any scale. None: equally often.
        depth: median number of counts per cell.
        cell_noise: sd of the logarithm of expression between cells of one location.
        dropout: chance that a gene's counts are lost in a cell, on top of Poisson sampling.
        reference_noise: sd of the in situ intensity of a typical landmark, as a fraction of its maximum.

    Returns:
        Cells (counts), reference (intensity) and truth, as AnnData; positions in micrometres.

    Raises:
        PerlerInputError: sizes that do not fit each other, or unusable weights.
    """
    n_unspatial = round(unspatial_fraction * n_genes)
    n_mixtures = n_genes - len(named_gene_classes()) - n_unspatial
    _check_sizes(n_locations, n_cells, n_genes, n_landmarks, n_mixtures)
    pattern_rng, cell_rng, reference_rng = np.random.default_rng(seed).spawn(3)

    coordinates = half_ellipsoid(n_locations)
    patterns, classes = draw_patterns(
        coordinates, n_mixtures=n_mixtures, n_unspatial=n_unspatial, rng=pattern_rng
    )
    possible = classes.index[~classes.isin(["segment-polarity", "unspatial"])]
    landmarks = possible[:n_landmarks]

    locations = pd.DataFrame(index=pd.Index([f"location{i + 1}" for i in range(n_locations)]))
    locations["egg_length"] = egg_length(coordinates)
    genes = pd.DataFrame({"class": classes.astype(str), "landmark": classes.index.isin(landmarks)})
    truth = ad.AnnData(patterns, obs=locations, var=genes, obsm={"spatial": coordinates})
    truth.uns["spatial_axes"] = EMBRYO.plain()

    intensity = _measure_in_situ(
        patterns[:, genes["landmark"].to_numpy()], float(reference_noise), reference_rng
    )
    reference = ad.AnnData(
        intensity,
        obs=locations[[]].copy(),
        var=genes.loc[landmarks, []].copy(),
        obsm={"spatial": coordinates.copy()},
        uns={"spatial_axes": EMBRYO.plain(), "expression_scale": "linear"},
    )

    origin = cell_rng.choice(n_locations, n_cells, p=_probabilities(location_weights, n_locations))
    counts = _sequence(patterns[origin], float(depth), float(cell_noise), float(dropout), cell_rng)
    barcodes = pd.DataFrame({"true_location": origin}, index=[f"cell{i + 1}" for i in range(n_cells)])
    cells = ad.AnnData(counts, obs=barcodes, var=genes[[]].copy())
    return SimulatedEmbryo(cells, reference, truth)


def _measure_in_situ(
    patterns: Float[np.ndarray, "locations landmarks"], noise: float, rng: np.random.Generator
) -> Float[np.ndarray, "locations landmarks"]:
    """Intensity = scale * (pattern^saturation + background + noise), cut at 0."""
    n_landmarks = patterns.shape[1]
    scale = rng.lognormal(0.0, 0.4, n_landmarks)
    background = rng.uniform(0.02, 0.25, n_landmarks)
    saturation = rng.lognormal(0.0, 0.25, n_landmarks)
    # Stains differ in quality: with equal noise every landmark would be predicted about equally well.
    quality = rng.lognormal(0.0, 0.6, n_landmarks)
    errors = rng.normal(0.0, noise, patterns.shape) * quality
    return np.maximum(scale * (patterns**saturation + background + errors), 0.0)


def _sequence(
    patterns: Float[np.ndarray, "cells genes"],
    depth: float,
    noise: float,
    dropout: float,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Poisson counts of sensitivity * (pattern * log-normal + background) at a cell-specific depth."""
    n_cells, n_genes = patterns.shape
    sensitivity = rng.lognormal(0.0, 0.9, n_genes)
    background = rng.uniform(0.01, 0.15, n_genes)
    individual = np.exp(rng.normal(0.0, noise, patterns.shape) - noise**2 / 2)
    rate = sensitivity * (patterns * individual + background)
    library = depth * rng.lognormal(0.0, 0.35, (n_cells, 1))
    # One common factor, not one per cell: a cell that expresses more has more molecules, as in a real one.
    counts = rng.poisson(library * rate / np.median(rate.sum(1)))
    counts[rng.random(counts.shape) < dropout] = 0
    return sparse.csr_matrix(counts.astype(np.float32))


def _probabilities(weights: np.ndarray | None, n_locations: int) -> np.ndarray | None:
    if weights is None:
        return None
    if weights.shape != (n_locations,) or not np.all(weights >= 0) or not 0 < weights.sum() < np.inf:
        raise PerlerInputError(
            f"Expected {n_locations} location weights >= 0 with a positive sum, found shape {weights.shape}, "
            f"minimum {weights.min()}, sum {weights.sum()}."
        )
    return weights / weights.sum()


def _check_sizes(n_locations: int, n_cells: int, n_genes: int, n_landmarks: int, n_mixtures: int) -> None:
    named = named_gene_classes()
    if n_locations < 100 or n_cells < 1:
        raise PerlerInputError(
            f"Expected at least 100 locations and 1 cell, found {n_locations} and {n_cells}. "
            "Coarser maps cannot hold the stripes."
        )
    if n_mixtures < 0:
        raise PerlerInputError(
            f"Expected at least {len(named)} patterned genes, found {len(named) + n_mixtures} of {n_genes}. "
            "Raise n_genes or lower unspatial_fraction."
        )
    most = int((named != "segment-polarity").sum()) + n_mixtures
    if not 2 <= n_landmarks <= most:
        raise PerlerInputError(
            f"Expected between 2 and {most} landmarks (patterned genes that are not segment-polarity), "
            f"found {n_landmarks}."
        )
