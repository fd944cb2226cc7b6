"""The devices of a run as a mesh of four axes, and arrays put onto it.

    sets     concept sets, split over devices             data     sentences
    fsdp     sentences, and parameters split as well      tensor   the sides of matrix products

Parameters of C sets have a leading axis C, split over `sets`; a batch's rows are split over `data`
and `fsdp`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax import config
from relearn_jax.data.batching import Rows
from relearn_jax.errors import UserError

PyTree = Any
SETS, DATA, FSDP, TENSOR = AXES = ("sets", "data", "fsdp", "tensor")
ROWS = (DATA, FSDP)
"""The axes over which a batch's rows are split."""


def make(settings: config.Parallel, sets: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh for `sets` concept sets side by side, over `devices` (default: all).

    Raises:
      UserError: the axes multiply to more devices than there are, or, with several processes, to
        fewer.
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


def simulate(settings: config.Parallel) -> None:
    """Simulate as many CPU devices as the settings name, for plans.

    Call it before anything touches a device; afterwards, and on accelerators, it does nothing.
    """
    named = (settings.sets, settings.data, settings.fsdp, settings.tensor)
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", math.prod(n or 1 for n in named))


def axis_sizes(settings: config.Parallel, sets: int, devices: int) -> tuple[int, ...]:
    """Sizes of the four axes; sizes left open are chosen here: `sets` first, then `data`.

    Under pmap, which uses `data` only, an open `sets` is 1.
    """
    available = max(devices // (settings.fsdp * settings.tensor * (settings.data or 1)), 1)
    limit = 1 if settings.driver == "pmap" else min(sets, available)
    along_sets = settings.sets or max(n for n in range(1, limit + 1) if available % n == 0)
    along_data = settings.data or max(available // along_sets, 1)
    return along_sets, along_data, settings.fsdp, settings.tensor


def padded(sets: int, mesh: Mesh) -> int:
    """The number of sets, filled up by repeated sets to a multiple of the axis `sets`."""
    devices = mesh.shape[SETS]
    return -(-sets // devices) * devices


def rows_of(mesh: Mesh, batch_size: int, parts: int = 1) -> Rows:
    """Number of rows of a batch on this mesh, and which of them this process makes.

    Rows of padding are added so that the rows of each device divide into `parts`.
    """
    shares = parts * math.prod(mesh.shape[axis] for axis in ROWS)
    total = -(-batch_size // shares) * shares
    return Rows(total, own_rows(mesh, total))


def rows(mesh: Mesh, sets_axis: bool) -> NamedSharding:
    """Sharding of a batch, [B, ...] or, with an axis of sets, [C, B, ...]."""
    return NamedSharding(mesh, P(SETS, ROWS) if sets_axis else P(ROWS))


def pairs(mesh: Mesh, count: int) -> NamedSharding:
    """Sharding of `count` rows without padding: replicated if they do not divide evenly."""
    divides = count % math.prod(mesh.shape[axis] for axis in ROWS) == 0
    return rows(mesh, False) if divides else replicated(mesh)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that is complete on every device."""
    return NamedSharding(mesh, P())


def own_rows(mesh: Mesh, total: int) -> slice:
    """The rows of a batch that the devices of this process hold."""
    if jax.process_count() == 1:
        return slice(0, total)
    held = rows(mesh, False).addressable_devices_indices_map((total,)).values()
    parts = [part.indices(total)[:2] for (part,) in held]
    return slice(min(a for a, _ in parts), max(b for _, b in parts))


def put_rows(mesh: Mesh, tree: PyTree, sets_axis: bool) -> PyTree:
    """A batch of this process's rows (NumPy), [B, ...] or [C, B, ...], as global arrays."""
    sharding, axis = rows(mesh, sets_axis), 1 if sets_axis else 0
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    shares = math.prod(mesh.shape[name] for name in ROWS)
    own_share = own_rows(mesh, shares)

    def put(leaf: np.ndarray) -> jax.Array:
        # Every process makes all sets; JAX asks only for the parts of this process's devices.
        total = leaf.shape[axis] * shares // (own_share.stop - own_share.start)
        start = own_rows(mesh, total).start
        shape = (*leaf.shape[:axis], total, *leaf.shape[axis + 1 :])

        def part(index: tuple[slice, ...]) -> np.ndarray:
            first, last, _ = index[axis].indices(total)
            inner = slice(first - start, last - start)
            return leaf[(*index[:axis], inner, *index[axis + 1 :])]

        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(put, tree)
