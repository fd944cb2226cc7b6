"""Several processes as one: who writes, who waits, and how arrays come to the host.

Every process runs the same program. They share the run directory; process 0 alone writes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

PyTree = Any


def initialize() -> None:
    """Join the other processes; to be called before anything touches a device.

    Cloud TPU, Slurm, Open MPI and Kubernetes are recognised by JAX; elsewhere the environment
    variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say what is needed.
    """
    jax.distributed.initialize(**_from_environment())


def _from_environment() -> dict[str, Any]:
    import os

    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    return {k: int(os.environ[v]) for k, v in names.items() if v in os.environ}


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

    Between processes it travels row by row of axis 0 (layer by layer), so no device ever holds
    more than one row of what it does not own.
    """
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    if leaf.ndim < 2:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    rows = (multihost_utils.process_allgather(leaf[i], tiled=True) for i in range(leaf.shape[0]))
    return np.stack([np.asarray(row) for row in rows])
