"""From which sides the page shows a 3D map, and what their names are."""

from __future__ import annotations

from typing import Any

import numpy as np

from perler_jax.inputs.axes import SpatialAxes

__all__ = ["section_labels", "sides_of", "views_of"]

# Axis and sign of where the viewer stands, and what points up on the page: in the order of the buttons.
_PLACES = (
    (1, -1, (0, 0, 1)),
    (1, 1, (0, 0, 1)),
    (2, 1, (0, 1, 0)),
    (2, -1, (0, -1, 0)),
    (0, -1, (0, 0, 1)),
    (0, 1, (0, 0, 1)),
)


def views_of(axes: SpatialAxes) -> list[dict[str, Any]]:
    """Views of the page: name, direction of the viewer, and what points up.

    The two views along an axis that is mirrored are one: the lateral view.
    """
    found = []
    for axis, sign, up in _PLACES:
        if axis == axes.mirrored and sign > 0:
            continue
        ends = axes.ends(axis)
        name = f"{'-' if sign < 0 else '+'}{'xyz'[axis]}" if ends is None else ends[(sign + 1) // 2]
        eye = [0, 0, 0]
        eye[axis] = sign
        found.append({"name": "lateral" if axis == axes.mirrored else name, "eye": eye, "up": list(up)})
    return found


def sides_of(axes: SpatialAxes) -> list[list[Any]]:
    """What is written beside the tissue: axis, sign of the end, name; an unnamed axis at its high end."""
    found: list[list[Any]] = []
    for axis in range(3):
        ends = axes.ends(axis)
        if axis == axes.mirrored:
            continue
        if ends is None:
            found.append([axis, 1, "xyz"[axis]])
        else:
            found += [[axis, -1, ends[0]], [axis, 1, ends[1]]]
    return found


def section_labels(coordinates: np.ndarray, sections: np.ndarray | None) -> list[list[Any]]:
    """Name of every section and where it is written: above its middle. None where there is one section."""
    found: list[list[Any]] = []
    for name in [] if sections is None else np.unique(sections):
        own = coordinates[sections == name]
        low, high = own.min(axis=0), own.max(axis=0)
        place = (low + high) / 2
        place[1 if coordinates.shape[1] == 2 else 2] = high[1 if coordinates.shape[1] == 2 else 2]
        found.append([str(name), [float(each) for each in place]])
    return found
