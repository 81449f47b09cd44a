"""The kernel's exponential, sums and maxima: as exact as NumPy's, for every argument that the kernel has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perler_jax import tile_arithmetic
from perler_jax.tile_arithmetic import column_maxima, column_sums, exp


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(True):
        yield np.dtype(request.param)


def test_the_exponential_is_right_to_the_last_place(dtype):
    smallest = float(np.log(np.finfo(dtype).tiny))
    x = np.concatenate(
        [np.linspace(0.999 * smallest, 0, 100_001), -np.logspace(-9, 0, 1001), [1e-6, 3.0, 80.0]]
    )
    x = x.astype(dtype)
    right = np.exp(x.astype(np.longdouble))
    error = np.abs(np.asarray(jax.jit(exp)(x), np.longdouble) / right - 1)
    assert error.max() < 1.5 * np.finfo(dtype).eps
    assert np.asarray(exp(jnp.zeros(3, dtype))).tolist() == [1.0, 1.0, 1.0]


def test_what_is_too_small_is_zero_and_what_is_no_number_stays_none(dtype):
    found = np.asarray(exp(jnp.array([-np.inf, -1e30, -1000.0, np.nan], dtype)))
    assert found[:3].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(found[3])
    assert found.dtype == dtype


def test_the_exponential_is_its_own_slope(dtype):
    x = jnp.linspace(-5, 0, 7, dtype=dtype)
    first = jax.vmap(jax.grad(exp))(x)
    second = jax.vmap(jax.grad(jax.grad(exp)))(x)
    np.testing.assert_array_equal(first, exp(x))
    np.testing.assert_array_equal(second, exp(x))


@pytest.mark.parametrize("rows", [1, 5, 23, 24, 25, 100, 3039])
def test_sums_and_maxima_of_columns(dtype, rows):
    tile = np.random.default_rng(rows).normal(size=(rows, 9)).astype(dtype)
    tile[:, 3] = -np.inf
    np.testing.assert_array_equal(jax.jit(column_maxima)(tile), tile.max(axis=0))
    tile[:, 3] = 0.0
    sums = tile.sum(axis=0, dtype=np.longdouble).astype(float)
    scale = np.abs(tile).sum(axis=0)
    assert (np.abs(jax.jit(column_sums)(tile) - sums) <= 8 * np.finfo(dtype).eps * scale).all()


def test_every_row_can_hold_the_maximum():
    for rows in (24, 31, 48, 97):
        found = np.asarray(column_maxima(jnp.eye(rows)))
        np.testing.assert_array_equal(found, np.ones(rows))


def test_other_devices_and_formats_have_their_own(monkeypatch):
    x = jnp.linspace(-5, 0, 30, dtype=jnp.bfloat16)
    np.testing.assert_array_equal(exp(x), jnp.exp(x))
    monkeypatch.setattr(tile_arithmetic, "_on_cpu", lambda: False)
    tile = jnp.linspace(-5, 0, 60).reshape(30, 2)
    np.testing.assert_array_equal(exp(tile), jnp.exp(tile))
    np.testing.assert_array_equal(column_sums(tile), tile.sum(axis=0))
    np.testing.assert_array_equal(column_maxima(tile), tile.max(axis=0))
