"""What the kernel does to a tile, written so that XLA does it fast on a CPU; elsewhere XLA's own.

Weights are exponentials by the billion, and tuning does little else. XLA's exponential serves every argument;
the kernel has taken each cell's largest exponent off already, so that it needs e^x for x up to about zero,
and half of the instructions do, no less exactly:

    x = k ln 2 + f,  |f| <= ln 2 / 2,    e^x = 2^k e^f

k is read off the bits of a sum too large to have a fraction; ln 2 is taken off in two parts, the first of
them so short that its product is exact (Cody and Waite 1980); e^f is a Taylor polynomial.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["column_maxima", "column_sums", "exp"]

_BANDS = 24  # rows that are compared at once, each a vector of columns


class _Format(NamedTuple):
    """What a floating-point format asks for."""

    integer: type
    degree: int  # of the polynomial, whose error is then below that of rounding
    short: int  # binary places of the first part of ln 2


_FORMATS = {"float32": _Format(np.int32, 7, 12), "float64": _Format(np.int64, 13, 36)}
_LN2 = Fraction("0.693147180559945309417232121458176568")


@jax.custom_jvp
def exp(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """e^x for x below 88 (float32) or 709 (float64); zero where it would not be a normal number."""
    if not _on_cpu() or x.dtype.name not in _FORMATS:
        return jnp.exp(x)
    dtype, form, info = x.dtype.type, _FORMATS[x.dtype.name], jnp.finfo(x.dtype)
    whole = dtype(1.5 * 2.0**info.nmant)  # a number of this size has no binary places
    power = jax.lax.bitcast_convert_type(x * dtype(1 / math.log(2)) + whole, form.integer)
    power = power - whole.view(form.integer)
    first = Fraction(round(_LN2 * 2**form.short), 2**form.short)
    rest = x
    for part in (first, _LN2 - first):
        rest = rest - power.astype(dtype) * dtype(float(part))
    taylor = [dtype(1 / math.factorial(n)) for n in range(form.degree, -1, -1)]
    value = functools.reduce(lambda above, each: above * rest + each, taylor)
    scale = jax.lax.bitcast_convert_type((power << info.nmant) + dtype(1).view(form.integer), dtype)
    return jnp.where(x < dtype(math.log(float(info.tiny))), dtype(0), value * scale)


@exp.defjvp
def _slope(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    value = exp(at[0])
    return value, value * along[0]


def column_sums(tile: Float[Array, "rows columns"]) -> Float[Array, " columns"]:
    """Sum over rows: a product with ones takes half the time of a sum."""
    return jnp.ones(len(tile), tile.dtype) @ tile if _on_cpu() else tile.sum(axis=0)


def column_maxima(tile: Float[Array, "rows columns"]) -> Float[Array, " columns"]:
    """Largest of each column: whole bands of rows against each other first, then the rows of what is left."""
    if not _on_cpu() or len(tile) < _BANDS:
        return tile.max(axis=0)
    rows = math.ceil(len(tile) / _BANDS)
    starts = [band * (len(tile) - rows) // (_BANDS - 1) for band in range(_BANDS)]  # they may overlap
    return functools.reduce(jnp.maximum, [tile[start : start + rows] for start in starts]).max(axis=0)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
