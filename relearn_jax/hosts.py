"""Coordination of several processes: writing, waiting, and fetching arrays to the host.

Every process runs the same program. They share the run directory; only process 0 writes to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from relearn_jax.errors import UserError

PyTree = Any
ADDRESS = "JAX_COORDINATOR_ADDRESS"
NUMBERS = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
EXCHANGED = 2**26
"""Number of bytes that processes exchange at a time."""


def initialize() -> None:
    """Join the other processes. Call it before anything touches a device.

    JAX recognises Cloud TPU, Slurm, Open MPI and Kubernetes; elsewhere set the environment
    variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      UserError: a variable is invalid, or there is no cluster by these variables or by JAX.
    """
    settings = _from_environment(os.environ)
    # On CPUs, programs in flight may run their collectives in different orders in each process.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # JAX itself reads only the address.
    detection = {"cluster_detection_method": "deactivate"} if len(settings) == 2 else {}
    try:
        jax.distributed.initialize(**settings, **detection)
    except ValueError as error:
        raise UserError(
            f"--distributed: JAX finds no cluster here ({error}) On a Cloud TPU slice, under "
            f"Slurm and under Open MPI it is found automatically; elsewhere set {ADDRESS} "
            f"(host:port of process 0), {' and '.join(NUMBERS.values())} for every process, "
            "or leave --distributed out."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--distributed: the processes did not find each other: {error}. Process 0 must run "
            f"and be reachable at {os.environ.get(ADDRESS, 'the address that JAX found')}; see "
            "docs/scaling.md, Several hosts."
        ) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, int]:
    """Number and id of processes from the environment; JAX itself reads the address."""
    settings = {}
    for name, key in NUMBERS.items():
        text = environment.get(key)
        if text is not None and not text.strip().isdecimal():
            raise UserError(f"{key} = {text!r}: should be a whole number")
        if text is not None:
            settings[name] = int(text)
    if len(settings) == 2 and settings["process_id"] >= settings["num_processes"]:
        raise UserError(
            f"JAX_PROCESS_ID = {settings['process_id']}: processes are counted from 0 to "
            f"JAX_NUM_PROCESSES - 1 = {settings['num_processes'] - 1}"
        )
    address = environment.get(ADDRESS)
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise UserError(f"{ADDRESS} = {address!r}: should be host:port of process 0")
    return settings


def is_writer() -> bool:
    """Whether this process writes files and messages."""
    return jax.process_index() == 0


def once(write: Callable[[], Any], name: str) -> None:
    """Let process 0 write, and let all others wait until it is done."""
    if is_writer():
        write()
    wait(name)


def wait(name: str) -> None:
    """Wait until all processes have called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def first(value: int) -> int:
    """The value of process 0, so that decisions by disk or memory are the same in all processes."""
    return int(multihost_utils.broadcast_one_to_all(np.int64(value)))


def all_of(condition: bool) -> bool:
    """Whether a condition is true in all processes."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(condition))))


def fetch(leaf: jax.Array) -> np.ndarray:
    """Fetch an array as NumPy on every process.

    Parts on the devices of this process are read there. If parts are missing, processes exchange
    the array by rows of axis 0 (layers), `EXCHANGED` bytes at a time, so that no device holds much
    of other devices' parts.
    """
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    parts = {str(shard.index): shard for shard in leaf.addressable_shards}.values()
    host = np.empty(leaf.shape, leaf.dtype)
    if sum(part.data.size for part in parts) == leaf.size:
        for part in parts:
            host[part.index] = part.data
        return host
    everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
    step = max(1, EXCHANGED // max(leaf.nbytes // leaf.shape[0], 1))
    for start in range(0, leaf.shape[0], step):
        size = min(step, leaf.shape[0] - start)
        host[start : start + size] = np.asarray(_rows(everywhere, size, leaf, start))
    return host


@partial(jax.jit, static_argnums=(0, 1))
def _rows(everywhere: NamedSharding, size: int, leaf: jax.Array, start: int) -> jax.Array:
    rows = jax.lax.dynamic_slice_in_dim(leaf, start, size)
    return jax.lax.with_sharding_constraint(rows, everywhere)


def as_global(mesh: Mesh, tree: PyTree) -> PyTree:
    """Turn arrays on this process's devices, equal on all processes, into replicated global arrays.

    Arrays on the full mesh do not change.
    """
    everywhere, place = set(mesh.devices.flat), NamedSharding(mesh, PartitionSpec())

    def globalized(leaf: jax.Array) -> jax.Array:
        if leaf.sharding.device_set == everywhere:
            return leaf
        host = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, place, lambda index: host[index])

    return jax.tree.map(globalized, tree)
