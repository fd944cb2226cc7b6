"""Masks: entries of parameters that are pruned, chosen, frozen or edited.

Letters: S rows of neurons (states 0..L for site `states`, the L blocks for site `mlp`), D channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from relearn_jax.models import paths

PyTree = Any
Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every parameter, by path (`weights.shapes`)."""


class Mask(NamedTuple):
    """A pytree of marked entries; use it under `vmap` for many masks side by side.

    Each array broadcasts against the leaf of its path: [L, 1, F] marks feed-forward neurons in
    `blocks/up/kernel` [L, D, F], [L, 1, 1] whole layers. A leaf without an array is unmarked.
    """

    marked: Mapping[str, Bool[Array, ...]]


def remove(params: PyTree, mask: Mask | None) -> PyTree:
    """Set the marked entries of parameters (or gradients, or updates) to 0; None marks nothing."""
    if mask is None:
        return params
    leaves = paths.flatten(params)
    for path, marked in mask.marked.items():
        leaves[path] = jnp.where(marked, 0, leaves[path])
    return paths.unflatten(leaves)


def complement(mask: Mask) -> Mask:
    """A mask of the other entries of the same leaves."""
    return Mask({path: ~marked for path, marked in mask.marked.items()})


def union(a: Mask, b: Mask) -> Mask:
    """A mask of the entries that either mask marks."""
    unmarked = np.zeros((), bool)
    all_paths = {**a.marked, **b.marked}
    return Mask(
        {path: a.marked.get(path, unmarked) | b.marked.get(path, unmarked) for path in all_paths}
    )


def intersection(a: Mask, b: Mask) -> Mask:
    """A mask of the entries that both masks mark."""
    shared = [path for path in a.marked if path in b.marked]
    return Mask({path: a.marked[path] & b.marked[path] for path in shared})


def count(mask: Mask, shapes: Shapes) -> int:
    """Exact number of marked parameters."""
    return sum(
        int(np.count_nonzero(marked)) * _repeats(marked, shapes[path])
        for path, marked in mask.marked.items()
    )


def count_by_layer(marked: Bool[Array, "L ..."], shape: tuple[int, ...]) -> Int[np.ndarray, " L"]:
    """Number of marked entries in every layer, of a stacked leaf with shape `shape`."""
    entries = np.asarray(marked)
    axes = tuple(range(1, entries.ndim))
    return entries.sum(axes, dtype=np.int64) * _repeats(entries, shape)


def _repeats(marked: Bool[Array, ...], shape: tuple[int, ...]) -> int:
    """Number of entries of the leaf for each entry of its mask array."""
    return math.prod(shape) // math.prod(np.shape(marked))


def of_neurons(
    pruned: Bool[Array, "S D"], site: str, leaves: Mapping[str, int], shapes: Shapes
) -> Mask:
    """The mask of the parameters of neurons.

    Args:
      pruned: marked neurons. For site `states` row l belongs to layer l - 1, and row 0, which no
        block computes, must be unmarked; for site `mlp` row l belongs to layer l.
      site: `states` or `mlp`.
      leaves: the axis of the neuron, by path ("blocks/attention_norm/scale"); axis 0 is the layer
        (`Family.neurons`).
      shapes: shapes of the parameters.

    Raises:
      ValueError: a leaf is missing or has another shape, or row 0 is marked.
    """
    if site == "states":
        if not isinstance(pruned, jax.core.Tracer) and np.asarray(pruned)[0].any():
            raise ValueError("state 0 is computed by no block, so no parameter can prune it")
        pruned = pruned[1:]
    layers, channels = pruned.shape
    marked = {}
    for path, axis in leaves.items():
        shape = shapes.get(path)
        if shape is None or (shape[0], shape[axis]) != (layers, channels):
            raise ValueError(
                f"the mask does not fit the parameters: {path} has shape {shape}, expected "
                f"{layers} on axis 0 and {channels} on axis {axis}"
            )
        sides = [1] * len(shape)
        sides[0], sides[axis] = layers, channels
        marked[path] = pruned.reshape(sides)
    return Mask(marked)
