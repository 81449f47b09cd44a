"""What runs where: a part of the cells per device with sums between them, or one item per device."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from perler_jax.errors import PerlerInputError
from perler_jax.scale.devices import AXIS, devices_of_axis, mesh_in_use

__all__ = ["one_per_device", "own_cells", "shard_cells", "split_cells", "to_device"]

PyTree = Any
Found = TypeVar("Found")
_SPLIT, _WHOLE = PartitionSpec(AXIS), PartitionSpec()


def to_device(values: Any, dtype: Any) -> Array:
    """An array in this precision, converted on the host: JAX would hold it in both for a while."""
    return jnp.asarray(np.asarray(values, dtype))


def own_cells(n_cells: int) -> slice:
    """Which cells this process holds, when they are spread over the devices in use."""
    mesh = mesh_in_use()
    if mesh is None:
        return slice(0, n_cells)
    owners = [device.process_index for device in mesh.devices.flat]
    per_device, first = -(-n_cells // len(owners)), owners.index(jax.process_index())
    ends = (first * per_device, (first + owners.count(jax.process_index())) * per_device)
    return slice(*(min(end, n_cells) for end in ends))


def shard_cells(
    rows: Float[np.ndarray, "rows columns"] | Float[Array, "rows columns"], n_cells: int | None = None
) -> tuple[Float[Array, "cells columns"], Float[Array, " cells"] | None]:
    """Lay the cells over the devices in use, each process its own part.

    Args:
        rows: all cells, the same in every process; or, with ``n_cells``, only this process's `own_cells`.
        n_cells: of all processes together, where rows are this process's own.

    Returns:
        The cells, padded with zeros to a multiple of the devices, and how often each counts (padding: not at
        all): ``cell_weights`` of `fit_em`, ``votes`` of `weighted_means`. None where there is one device.

    Raises:
        PerlerInputError: on another number of rows than this process's own.
    """
    mesh = mesh_in_use()
    if mesh is None:
        return jnp.asarray(rows), None
    own = own_cells(len(rows) if n_cells is None else n_cells)
    total = len(rows) if n_cells is None else n_cells
    local = _on_host(rows)[own] if n_cells is None else _on_host(rows)
    if len(local) != own.stop - own.start:
        raise PerlerInputError(
            f"expected cells {own.start} to {own.stop} of {total} in this process, found {len(local)} rows"
        )
    n_devices = mesh.devices.size
    per_device = -(-total // n_devices)
    here = per_device * sum(device.process_index == jax.process_index() for device in mesh.devices.flat)
    missing = here - len(local)
    present = np.repeat(np.array([1, 0], local.dtype), [len(local), missing])
    place = functools.partial(jax.make_array_from_process_local_data, NamedSharding(mesh, _SPLIT))
    size = per_device * n_devices
    padded = np.pad(local, [(0, missing), (0, 0)])
    return place(padded, (size, local.shape[1])), place(present, (size,))


def split_cells(
    function: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    by_cell: PyTree,
    shared: PyTree,
) -> tuple[PyTree, PyTree]:
    """Run a function on a part of the cells per device, for use inside jit; on one device just call it.

    Args:
        function: (by_cell, shared) -> (values per cell, with cells on axis 1; sums over cells).
        by_cell: arrays with cells on axis 0; padded with zeros, which must add nothing to the sums.
        shared: arrays that every device needs whole.
    """
    n_devices = devices_of_axis()
    if n_devices == 1:
        return function(by_cell, shared)
    n_cells = jax.tree.leaves(by_cell)[0].shape[0]
    missing = -n_cells % n_devices

    def pad(leaf: Array) -> Array:
        return jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)) if missing else leaf

    def part(by_cell: PyTree, shared: PyTree) -> tuple[PyTree, PyTree]:
        values, sums = function(by_cell, shared)
        return values, jax.lax.psum(sums, AXIS)

    specs = PartitionSpec(None, AXIS), _WHOLE
    values, sums = _shard_map(part, (_SPLIT, _WHOLE), specs)(jax.tree.map(pad, by_cell), shared)
    return jax.tree.map(lambda leaf: leaf[:, :n_cells], values), sums


def one_per_device(
    function: Callable[[PyTree, PyTree], Found], items: Iterable[PyTree], shared: PyTree
) -> Iterator[Found]:
    """The results of a function for many items of equal shapes, as many at a time as there are devices.

    Item i runs on device i modulo their number, by one compiled program in which no device waits for another.

    Args:
        function: (item, shared) -> arrays; JAX can trace it. One that is hashed by value is compiled once.
        items: NumPy arrays; taken one by one, and made while devices compute.
        shared: arrays that all items need.

    Yields:
        One result per item, in their order.
    """
    mesh = mesh_in_use()
    if mesh is None:
        yield from (function(jax.tree.map(jnp.asarray, item), shared) for item in items)
        return

    program = _on_each_device(function, mesh)
    sharding, size = NamedSharding(mesh, _SPLIT), mesh.devices.size

    def place(leaf: np.ndarray) -> Array:
        leaf = _on_host(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    def fetched(batch: PyTree, count: int) -> Iterator[Found]:
        found = jax.tree.map(_fetch, batch)
        for index in range(count):
            yield jax.tree.map(lambda leaf, at=index: jnp.asarray(leaf[at]), found)

    running: tuple[PyTree, int] | None = None
    source = iter(items)
    while taken := list(itertools.islice(source, size)):
        filled = taken + taken[-1:] * (size - len(taken))
        stacked = jax.tree.map(lambda *leaves: place(np.stack(leaves)), *filled)
        last, running = running, (program(stacked, shared), len(taken))
        if last is not None:
            yield from fetched(*last)
    if running is not None:
        yield from fetched(*running)


@functools.lru_cache(maxsize=8)
def _on_each_device(function: Callable[[PyTree, PyTree], Any], mesh: Any) -> Callable:
    """A function of one item as a program on all devices of a mesh; equal functions share it."""

    def part(item: PyTree, shared: PyTree) -> PyTree:
        found = function(jax.tree.map(lambda leaf: leaf[0], item), shared)
        return jax.tree.map(lambda leaf: leaf[None], found)

    return jax.jit(_shard_map(part, (_SPLIT, _WHOLE), _SPLIT))


def _on_host(values: np.ndarray | Array) -> np.ndarray:
    """In the precision that JAX will hold it in."""
    array = np.asarray(values)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _fetch(array: Array) -> np.ndarray:
    """A host copy of an array whose parts lie on the devices of all processes."""
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _shard_map(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    # Scans inside start from constants, which the check of what varies over devices would refuse.
    return jax.shard_map(
        function,
        mesh=jax.sharding.get_abstract_mesh(),
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=False,
    )
