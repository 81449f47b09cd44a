"""What can be shown of every gene: its prediction, and how sure it is where the result says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.colors import to_hex

from perler_jax._typing import Float, Real
from perler_jax.app.explorer.codec import PackedPatterns, pack_patterns
from perler_jax.app.explorer.page import Blobs
from perler_jax.errors import PerlerInputError
from perler_jax.inputs.annotated import layer_names

__all__ = ["SCALES", "colour_stops", "pack_quantities", "short_unit"]

#: Colour maps of the page, by what they are for.
SCALES = {"expression": "viridis", "error": "magma"}
# Quantity: label, meaning, its share of the room for patterns against 1 of the prediction.
_QUANTITIES = {
    "prediction": ("prediction", "expression that the cells tell of each location", 1.0),
    "standard_error": (
        "uncertainty",
        "how much the prediction would vary with other cells (standard error)",
        0.5,
    ),
    "half_width": ("±", "half the interval that holds the true value with that chance", 0.5),
    "lower": ("lower", "lower end of the interval", 0.4),
    "upper": ("upper", "upper end of the interval", 0.4),
}
_LEAST = 20_000  # bytes for patterns below which a page is not worth writing


def pack_quantities(
    result: AnnData, blobs: Blobs, room: Real
) -> tuple[dict[str, list], Float[np.ndarray, " genes"]]:
    """Pack the prediction and the layers that say how sure it is.

    Intervals that lie evenly around the prediction are packed as their half widths, and half widths that are
    so many standard errors as that number.

    Args:
        result: locations x genes.
        blobs: where to.
        room: bytes of all patterns together.

    Returns:
        What the page needs to know of ``patterns`` and ``quantities``, and the correlation of each gene that
        varies with its prediction as packed.

    Raises:
        PerlerInputError: predictions with values missing, or no room.
    """
    if room < _LEAST:
        raise PerlerInputError(
            f"expected room for patterns; found {room / 1e6:.2f} MB left of the size allowed; allow more, or "
            "show fewer genes"
        )
    tables, derived = _tables(result)
    shares = {name: _QUANTITIES[name][2] for name in tables}
    record: dict[str, list] = {"patterns": [], "quantities": []}
    agreement = np.empty(0)
    for name, values in tables.items():
        patterns = pack_patterns(values, budget=room * shares[name] / sum(shares.values()))
        if name == "prediction":
            missing = int(np.isnan(patterns.mean).sum())
            if missing:
                raise PerlerInputError(
                    f"expected a number for every gene at every location; found {missing} genes with values "
                    "missing; leave them out"
                )
            agreement = patterns.agreement(values)
        # What one quantity leaves unused is there for the next.
        room -= patterns.n_bytes
        del shares[name]
        record["quantities"].append(_describe(name, result) | {"patterns": len(record["patterns"])})
        record["patterns"].append({"arrays": _arrays(patterns, name, blobs)})
    for name, (base, step, factor) in derived.items():
        at = [list(tables | derived).index(each) for each in (base, step) if each]
        packed = factor if isinstance(factor, float) else blobs.add(f"{name}-factor", factor)
        record["quantities"].append(_describe(name, result) | {"of": at, "factor": packed})
    return record, agreement


def colour_stops(cmap: str) -> list[tuple[float, str]]:
    """A colour map as plotly and canvases take it."""
    return [(float(at), to_hex(colormaps[cmap](at))) for at in np.linspace(0, 1, 17)]


def short_unit(result: AnnData) -> str:
    """The unit in one word."""
    unit = _unit(result)
    return next((word for word in ("log2", "z-score") if unit.startswith(word)), "difference")


def _unit(result: AnnData) -> str:
    return str(result.uns.get("perler", {}).get("units", "expression"))


def _describe(name: str, result: AnnData) -> dict[str, Any]:
    label, meaning, _ = _QUANTITIES[name]
    level = result.uns.get("perler", {}).get("level")
    if name == "half_width":
        label = f"± {100 * float(level):g} %" if level is not None else "± interval"
    scale = "error" if name in ("standard_error", "half_width") else "expression"
    return {"label": label, "meaning": meaning, "unit": _unit(result), "scale": scale}


def _arrays(patterns: PackedPatterns, name: str, blobs: Blobs) -> dict[str, dict[str, str]]:
    fields = ("basis", "basis_scale", "loadings", "mean", "spread", "low", "high")
    return {field: blobs.add(f"{name}-{field}", getattr(patterns, field)) for field in fields}


def _dense(table: Any) -> np.ndarray:
    return table.toarray() if sp.issparse(table) else np.asarray(table)


_Derived = tuple[str | None, str, Any]  # base, step and factor: base + factor * step


def _tables(result: AnnData) -> tuple[dict[str, np.ndarray], dict[str, _Derived]]:
    """What must be packed as patterns, and what follows from that."""
    tables = {"prediction": np.asarray(_dense(result.X), np.float32)}
    derived: dict[str, _Derived] = {}
    shown = [name for name in layer_names(result) if name in _QUANTITIES]
    layers = {name: np.asarray(_dense(result.layers[name]), np.float32) for name in shown}
    if "standard_error" in layers:
        tables["standard_error"] = layers["standard_error"]
    ends = [layers[name] for name in ("lower", "upper") if name in layers]
    if len(ends) == 2 and _alike((ends[0] + ends[1]) / 2, tables["prediction"], ends[1] - ends[0]):
        half = np.asarray((ends[1] - ends[0]) / 2, np.float32)
        factor = _multiple(half, tables["standard_error"]) if "standard_error" in tables else None
        if factor is None:
            tables["half_width"] = half
        else:
            derived["half_width"] = (None, "standard_error", factor)
        derived |= {"lower": ("prediction", "half_width", -1.0), "upper": ("prediction", "half_width", 1.0)}
    else:
        tables |= {name: layers[name] for name in ("lower", "upper") if name in layers}
    return tables, derived


def _alike(first: np.ndarray, second: np.ndarray, scale: np.ndarray) -> bool:
    """Equal to a hundredth of the scale wherever both are known."""
    known = np.isfinite(first)
    return bool(np.all(np.abs(first - second)[known] <= 0.01 * np.abs(scale)[known] + 1e-5))


def _multiple(values: np.ndarray, of: np.ndarray) -> Float[np.ndarray, " genes"] | None:
    """The number per gene by which one table is the other times it; NaN where a gene has values missing."""
    squares = np.einsum("lg,lg->g", of, of, dtype=np.float64)
    factor = np.einsum("lg,lg->g", values, of, dtype=np.float64) / np.maximum(squares, 1e-30)
    return factor.astype(np.float32) if _alike(values, factor * of, values) else None
