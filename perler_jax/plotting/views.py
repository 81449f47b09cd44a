"""Geometry of pictures: an embryo seen from a named side, the other half of it, and its skin unrolled."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from perler_jax._typing import Float
from perler_jax.errors import PerlerInputError

__all__ = ["Mirror", "Unrolled", "View", "flatten", "unroll", "whole"]

#: The first six are of any map, by its coordinates; the others of an embryo (x anterior to posterior, z up to
#: dorsal, its midline at y = 0), of which the half that faces the viewer is drawn.
View = Literal[
    "front", "back", "left", "right", "top", "bottom", "lateral", "dorsal", "ventral", "anterior", "posterior"
]
Mirror = bool | Literal["x", "y", "z"] | Float[np.ndarray, "locations 3"]

#: view -> (coordinate drawn to the right, drawn upward, pointing at the viewer), each with its sign.
_VIEWS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "front": ((0, 1), (2, 1), (1, -1)),
    "back": ((0, -1), (2, 1), (1, 1)),
    "left": ((1, -1), (2, 1), (0, -1)),
    "right": ((1, 1), (2, 1), (0, 1)),
    "top": ((0, 1), (1, 1), (2, 1)),
    "bottom": ((0, 1), (1, -1), (2, -1)),
    "lateral": ((0, 1), (2, 1), (1, 1)),
    "dorsal": ((0, 1), (1, 1), (2, 1)),
    "ventral": ((0, 1), (1, 1), (2, -1)),
    "anterior": ((1, 1), (2, 1), (0, -1)),
    "posterior": ((1, 1), (2, 1), (0, 1)),
}
_EMBRYO = ("lateral", "dorsal", "ventral", "anterior", "posterior")
_FEW = 0.1  # share of locations beyond the midline up to which what is given is half an embryo
_SLICES = 24  # of the body, in each of which a centre and a radius are measured


class Unrolled(NamedTuple):
    """The skin of an embryo laid flat.

    Attributes:
        flat: (points, 2) micrometres from anterior to posterior, and around the body from its ventral midline
            (positive where y is).
        order: (points,) which location each point is.
        reach: greatest distance around the body.
    """

    flat: Float[np.ndarray, "points 2"]
    order: np.ndarray
    reach: float


def whole(
    coordinates: Float[np.ndarray, "locations 3"], mirror: Mirror
) -> tuple[Float[np.ndarray, "points 3"], np.ndarray]:
    """Coordinates with those of the other half below them, and which location each row is.

    Args:
        coordinates: x anterior to posterior, y across with the midline at 0, z up to dorsal.
        mirror: False for what is given alone; "x", "y" or "z" turns that coordinate round (True: y); an array
            gives the other half's coordinates.
    """
    rows = np.arange(len(coordinates))
    if mirror is False:
        return coordinates, rows
    if isinstance(mirror, bool | str):
        other = coordinates * np.where(
            np.arange(3) == "xyz".index("y" if mirror is True else mirror), -1.0, 1.0
        )
    else:
        other = np.asarray(mirror)
    return np.concatenate([coordinates, other]), np.concatenate([rows, rows])


def flatten(
    coordinates: Float[np.ndarray, "locations dimensions"], view: str = "front", mirror: Mirror = False
) -> tuple[Float[np.ndarray, "points 2"], np.ndarray]:
    """Where tissue is drawn: positions on the page and the location of each, farthest first.

    Flat tissue stays as it is. Of a 3D map all is drawn, nearer locations over those behind them; in the
    views of an embryo, whose skin is closed, the half that faces the viewer alone.

    Raises:
        PerlerInputError: an unknown view, or neither two nor three coordinates.
    """
    if coordinates.shape[1] == 2:
        return coordinates, np.arange(len(coordinates))
    if coordinates.shape[1] != 3:
        raise PerlerInputError(f"Expected 2 or 3 coordinates, found {coordinates.shape[1]} columns.")
    if view not in _VIEWS:
        raise PerlerInputError(f"Expected a view of {', '.join(get_args(View))}; found {view!r}.")
    points, rows = whole(coordinates, mirror)
    (right, right_sign), (up, up_sign), (toward, toward_sign) = _VIEWS[view]
    depth = toward_sign * points[:, toward]
    # The midline of a bilateral embryo is y = 0 even where only one half is given.
    middle = 0.0 if toward == 1 else (depth.min() + depth.max()) / 2
    order = np.argsort(depth, kind="stable")
    if view in _EMBRYO:
        order = order[depth[order] >= middle]
    flat = np.stack([right_sign * points[:, right], up_sign * points[:, up]], axis=1)
    return flat[order], rows[order]


def unroll(coordinates: Float[np.ndarray, "locations dimensions"], mirror: Mirror = False) -> Unrolled:
    """Lay the skin of an embryo flat, cut along the dorsal midline.

    Around the body a location lies at its angle from the ventral midline times the body's radius at its
    position from anterior to posterior, so that discs keep their size up to the poles.

    Args:
        coordinates: x anterior to posterior, y across with the midline at 0, z up to dorsal.
        mirror: as in `whole`.

    Raises:
        PerlerInputError: not three coordinates.
    """
    if coordinates.shape[1] != 3:
        raise PerlerInputError(
            f"Expected the 3 coordinates of an embryo, found {coordinates.shape[1]} columns: draw flat "
            "tissue by plot_pattern."
        )
    points, rows = whole(coordinates, mirror)
    x, y, z = points.T
    if np.mean(coordinates[:, 1] < 0) < _FEW:
        # Half an embryo: cells of its midline that lie a little beyond it stay on its side of the cut.
        y = np.abs(y) * np.where(np.arange(len(points)) < len(coordinates), 1.0, -1.0)
    edges = np.linspace(x.min(), x.max(), _SLICES + 1)
    slices = np.clip(np.searchsorted(edges, x) - 1, 0, _SLICES - 1)
    used = np.unique(slices)
    at = np.array([x[slices == each].mean() for each in used])
    centre = np.array([(z[slices == each].min() + z[slices == each].max()) / 2 for each in used])
    height = z - np.interp(x, at, centre)
    radius = np.array([np.hypot(y, height)[slices == each].mean() for each in used])
    around = np.arctan2(y, -height) * np.interp(x, at, radius)
    return Unrolled(np.stack([x, around], axis=1), rows, float(np.abs(around).max()))
