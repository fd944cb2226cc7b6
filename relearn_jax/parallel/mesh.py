"""The devices of a run as a mesh of four axes, and arrays put onto it.

    sets     concept sets, each device with its own       data     sentences
    fsdp     sentences, and parameters shared out         tensor   the sides of matrix products

Parameters of C sets have a leading axis C over `sets`; a batch's rows lie over `data` and `fsdp`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax import config
from relearn_jax.errors import UserError

PyTree = Any
SETS, DATA, FSDP, TENSOR = AXES = ("sets", "data", "fsdp", "tensor")
ROWS = (DATA, FSDP)
"""The axes that a batch's rows are spread over."""


def make(settings: config.Parallel, sets: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh for `sets` concept sets side by side, over all devices (or those given).

    Raises:
      UserError: the axes multiply to more devices than there are, or, where they leave some out,
        there are several processes.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = axis_sizes(settings, sets, len(devices))
    used = math.prod(sizes)
    if used > len(devices) or (used < len(devices) and jax.process_count() > 1):
        named = " x ".join(f"{axis} {n}" for axis, n in zip(AXES, sizes, strict=True))
        raise UserError(
            f"parallel: {named} makes {used} devices, and there are {len(devices)}; change an axis "
            "or leave sets and data null"
        )
    grid = np.array(devices[:used]).reshape(sizes)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def axis_sizes(settings: config.Parallel, sets: int, devices: int) -> tuple[int, ...]:
    """Sizes of the four axes: sets first, data what is left, where the settings leave them open."""
    open_axes = max(devices // (settings.fsdp * settings.tensor), 1)
    data = settings.data or 0
    along_sets = settings.sets or max(
        n for n in range(1, open_axes + 1) if open_axes % (n * max(data, 1)) == 0 and n <= sets
        or n == 1
    )  # fmt: skip
    return along_sets, data or max(open_axes // along_sets, 1), settings.fsdp, settings.tensor


def padded(sets: int, mesh: Mesh) -> int:
    """The number of sets that divides evenly: sets are repeated to reach it."""
    along = mesh.shape[SETS]
    return -(-sets // along) * along


def padded_rows(rows: int, mesh: Mesh) -> int:
    """The number of rows that divides evenly; rows that are all padding are added to reach it."""
    along = math.prod(mesh.shape[axis] for axis in ROWS)
    return -(-rows // along) * along


def rows(mesh: Mesh, sets_axis: bool) -> NamedSharding:
    """Sharding of a batch, [B, ...] or one for each set [C, B, ...]."""
    return NamedSharding(mesh, P(SETS, ROWS) if sets_axis else P(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def own_rows(mesh: Mesh, total: int) -> slice:
    """The rows of a batch that the devices of this process hold."""
    if jax.process_count() == 1:
        return slice(0, total)
    held = rows(mesh, False).addressable_devices_indices_map((total,)).values()
    parts = [part.indices(total)[:2] for (part,) in held]
    return slice(min(a for a, _ in parts), max(b for _, b in parts))


def put_rows(mesh: Mesh, tree: PyTree, total: int, sets_axis: bool) -> PyTree:
    """A batch of this process's rows (NumPy) as global arrays with `total` rows."""
    sharding = rows(mesh, sets_axis)

    def put(leaf: np.ndarray) -> jax.Array:
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        axis = 1 if sets_axis else 0
        shape = (*leaf.shape[:axis], total, *leaf.shape[axis + 1 :])
        if sets_axis:
            # Each process makes the rows of all sets, and hands out those of its own sets.
            start = own_rows(mesh, total).start

            def part(index: tuple[slice, ...]) -> np.ndarray:
                first, last, _ = index[1].indices(total)
                return leaf[(index[0], slice(first - start, last - start), *index[2:])]

            return jax.make_array_from_callback(shape, sharding, part)
        return jax.make_array_from_process_local_data(sharding, leaf, shape)

    return jax.tree.map(put, tree)


def put_replicated(mesh: Mesh, tree: PyTree) -> PyTree:
    """NumPy arrays, the same on all processes, as arrays on every device."""
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(
            np.shape(leaf), sharding, lambda index: np.asarray(leaf)[index]
        ),
        tree,
    )
