"""Several processes as one: who writes, who waits, and how arrays come to the host.

Every process runs the same program. They share the run directory; process 0 alone writes to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PyTree = Any


def initialize() -> None:
    """Join the other processes; to be called before anything touches a device.

    Cloud TPU, Slurm, Open MPI and Kubernetes are recognised by JAX; elsewhere the environment
    variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say what is needed.
    """
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    given = {name: int(os.environ[key]) for name, key in names.items() if key in os.environ}
    # JAX itself reads the address alone.
    told = {"cluster_detection_method": "deactivate"} if len(given) == 2 else {}
    jax.distributed.initialize(**given, **told)


def is_writer() -> bool:
    """Whether this process writes files and talks to the user."""
    return jax.process_index() == 0


def once(write: Callable[[], Any], name: str) -> None:
    """Let process 0 write, and all others wait until it has."""
    if is_writer():
        write()
    wait(name)


def wait(name: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def stop_requested(here: bool, step: int) -> bool:
    """Whether to end now, before it is asked again; all processes get the same answer.

    Of several processes JAX's own service hears the signal and names a step that all will reach.
    """
    if jax.process_count() == 1:
        return here
    return multihost_utils.reached_preemption_sync_point(step)


def fetch(leaf: jax.Array) -> np.ndarray:
    """An array as NumPy, on every process, put together on the host.

    What the devices of this process hold is taken from them. Only where that is not all of it do
    processes exchange it, row by row of axis 0 (layer by layer), so no device ever holds more than
    one row of what it does not own.
    """
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    whole, found = np.empty(leaf.shape, leaf.dtype), np.zeros(leaf.shape, bool)
    for shard in leaf.addressable_shards:
        whole[shard.index], found[shard.index] = shard.data, True
    if found.all():
        return whole
    rows = (multihost_utils.process_allgather(row, tiled=True) for row in leaf)
    return np.stack([np.asarray(row) for row in rows])


def as_global(mesh: Mesh, tree: PyTree) -> PyTree:
    """Arrays that lie on this process's devices alone, the same on all processes, as global ones.

    Arrays that lie on the whole mesh stay as they are.
    """
    everywhere, place = set(mesh.devices.flat), NamedSharding(mesh, PartitionSpec())

    def one(leaf: jax.Array) -> jax.Array:
        if leaf.sharding.device_set == everywhere:
            return leaf
        host = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, place, lambda index: host[index])

    return jax.tree.map(one, tree)
