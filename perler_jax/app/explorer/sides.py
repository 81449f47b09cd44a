"""From which sides the page shows a 3D map, and what their names are."""

from __future__ import annotations

from typing import Any

from perler_jax.inputs.axes import SpatialAxes

__all__ = ["sides_of", "views_of"]

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
