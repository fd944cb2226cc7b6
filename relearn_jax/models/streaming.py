"""Reading of arrays part by part, each part straight onto its devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import jax
import numpy as np

Index = tuple[slice, ...]
"""A part of an array: one slice for each axis, with a start and a stop."""
Part = Callable[[Index], np.ndarray]
"""Reads a part of one array."""
Place = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
"""Gives the sharding of a parameter, by its path and shape."""


def put(part: Part, shape: tuple[int, ...], sharding: jax.sharding.Sharding) -> jax.Array:
    """Read an array of a given shape onto its devices.

    Each distinct shard is read once, put on all devices that hold it, and freed before the next, so
    the host never has more than one. Each process reads the shards of its own devices.
    """
    holders: dict[tuple, list[jax.Device]] = defaultdict(list)
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        bounds = (s.indices(side)[:2] for s, side in zip(index, shape, strict=True))
        holders[tuple(bounds)].append(device)
    shards: list[jax.Array] = []
    for bounds, devices in holders.items():
        shards += _copies(part(tuple(slice(*b) for b in bounds)), devices)
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _copies(block: np.ndarray, devices: list[jax.Device]) -> list[jax.Array]:
    return jax.block_until_ready([jax.device_put(block, device) for device in devices])


def full_index(shape: tuple[int, ...]) -> Index:
    """The index of the full array."""
    return tuple(slice(0, side) for side in shape)
