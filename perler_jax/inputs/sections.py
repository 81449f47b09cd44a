"""Sections: several pieces of tissue in one reference, each with coordinates of its own.

Locations of two sections are no neighbours, however near their coordinates: `apart` gives coordinates in
which every distance within a section is as it was, and every distance between sections is larger than any of
these.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float, Shaped
from scipy.sparse.csgraph import connected_components

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.beside import Beside, beside_of
from perler_jax.inputs.groups import groups_of
from perler_jax.inputs.labels import few

__all__ = ["apart", "check_sections", "section_codes", "sections_of", "sections_of_result", "side_by_side"]

_AWAY = 10.0  # of the largest section: far beyond what is smoothed over
_BETWEEN = 0.12  # empty room between two sections in pictures, as a share of the largest
_PAGE = 1.6  # width over height of several sections in a picture


def sections_of(beside: Beside | None, key: str) -> Shaped[np.ndarray, " locations"]:
    """The section of each location, as texts.

    Args:
        beside: annotation of the reference; None where it came without ``obs``.
        key: column of ``obs``.

    Raises:
        PerlerInputError: no such column, a location without a section, one section only, or a section of a
            single location.
    """
    return groups_of(beside, key, "section", least=2)


def sections_of_result(result: AnnData, key: str | None = None) -> Shaped[np.ndarray, " locations"] | None:
    """The section of each row of a result; None where they are one.

    Args:
        result: of `PerlerFit.reconstruct` and the like, or any AnnData with a column of sections.
        key: column of ``obs``; None: as ``uns["perler"]`` says.

    Raises:
        PerlerInputError: as of `sections_of`, for a column that was asked for.
    """
    if key is not None:
        return sections_of(beside_of(result), key)
    told = result.uns.get("perler", {})
    known = told.get("section_key") if isinstance(told, Mapping) else None
    return None if known not in result.obs else np.asarray(result.obs[known].astype(str)).astype(str)


def check_sections(
    sections: Shaped[np.ndarray, " locations"],
    genes: Shaped[np.ndarray, " genes"],
    measured: Bool[np.ndarray, "locations genes"] | None,
    coordinates: Float[np.ndarray, "locations axes"] | None,
) -> Shaped[np.ndarray, " locations"]:
    """The sections as texts; refused where no measured gene links them, or one has no extent.

    Args:
        sections: name of each location's section.
        genes: names.
        measured: whether each value was measured; None: all were.
        coordinates: of the locations, or None.

    Raises:
        PerlerInputError: see above.
    """
    names, codes = section_codes(sections)
    if coordinates is not None and len(codes) != len(coordinates):
        raise PerlerInputError(
            f"expected a section for each of {len(coordinates)} locations; found {len(codes)}; give one each"
        )
    if measured is not None and not measured.all():
        some = np.stack([measured[codes == each].any(axis=0) for each in range(len(names))])
        linked, group = connected_components(some.astype(np.int64) @ some.T.astype(np.int64) > 0)
        if linked > 1:
            one, other = names[group == 0], names[group != 0]
            raise PerlerInputError(
                f"expected sections that share measured genes; found none of {len(genes)} genes measured "
                f"both in {few(one, 3)} and in {few(other, 3)}; fit these apart, or give genes that both have"
            )
    if coordinates is not None:
        piles = [name for i, name in enumerate(names) if not np.ptp(coordinates[codes == i], axis=0).any()]
        if piles:
            raise PerlerInputError(
                f"expected locations in different places in every section; found all of one place in "
                f"{few(piles)}; check the coordinates"
            )
    return np.asarray(sections).astype(str)


def section_codes(sections: Any) -> tuple[np.ndarray, np.ndarray]:
    """Names of the sections, sorted, and the place of each location's among them."""
    return np.unique(np.asarray(sections).astype(str), return_inverse=True)


def apart(
    coordinates: Float[np.ndarray, "locations axes"], sections: Any
) -> Float[np.ndarray, "locations more"]:
    """Coordinates in which locations of different sections are never neighbours.

    Args:
        coordinates: (locations, axes), in any unit; they may repeat between sections.
        sections: (locations,) name of each location's section; None: there is one.

    Returns:
        The coordinates with one axis more, along which sections lie ten times as far from each other as the
        largest of them is wide: distances within a section are unchanged. Without sections, the coordinates.
    """
    if sections is None:
        return coordinates
    names, codes = section_codes(sections)
    spans = [np.ptp(coordinates[codes == each], axis=0) for each in range(len(names))]
    away = _AWAY * max(float(np.linalg.norm(span)) for span in spans) or 1.0
    axis = (away * codes).astype(coordinates.dtype)
    return np.concatenate([coordinates, axis[:, None]], axis=1)


def side_by_side(
    coordinates: Float[np.ndarray, "locations axes"], sections: Any
) -> Float[np.ndarray, "locations axes"]:
    """Coordinates for a picture in which sections lie beside each other, in rows, none over another.

    Args:
        coordinates: (locations, 2 or 3), in any unit.
        sections: (locations,) name of each location's section; None: there is one.

    Returns:
        (locations, 2 or 3): each section moved as a whole, in the order of their names, from left to right
        and then downwards (three coordinates: in one row along x).
    """
    if sections is None:
        return coordinates
    names, codes = section_codes(sections)
    lows = np.stack([coordinates[codes == each].min(axis=0) for each in range(len(names))])
    spans = np.stack([np.ptp(coordinates[codes == each], axis=0) for each in range(len(names))])
    room = spans.max(axis=0)
    room = room + _BETWEEN * room.max()
    columns = len(names)
    if coordinates.shape[1] == 2:
        wanted = np.sqrt(_PAGE * len(names) * room[1] / max(room[0], 1e-12))
        columns = int(np.clip(np.round(wanted), 1, len(names)))
        columns = -(-len(names) // -(-len(names) // columns))  # rows of even length
    at = np.zeros_like(lows)
    at[:, 0] = np.arange(len(names)) % columns * room[0] + (room[0] - spans[:, 0]) / 2
    at[:, 1] = -(np.arange(len(names)) // columns) * room[1] + (room[1] - spans[:, 1]) / 2
    return (coordinates - lows[codes] + at[codes]).astype(coordinates.dtype)
