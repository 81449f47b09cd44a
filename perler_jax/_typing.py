"""Dimension words, array aliases and the one decorator that makes a frozen dataclass a JAX pytree.

Shapes in signatures are written with the words of the field: ``cells``, ``locations``, ``landmarks``,
``genes``, ``metagenes``. The tests run the whole package under a runtime checker, so they cannot rot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeVar, dataclass_transform

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

__all__ = ["Array", "Bool", "Float", "FloatArray", "Int", "Real", "Scalar", "Shaped", "pytree"]

T = TypeVar("T")

FloatArray = jax.Array | np.ndarray
Scalar = Float[Array, ""] | Float[np.ndarray, ""] | float
Real = float | int


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass whose fields are the leaves of a JAX pytree.

    A field made with ``dataclasses.field(metadata={"static": True})`` is part of the tree's structure
    (it must be hashable) instead of a leaf.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False, repr="__repr__" not in cls.__dict__)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    static = [field.name for field in fields if field.metadata.get("static")]
    leaves = [field.name for field in fields if not field.metadata.get("static")]

    def flatten_with_keys(value: T) -> tuple[list, tuple]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves]
        return children, tuple(getattr(value, name) for name in static)

    def flatten(value: T) -> tuple[list, tuple]:
        return [getattr(value, name) for name in leaves], tuple(getattr(value, name) for name in static)

    def unflatten(structure: tuple, children: Iterable) -> T:
        # Past __init__ and its checks: JAX fills trees with placeholders and tracers of its own.
        value = object.__new__(cls)
        for name, item in zip(leaves + static, [*children, *structure], strict=True):
            object.__setattr__(value, name, item)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
