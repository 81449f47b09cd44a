"""What the axes of a map are called, and whether it is half of a body: said by whoever knows, not guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from perler_jax.errors import PerlerInputError

__all__ = ["EMBRYO", "SpatialAxes", "as_axes"]

_NAMES = ("x", "y", "z")


@dataclasses.dataclass(frozen=True)
class SpatialAxes:
    """Names of the ends of each axis, and the axis along which a half is mirrored.

    Attributes:
        x: names of the low and the high end, such as "anterior:posterior"; None: no names.
        y: likewise.
        z: likewise.
        mirror: "x", "y" or "z": what is given is one half, and the other is its image with that coordinate
            turned round. None: all of it is given.

    Raises:
        PerlerInputError: names that are not two, or a mirror that is no axis.
    """

    x: str | None = None
    y: str | None = None
    z: str | None = None
    mirror: str | None = None

    def __post_init__(self) -> None:
        for name in _NAMES:
            told = getattr(self, name)
            if told is not None and len([part for part in told.split(":") if part.strip()]) != 2:
                raise PerlerInputError(
                    f"expected the names of both ends of axis {name}, such as anterior:posterior; found "
                    f"{told!r}"
                )
        if self.mirror is not None and self.mirror not in _NAMES:
            raise PerlerInputError(f"expected mirror to be x, y, z or none; found {self.mirror!r}")

    def ends(self, axis: int) -> tuple[str, str] | None:
        """Names of the low and the high end of an axis (0 is x), where it has any."""
        told = getattr(self, _NAMES[axis])
        if told is None:
            return None
        low, high = (part.strip() for part in told.split(":"))
        return low, high

    @property
    def mirrored(self) -> int | None:
        """Number of the axis along which a half is mirrored."""
        return None if self.mirror is None else _NAMES.index(self.mirror)

    def plain(self) -> dict[str, str]:
        """What is said, as plain texts for ``uns["spatial_axes"]``."""
        return {name: text for name, text in dataclasses.asdict(self).items() if text is not None}


#: Right half of an embryo as the loaders of this package give it.
EMBRYO = SpatialAxes("anterior:posterior", "left:right", "ventral:dorsal", "y")


def as_axes(told: SpatialAxes | Mapping[str, Any] | None) -> SpatialAxes:
    """The axes from what users write: a mapping such as ``{"x": "anterior:posterior", "mirror": "y"}``.

    Raises:
        PerlerInputError: a key that is none of x, y, z and mirror, or names that are not two.
    """
    if isinstance(told, SpatialAxes):
        return told
    known = {} if told is None else {str(name): value for name, value in told.items()}
    wrong = sorted(set(known) - {*_NAMES, "mirror"})
    if wrong:
        raise PerlerInputError(f"expected axes x, y, z (and mirror); found {', '.join(wrong)}")

    def text(value: Any) -> str:
        return value if isinstance(value, str) else ":".join(map(str, value))

    return SpatialAxes(**{name: text(value) for name, value in known.items() if value is not None})
