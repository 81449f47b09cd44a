"""Scales of expression values: their names, and the way back from logarithms.

A scale is a value: settled once, where data come in, and never guessed again further on.
"""

from __future__ import annotations

import warnings
from typing import Any, get_args

import numpy as np
import scipy.sparse as sp

from perler_jax.choices import ReferenceNormalisation, Scale
from perler_jax.errors import PerlerInputError, PerlerWarning

__all__ = ["LOGARITHMS", "ReferenceNormalisation", "Scale", "depth_normalisation", "from_log", "known_scale"]

LOGARITHMS = ("log1p", "log2", "centred")


def known_scale(scale: str) -> Scale:
    """The scale of that name; "log", as it was called once, is "log2".

    Raises:
        PerlerInputError: none has that name.
    """
    if scale == "log":
        message = "scale='log' is called 'log2' now ('log1p' is the natural logarithm): say which one it is"
        warnings.warn(message, PerlerWarning, stacklevel=4)
        return "log2"
    if scale not in get_args(Scale):
        raise PerlerInputError(f"expected a scale of {', '.join(get_args(Scale))}; found {scale!r}; name one")
    return scale  # type: ignore[return-value]


def depth_normalisation(asked: str, scale: str) -> ReferenceNormalisation:
    """Whether a map is brought to one total per location; "auto" is "none".

    Raises:
        PerlerInputError: none has that name, or totals mean nothing on the scale.
    """
    if asked not in get_args(ReferenceNormalisation):
        known = ", ".join(get_args(ReferenceNormalisation))
        raise PerlerInputError(f"expected a normalisation of the reference of {known}; found {asked!r}")
    if asked == "median" and scale in ("centred", "binary"):
        raise PerlerInputError(
            f"expected a reference that has totals with normalisation='median'; found scale {scale!r}; leave "
            "the normalisation out"
        )
    return "none" if asked == "auto" else asked  # type: ignore[return-value]


def from_log(values: Any, scale: str) -> Any:
    """What was logged: e^x - 1 of "log1p", 2^x - 1 of "log2"; values of other scales as they are.

    Args:
        values: NumPy array or SciPy CSR or CSC; zeros stay zeros, floats keep their type.
        scale: of the values.
    """
    if scale not in ("log1p", "log2"):
        return values
    entries = np.asarray(values.data if sp.issparse(values) else values)
    if entries.dtype.kind != "f":
        entries = entries.astype(np.float64)
    linear = np.expm1(entries if scale == "log1p" else entries * entries.dtype.type(np.log(2.0)))
    if not sp.issparse(values):
        return linear
    return type(values)((linear, values.indices.copy(), values.indptr.copy()), shape=values.shape)
