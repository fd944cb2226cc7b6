"""Several processes as one: who writes, who waits, and how arrays come to the host.

Every process runs the same program. They share the run directory; process 0 alone writes to it.
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
"""Bytes that processes exchange at a time."""


def initialize() -> None:
    """Join the other processes; to be called before anything touches a device.

    Cloud TPU, Slurm, Open MPI and Kubernetes are recognised by JAX; elsewhere the environment
    variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say what is needed.

    Raises:
      UserError: a variable makes no sense, or neither they nor JAX know of a cluster.
    """
    given = _given(os.environ)
    # On CPUs two programs under way may meet their collectives in another order in each process.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # JAX itself reads the address alone.
    told = {"cluster_detection_method": "deactivate"} if len(given) == 2 else {}
    try:
        jax.distributed.initialize(**given, **told)
    except ValueError as error:
        raise UserError(
            f"--distributed: JAX knows of no cluster here ({error}) On a Cloud TPU slice, under "
            f"Slurm and under Open MPI it finds it by itself; elsewhere set {ADDRESS} (host:port "
            f"of process 0), {' and '.join(NUMBERS.values())} for every process, or leave "
            "--distributed out."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--distributed: the processes did not find each other: {error}. Process 0 must run "
            f"and be reachable at {os.environ.get(ADDRESS, 'the address that JAX found')}; see "
            "docs/scaling.md, Several hosts."
        ) from error


def _given(environment: Mapping[str, str]) -> dict[str, int]:
    """What the environment says of the processes; JAX itself reads the address."""
    given = {}
    for name, key in NUMBERS.items():
        text = environment.get(key)
        if text is not None and not text.strip().isdecimal():
            raise UserError(f"{key} = {text!r}: should be a whole number")
        if text is not None:
            given[name] = int(text)
    if len(given) == 2 and given["process_id"] >= given["num_processes"]:
        raise UserError(
            f"JAX_PROCESS_ID = {given['process_id']}: processes are counted from 0 to "
            f"JAX_NUM_PROCESSES - 1 = {given['num_processes'] - 1}"
        )
    address = environment.get(ADDRESS)
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise UserError(f"{ADDRESS} = {address!r}: should be host:port of process 0")
    return given


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


def first(value: int) -> int:
    """What process 0 found; processes that decide by the disk or their memory must decide alike."""
    return int(multihost_utils.broadcast_one_to_all(np.int64(value)))


def all_of(here: bool) -> bool:
    """Whether it is so in all processes."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(here))))


def fetch(leaf: jax.Array) -> np.ndarray:
    """An array as NumPy, on every process, put together on the host.

    What the devices of this process hold is taken from them. Only where that is not all of it do
    processes exchange it, some rows of axis 0 (layers) at a time, so no device ever holds much of
    what it does not own.
    """
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    parts = {str(shard.index): shard for shard in leaf.addressable_shards}.values()
    whole = np.empty(leaf.shape, leaf.dtype)
    if sum(part.data.size for part in parts) == leaf.size:
        for part in parts:
            whole[part.index] = part.data
        return whole
    everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
    step = max(1, EXCHANGED // max(leaf.nbytes // leaf.shape[0], 1))
    for start in range(0, leaf.shape[0], step):
        size = min(step, leaf.shape[0] - start)
        whole[start : start + size] = np.asarray(_rows(everywhere, size, leaf, start))
    return whole


@partial(jax.jit, static_argnums=(0, 1))
def _rows(everywhere: NamedSharding, size: int, leaf: jax.Array, start: int) -> jax.Array:
    rows = jax.lax.dynamic_slice_in_dim(leaf, start, size)
    return jax.lax.with_sharding_constraint(rows, everywhere)


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
