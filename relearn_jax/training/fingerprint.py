"""Checksums that tell whether arrays are equal to the last bit, on any number of devices."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from relearn_jax.models import paths

PyTree = Any
GOLDEN = 0x9E3779B1
"""An odd number near 2^32 over the golden ratio: neighbouring positions land far apart."""


def fingerprint(state: PyTree) -> dict[str, int]:
    """One number below 2^32 for every array of a tree, by its path ("params/embed/words").

    A change of a single element always changes the number; any other change (two elements
    exchanged, a stretch of zeros) goes unnoticed once in 2^32. Arrays may be of any dtype of 1 to 8
    bytes, or PRNG keys; shapes are not told apart. All processes call this and get the same.
    """
    leaves = paths.flatten(state)
    sums = jax.device_get(_sums(list(leaves.values())))
    return {name: int(value) for name, value in zip(leaves, sums, strict=True)}


@jax.jit
def _sums(leaves: list[Array]) -> list[UInt32[Array, ""]]:
    # A sum of wrapping integers does not depend on their order, so sharding does not matter.
    return [jnp.sum(_mix(_placed(_words(leaf))), dtype=jnp.uint32) for leaf in leaves]


def _words(leaf: Array) -> UInt32[Array, ...]:
    """The bits of an array as 32-bit words; 8-byte elements get a last axis of 2."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _placed(words: UInt32[Array, ...]) -> UInt32[Array, ...]:
    """Add to every word a different number, computed from its position in row-major order."""
    for axis in range(words.ndim):
        step = GOLDEN * math.prod(words.shape[axis + 1 :]) % 2**32
        words += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(step)
    return words


def _mix(words: UInt32[Array, ...]) -> UInt32[Array, ...]:
    """A one-to-one map in which every bit depends on all (MurmurHash3's finalizer)."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
