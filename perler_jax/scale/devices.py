"""Cells spread over devices: processor cores, graphics cards, machines. The user's code stays as it is.

    with use_devices(8):
        fit = fit_perler(cells, reference)

Inside, JAX has a mesh of one axis, "cells". The kernel sees it and gives every device an equal part of the
cells (`shard_map`); what is a sum over cells, the statistics of EM and the weighted means, is summed over the
devices (`psum`). Held-out fits, which need nothing of each other, run one per device instead. Several
processes, on one machine or many, become one mesh by `join_processes`: each runs the same program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.sharding import Mesh

from perler_jax.errors import PerlerInputError

__all__ = [
    "AXIS",
    "devices_of_axis",
    "is_first_process",
    "join_processes",
    "mesh_in_use",
    "request_cpu_devices",
    "use_devices",
]

AXIS = "cells"


@contextmanager
def use_devices(devices: int | None = None) -> Iterator[Mesh]:
    """Spread all work inside this block over devices.

    Args:
        devices: how many, of every process; None takes all.

    Raises:
        PerlerInputError: if there are fewer.
    """
    found = jax.local_devices()
    if devices is not None and not 1 <= devices <= len(found):
        raise PerlerInputError(
            f"expected {devices} devices, found {len(found)} ({found[0].platform}): processor cores become "
            f"devices by request_cpu_devices({devices}), before JAX has computed anything"
        )
    taken: dict[int, list] = {}
    for device in jax.devices():
        taken.setdefault(device.process_index, []).append(device)
    chosen = [device for _, each in sorted(taken.items()) for device in each[:devices]]
    mesh = Mesh(np.array(chosen), (AXIS,))
    with jax.set_mesh(mesh):
        yield mesh


def request_cpu_devices(devices: int) -> None:
    """Let JAX see so many devices on the CPU; other platforms have what they have.

    Without effect once JAX has started its devices: `use_devices` then says if they are too few.
    """
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # started already
        return


def join_processes(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Become one of several processes whose devices form one mesh (`jax.distributed`).

    Args:
        coordinator: "host:port" of the first process, which all can reach; None, as all three, lets JAX ask
            the scheduler that started the job (Slurm, Open MPI, Kubernetes, a TPU pod).
        processes: how many there are.
        process_id: which of them this is, from 0.

    Raises:
        PerlerInputError: on some of the three without the others, or where they cannot meet.
    """
    given = (coordinator, processes, process_id)
    if any(each is None for each in given) and any(each is not None for each in given):
        raise PerlerInputError(
            "expected the coordinator, the number of processes and the id of this one together, found "
            f"{coordinator}, {processes} and {process_id}"
        )
    if process_id is not None and processes is not None and not 0 <= process_id < processes:
        raise PerlerInputError(f"expected a process id from 0 to {processes - 1}, found {process_id}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would make the process deaf to SIGTERM
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise PerlerInputError(f"expected to join the other processes, found: {error}") from error


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def devices_of_axis() -> int:
    """Devices that the cells of a kernel are to be split over; one inside a device's own part."""
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names or AXIS in mesh.manual_axes:
        return 1
    return mesh.shape[AXIS]


def mesh_in_use() -> Mesh | None:
    """The mesh in use, outside jit; None where there is one device."""
    if devices_of_axis() == 1:
        return None
    return jax.sharding.get_mesh()
