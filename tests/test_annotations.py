"""Annotations are executed in every call, those of nested functions too, however often they are made."""

import jax.numpy as jnp
import pytest
from jax import Array
from jaxtyping import Float, TypeCheckError, jaxtyped

from tests.annotations import checked


def made(faithful):
    @jaxtyped(typechecker=checked)
    def first_cells(values: Float[Array, " cells"], *, by: float = 1.0) -> Float[Array, " cells"]:
        return by * (values if faithful else values[:1])

    return first_cells


def test_nested_functions_are_checked_whenever_they_are_made():
    for size in (3, 4):
        assert made(True)(jnp.ones(size), by=2.0).shape == (size,)
        with pytest.raises(TypeCheckError, match="parameters"):
            made(True)(jnp.ones((size, 2)))
        with pytest.raises(TypeCheckError, match="return value"):
            made(False)(jnp.ones(size))
    assert made(False)(jnp.ones(1)).shape == (1,)


def test_equal_names_with_other_annotations_are_not_mixed_up():
    def other():
        def first_cells(values: str) -> str:
            return values

        first_cells.__qualname__ = made(True).__qualname__
        return jaxtyped(typechecker=checked)(first_cells)

    assert made(True)(jnp.ones(2)).shape == (2,)
    assert other()("a") == "a"
    with pytest.raises(TypeCheckError):
        other()(jnp.ones(2))
