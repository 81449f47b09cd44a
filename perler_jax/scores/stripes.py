"""Counting the stripes of a pattern along the curved anterior-posterior axis of an embryo.

Stripes of a fly embryo are not planes of constant x: toward the poles they lean, dorsal and ventral ends in
opposite directions. ``fit_axis`` learns that lean once, from patterns known to be striped (pair-rule genes
of the reference atlas: ftz, eve, h), as a polynomial shift of x with the dorsoventral angle. Counting another
gene then uses a fixed axis, a fixed band of angles, a fixed smoothing and a fixed prominence: nothing is
fitted to the gene that is counted.

Coordinates are micrometres with x from anterior (low) to posterior (high), y across, z up to dorsal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.signal import find_peaks
from scipy.spatial import cKDTree

from perler_jax._typing import Float, Real
from perler_jax.errors import PerlerInputError

__all__ = ["StripeAxis", "StripeCount", "axis_profile", "count_stripes", "dorsoventral_angle", "fit_axis"]

#: Part of the axis that forms segments, as fractions of egg length from the anterior pole. In front of it lie
#: head domains (those of h and odd are not stripes of the seven), behind it the terminal region.
TRUNK = (0.22, 0.95)


def dorsoventral_angle(coordinates: Float[np.ndarray, "locations 3"]) -> Float[np.ndarray, " locations"]:
    """Angle around the long axis in degrees: 0 ventral midline, 90 lateral, 180 dorsal midline.

    Left and right get the same angle.
    """
    return np.degrees(np.arctan2(np.abs(coordinates[:, 1]), -coordinates[:, 2]))


@dataclass(frozen=True, eq=False)
class StripeAxis:
    """A straightened anterior-posterior axis; on the lateral line it equals x.

    Attributes:
        centre: x of the middle of the embryo, micrometres.
        half_length: half the length of the embryo along x, micrometres.
        coefficients: (dv powers, ap powers), micrometres. The shift of a location is
            ``sum_mn coefficients[m, n] t**(m + 1) u**n`` with t = (angle - 90 degrees) / 90 degrees and
            u = (x - centre) / half_length.
        misalignment: (before, after) straightening: mean fraction of the variance of the training patterns
            that their profile along the axis leaves unexplained.
    """

    centre: float
    half_length: float
    coefficients: Float[np.ndarray, "dv_powers ap_powers"]
    misalignment: tuple[float, float]

    def position(self, coordinates: Float[np.ndarray, "locations 3"]) -> Float[np.ndarray, " locations"]:
        """Position of each location along the straightened axis, micrometres (low is anterior)."""
        n_dv, n_ap = self.coefficients.shape
        terms = _shift_terms(coordinates, self.centre, self.half_length, (n_dv, n_ap - 1))
        return coordinates[:, 0] - terms @ self.coefficients.ravel()

    def trunk(self) -> tuple[float, float]:
        """Positions between which stripes are counted, micrometres (see ``TRUNK``)."""
        start = self.centre - self.half_length
        return start + 2 * self.half_length * TRUNK[0], start + 2 * self.half_length * TRUNK[1]

    def __repr__(self) -> str:
        before, after = self.misalignment
        shape = "x".join(map(str, self.coefficients.shape))
        return f"StripeAxis({shape} terms, unexplained variance {before:.3f} -> {after:.3f})"


@dataclass(frozen=True, eq=False)
class StripeCount:
    """Stripes found in one profile: their number, positions (um) and prominences (units of the profile)."""

    n: int
    positions: Float[np.ndarray, " stripes"]
    prominences: Float[np.ndarray, " stripes"]

    def __repr__(self) -> str:
        return f"StripeCount({self.n} stripes at {np.round(self.positions).astype(int).tolist()} um)"


def fit_axis(
    coordinates: Float[np.ndarray, "locations 3"],
    patterns: Float[np.ndarray, "locations landmarks"],
    *,
    degree: tuple[int, int] = (2, 3),
    band: tuple[Real, Real] = (20.0, 160.0),
    bin_width: Real = 4.0,
) -> StripeAxis:
    """Learn the lean of the stripes from patterns known to be striped.

    The shift is the polynomial that makes the patterns functions of the axis position alone: it minimises the
    variance that their binned, linearly interpolated profiles leave unexplained (Powell search from no shift,
    so the optimum is the nearest one and cannot slip by a whole stripe).

    Args:
        coordinates: positions of the locations, micrometres.
        patterns: expression of striped genes, any units; NOT of a gene that will be counted on trust.
        degree: highest power of the dorsoventral angle (>= 1) and of x (>= 0) in the shift.
        band: dorsoventral angles used, degrees; the midlines carry few cells and genes such as twi's targets.
        bin_width: spacing of the profile's knots, micrometres: about one cell diameter.

    Raises:
        PerlerInputError: a constant pattern, or fewer than 50 locations in the band.
    """
    angle = dorsoventral_angle(coordinates)
    inside = (angle >= band[0]) & (angle <= band[1])
    if inside.sum() < 50:
        raise PerlerInputError(
            f"Expected at least 50 locations between the angles {band[0]} and {band[1]} degrees, found "
            f"{int(inside.sum())}. Check that z points dorsally and y across the embryo, centred on 0."
        )
    patterns = patterns[inside].astype(np.float64)
    spread = patterns.std(0)
    if not np.all(spread > 0):
        raise PerlerInputError(
            f"Expected striped patterns, found constant columns {np.flatnonzero(~(spread > 0)).tolist()}."
        )
    patterns = (patterns - patterns.mean(0)) / spread
    low, high = float(coordinates[:, 0].min()), float(coordinates[:, 0].max())
    centre, half_length = (low + high) / 2, (high - low) / 2
    x = coordinates[inside, 0]
    terms = _shift_terms(coordinates[inside], centre, half_length, degree)

    def unexplained(coefficients: np.ndarray) -> float:
        return _unexplained_variance(x - terms @ coefficients, patterns, float(bin_width))

    start = np.zeros(terms.shape[1])
    found = minimize(unexplained, start, method="Powell", options={"xtol": 1e-2, "ftol": 1e-5})
    return StripeAxis(
        centre=centre,
        half_length=half_length,
        coefficients=found.x.reshape(degree[0], degree[1] + 1),
        misalignment=(unexplained(start), float(found.fun)),
    )


def axis_profile(
    values: Float[np.ndarray, " locations"],
    coordinates: Float[np.ndarray, "locations 3"],
    axis: StripeAxis,
    *,
    half_width: Real = 45.0,
    bandwidth: Real | None = None,
    step: Real = 1.0,
) -> tuple[Float[np.ndarray, " positions"], Float[np.ndarray, " positions"]]:
    """Mean expression along the straightened axis in a lateral band, over the trunk.

    Args:
        values: expression of one gene, any units.
        coordinates: positions of the locations, micrometres.
        axis: the straightened axis.
        half_width: half width of the band around the lateral line, degrees.
        bandwidth: sd of the Gaussian kernel, micrometres. None: 0.65 of the median distance of nearest
            neighbours (3 um on the fly atlas), so it depends on the map and never on the gene.
        step: spacing of the returned positions, micrometres.

    Returns:
        Positions along the axis (micrometres) and the kernel-weighted mean of ``values`` at each.
    """
    if bandwidth is None:
        bandwidth = 0.65 * float(np.median(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1]))
    inside = np.abs(dorsoventral_angle(coordinates) - 90.0) <= half_width
    position = axis.position(coordinates)[inside]
    grid = np.arange(*axis.trunk(), float(step))
    log_kernel = -0.5 * ((grid[:, None] - position) / bandwidth) ** 2
    # Shifted by the largest: a gap in the locations then takes its nearest one instead of 0 / 0.
    kernel = np.exp(log_kernel - log_kernel.max(1, keepdims=True))
    return grid, kernel @ values[inside] / kernel.sum(1)


def count_stripes(
    positions: Float[np.ndarray, " positions"],
    profile: Float[np.ndarray, " positions"],
    *,
    prominence: Real = 0.08,
) -> StripeCount:
    """Count the peaks of a profile that stand out by a share of its range.

    A peak counts when its topographic prominence (height above the higher of the two valleys that separate it
    from higher peaks) is at least ``prominence * (max - min)`` of the profile. Peaks cut by the ends of the
    profile are not counted. The default is the geometric middle of the thresholds, 0.015 to 0.39, at which
    the fly atlas' own ftz, eve and h all show seven. A prediction has no such wide plateau: one strong stripe
    hides weak ones, so state the threshold with a count, and the counts at 0.02 and 0.2.

    A constant profile has no stripes; noise without pattern has many, all irregular: look at the profile of a
    gene whose range is small against its mean.
    """
    extent = float(np.ptp(profile))
    if extent == 0:
        return StripeCount(0, np.zeros(0), np.zeros(0))
    peaks, found = find_peaks(profile, prominence=prominence * extent)
    return StripeCount(len(peaks), positions[peaks], found["prominences"])


def _shift_terms(
    coordinates: np.ndarray, centre: float, half_length: float, degree: tuple[int, int]
) -> np.ndarray:
    """Columns t**m u**n, m = 1..degree[0], n = 0..degree[1]: no term without t, so the lateral line stays."""
    t = dorsoventral_angle(coordinates) / 90.0 - 1.0
    u = (coordinates[:, 0] - centre) / half_length
    return np.stack([t**m * u**n for m in range(1, degree[0] + 1) for n in range(degree[1] + 1)], axis=1)


def _unexplained_variance(position: np.ndarray, patterns: np.ndarray, bin_width: float) -> float:
    """Mean squared distance of standardised patterns from their profile with linearly interpolated knots."""
    knot, right = np.divmod((position - position.min()) / bin_width, 1.0)
    knot = knot.astype(int)
    n_knots = int(knot.max()) + 2

    def spread_to_knots(weights: np.ndarray) -> np.ndarray:
        return np.bincount(knot, weights * (1 - right), n_knots) + np.bincount(
            knot + 1, weights * right, n_knots
        )

    mass = np.maximum(spread_to_knots(np.ones_like(position)), 1e-12)  # empty knots hold 0, not 0 / 0
    total = 0.0
    for pattern in patterns.T:  # a handful of training genes
        level = spread_to_knots(pattern) / mass
        total += float(np.mean((pattern - (1 - right) * level[knot] - right * level[knot + 1]) ** 2))
    return total / patterns.shape[1]
