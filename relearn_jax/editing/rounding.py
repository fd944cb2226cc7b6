"""Rounding of matrices to few bits, which may undo an edit (Zhang et al. 2024)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp

from relearn_jax.models import paths

PyTree = Any


def rounded(params: PyTree, matrices: Collection[str], bits: int) -> PyTree:
    """Parameters with matrices rounded to the nearest of 2**bits - 1 evenly spaced values.

    The values are symmetric around 0, and reach up to the largest entry of each output, as in
    round-to-nearest with one scale for each channel.

    Args:
      params: of one model.
      matrices: paths of the matrices, [L, I, O].
      bits: 2 to 16.
    """
    leaves = paths.flatten(params)
    largest = 2 ** (bits - 1) - 1
    for path in matrices:
        matrix = leaves[path]
        scale = jnp.max(jnp.abs(matrix), axis=-2, keepdims=True) / largest
        safe = jnp.where(scale > 0, scale, 1.0)
        leaves[path] = jnp.round(matrix / safe) * safe
    return paths.unflatten(leaves)
