"""Geometry and expression patterns of a virtual fly-like embryo: what is true before anything is measured.

The shape is the right half of an ellipsoid, 500 x 180 x 180 micrometres, x from anterior to posterior, y >= 0
across, z up to dorsal. Patterns are functions of two numbers: the egg length e along an axis that leans with
the dorsoventral angle as the stripes of the real embryo do, and that angle. Levels lie between 0 and about 1.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perler_jax._typing import Float
from perler_jax.errors import PerlerInputError

__all__ = ["draw_patterns", "egg_length", "half_ellipsoid", "named_gene_classes"]

SEMI_AXES = (250.0, 90.0, 90.0)

#: Lean of the stripes, as a fraction of the half length: shift = (LEAN[0] + LEAN[1] u) t, see egg_length.
#: The real atlas' ftz, eve and h give 4 um and -47 um at a half length of 196 um.
LEAN = (0.02, -0.24)

#: Number of genes of each named class; the rest of the genome is mixtures and unspatial genes.
NAMED = {"gap": 8, "pair-rule": 8, "segment-polarity": 4, "dorsoventral": 8}
_PREFIX = {"gap": "gap", "pair-rule": "stripe7_", "segment-polarity": "stripe14_", "dorsoventral": "dv"}

#: Trunk in egg length: centres of the first and the last of seven stripes of a gene with phase 0.
FIRST_STRIPE, LAST_STRIPE = 0.31, 0.84


def half_ellipsoid(n_locations: int) -> Float[np.ndarray, "locations 3"]:
    """Near-uniform points on the right half of the ellipsoid, micrometres: a Fibonacci lattice.

    Points are equally spaced in enclosed area along x and advance by the golden ratio of the half turn from
    the ventral to the dorsal midline.
    """
    length, width, height = SEMI_AXES
    u = np.linspace(-1, 1, 20_001)
    # Area of a thin ring of a spheroid, up to a constant: radius times arc length.
    ring = np.sqrt((1 - u**2) * length**2 + u**2 * width**2)
    area = np.concatenate([[0.0], np.cumsum((ring[1:] + ring[:-1]) / 2)])
    share = (np.arange(n_locations) + 0.5) / n_locations
    along = np.interp(share, area / area[-1], u)
    golden = (np.sqrt(5) - 1) / 2
    angle = np.pi * ((0.5 + golden * np.arange(n_locations)) % 1.0)
    radius = np.sqrt(1 - along**2)
    return np.stack(
        [length * along, width * radius * np.sin(angle), -height * radius * np.cos(angle)], axis=1
    )


def egg_length(coordinates: Float[np.ndarray, "locations 3"]) -> Float[np.ndarray, " locations"]:
    """Egg length along the curved axis: x - shift on the lateral line scaled to 0 (anterior) - 1.

    shift = half length * (LEAN[0] + LEAN[1] u) t with u = x / half length and t = -1 ventral, 0 lateral,
    1 dorsal. Dorsal and ventral poles fall outside 0-1.
    """
    t = 2 * np.arctan2(np.abs(coordinates[:, 1]), -coordinates[:, 2]) / np.pi - 1
    u = coordinates[:, 0] / SEMI_AXES[0]
    return (u - (LEAN[0] + LEAN[1] * u) * t + 1) / 2


def named_gene_classes() -> pd.Series:
    """Class of each named pattern gene: gap1.., stripe7_1.., stripe14_1.., dv1..."""
    names = {f"{_PREFIX[kind]}{i + 1}": kind for kind, number in NAMED.items() for i in range(number)}
    return pd.Series(names, name="class")


def draw_patterns(
    coordinates: Float[np.ndarray, "locations 3"],
    *,
    n_mixtures: int,
    n_unspatial: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "locations genes"], pd.Series]:
    """Draw the expression of every gene: named patterns, mixtures and products of them, unspatial genes.

    Returns:
        Noise-free expression (arbitrary units, about 0-1) and the class of each gene, indexed by its name.

    Raises:
        PerlerInputError: a negative number of genes.
    """
    if min(n_mixtures, n_unspatial) < 0:
        raise PerlerInputError(f"Expected numbers of genes >= 0, found {n_mixtures} and {n_unspatial}.")
    e = egg_length(coordinates)
    angle = np.degrees(np.arctan2(np.abs(coordinates[:, 1]), -coordinates[:, 2]))
    named = named_gene_classes()
    along = np.concatenate([_gap(e, rng), _stripes(e, 7, rng), _stripes(e, 14, rng)])
    # Real stripes and bands are not of equal strength from the ventral to the dorsal side.
    tilt = rng.uniform(-0.3, 0.3, (len(along), 1))
    along = along * (1 + tilt * (angle / 90 - 1))
    basis = np.concatenate([along, _dorsoventral(angle, e, rng)])
    # No mixture holds a segment-polarity pattern: those stay unseen even if every mixture is a landmark.
    parents = (named != "segment-polarity").to_numpy()
    across = (named == "dorsoventral").to_numpy()[parents]
    mixtures = _mixtures(basis[parents], across, n_mixtures, rng)
    flat = np.repeat(rng.uniform(0.2, 0.6, (n_unspatial, 1)), len(coordinates), axis=1)
    others = {f"mix{i + 1}": "mixture" for i in range(n_mixtures)}
    others |= {f"flat{i + 1}": "unspatial" for i in range(n_unspatial)}
    classes = pd.concat([named, pd.Series(others, name="class", dtype=object)])
    return np.concatenate([basis, mixtures, flat]).T.copy(), classes


def _gap(e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Broad bands whose centres tile the egg, half of them with a second, weaker one (as gt and kni have)."""
    number = NAMED["gap"]
    centre = np.linspace(0.08, 0.92, number) + rng.uniform(-0.03, 0.03, number)
    width = rng.uniform(0.05, 0.09, number)
    second = (centre + rng.uniform(0.3, 0.6, number)) % 1.0
    strength = rng.uniform(0.3, 0.8, number) * (np.arange(number) % 2)
    return _bands(e, centre, width) + strength[:, None] * _bands(e, second, 0.8 * width)


def _stripes(e: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Genes with ``number`` stripes each, of unequal strength, their phases spread over one period."""
    genes = NAMED["pair-rule" if number == 7 else "segment-polarity"]
    period = (LAST_STRIPE - FIRST_STRIPE) / 6 * 7 / number
    width = (0.17 if number == 7 else 0.15) * period
    phase = np.arange(genes) / genes - 0.5
    start = FIRST_STRIPE - (period / 2 if number == 14 else 0.0)
    patterns = np.zeros((genes, len(e)))
    for stripe in range(number):
        centre = start + (stripe + phase) * period + rng.normal(0, 0.03 * period, genes)
        strength = rng.uniform(0.65, 1.0, (genes, 1))
        patterns += strength * _bands(e, centre, np.full(genes, width))
    return patterns


def _bands(e: np.ndarray, centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((e - centre[:, None]) / width[:, None]) ** 2)


def _dorsoventral(angle: np.ndarray, e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Domains along the dorsoventral angle with sigmoid edges, fading at one pole or the other."""
    number = NAMED["dorsoventral"]
    edges = np.linspace(-25, 205, number + 1)  # the outermost reach beyond the midlines (twi, zen)
    low = edges[:-1] + rng.uniform(-6, 6, number) - 8
    high = edges[1:] + rng.uniform(-6, 6, number) + 8
    softness = rng.uniform(3, 8, number)[:, None]
    inside = 1 / (1 + np.exp(-(angle - low[:, None]) / softness))
    inside = inside / (1 + np.exp((angle - high[:, None]) / softness))
    fade = rng.uniform(-0.6, 0.6, (number, 1))
    return inside * (1 + fade * (np.clip(e, 0, 1) - 0.5))


def _mixtures(
    basis: np.ndarray, dorsoventral: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Half sums of one to three patterns, half an axial pattern gated by a dorsoventral one; maximum 1."""
    patterns = np.empty((number, basis.shape[1]))
    axial, across = np.flatnonzero(~dorsoventral), np.flatnonzero(dorsoventral)
    for gene in range(number):
        if rng.random() < 0.5:
            chosen = rng.choice(len(basis), rng.integers(1, 4), replace=False)
            pattern = rng.uniform(0.3, 1.0, len(chosen)) @ basis[chosen]
        else:
            pattern = basis[rng.choice(axial)] * (0.1 + basis[rng.choice(across, 2)].sum(0))
        patterns[gene] = pattern / pattern.max()
    return patterns
