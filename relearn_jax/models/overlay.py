"""Overlays: some layers' leaves of a shared, frozen model are replaced by leaves of their own.

Only the replaced leaves are trained, so only they have gradients, moments and an axis of models
side by side; and nothing below the first replaced layer is differentiated. Letters: L layers, K
replaced layers of a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from relearn_jax.models import paths

PyTree = Any
BLOCKS = "blocks/"
Layers = tuple[tuple[str, tuple[int, ...]], ...]
"""The replaced layers of each leaf, ascending, by path: (("blocks/up/kernel", (2, 5)), ...)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Overlay:
    """Blocks with replaced layers; `transformer.hidden` takes it in place of the blocks."""

    blocks: PyTree
    """Every leaf [L, ...]."""
    rows: Mapping[str, Float[Array, "K ..."]]
    """The replacing leaves, by path."""
    layers: Layers = field(metadata={"static": True})


def layers_of(marked: Mapping[str, np.ndarray]) -> Layers:
    """The layers in which a mask's arrays [L, ...] mark anything."""
    found = (
        (path, tuple(np.flatnonzero(rows.reshape(len(rows), -1).any(axis=1)).tolist()))
        for path, rows in sorted(marked.items())
    )
    return tuple((path, layers) for path, layers in found if layers)


def rows(params: PyTree, layers: Layers) -> dict[str, Array]:
    """The leaves that an overlay replaces, [K, ...], by path."""
    leaves = paths.flatten(params)
    return {path: leaves[path][np.array(chosen)] for path, chosen in layers}


def laid(layers: Layers, params: PyTree, rows: PyTree) -> PyTree:
    """The model `params` with `rows` laid over its blocks, without a copy of either.

    Args:
      layers: the layers of each row.
      params: the model below.
      rows: a tree of the replacing leaves [K, ...].
    """
    return {**params, "blocks": Overlay(params["blocks"], paths.flatten(rows), layers)}


def filled(layers: Layers, params: PyTree, rows: Mapping[str, Array]) -> PyTree:
    """The model `params` with `rows` written into copies of its stacked leaves."""
    leaves = paths.flatten(params)
    for path, chosen in layers:
        leaves[path] = jnp.asarray(leaves[path]).at[np.array(chosen)].set(rows[path])
    return paths.unflatten(leaves)


def scan(
    step: Callable[..., tuple], h: Array, blocks: PyTree, others: PyTree, remat: bool = False
) -> tuple:
    """`lax.scan` of `step` over blocks, which may have an overlay.

    Args:
      step: takes `h` and (a block's parameters, its row of `others`); returns `h` and readings.
      h: what enters the first block.
      blocks: every leaf [L, ...], or an overlay.
      others: leaves [L, ...], such as interventions.
      remat: whether the backward pass computes all of a block again; else it only slices and casts
        parameters again, so that no copy of them is kept.

    Returns:
      (the last h, the readings of all layers)
    """
    if not isinstance(blocks, Overlay):
        return lax.scan(_checkpointed(step, remat), h, (blocks, others))
    count = jax.tree.leaves(blocks.blocks)[0].shape[0]

    def own(h: Array, layer: tuple) -> tuple:
        index, rows, row = layer
        # Sliced here, as a slice outside of the loop would be a copy.
        frozen = jax.tree.map(
            partial(lax.dynamic_index_in_dim, index=index, keepdims=False), blocks.blocks
        )
        leaves = paths.flatten(frozen)
        leaves |= {path.removeprefix(BLOCKS): leaf for path, leaf in rows.items()}
        return step(h, (paths.unflatten(leaves), row))

    body, readings = _checkpointed(own, remat), []
    for first, last in _runs(blocks.layers, count):
        part = slice(first, last)
        rows = {
            path: blocks.rows[path][chosen.index(first) : chosen.index(first) + last - first]
            for path, chosen in blocks.layers
            if first in chosen
        }
        index = jnp.arange(first, last)
        h, read = lax.scan(body, h, (index, rows, jax.tree.map(lambda x, p=part: x[p], others)))
        readings.append(read)
    return h, jax.tree.map(lambda *parts: jnp.concatenate(parts), *readings)


def _runs(layers: Layers, count: int) -> list[tuple[int, int]]:
    """Runs (first, last + 1) of adjacent layers in which the same leaves are replaced."""

    def replaced(layer: int) -> tuple[str, ...]:
        return tuple(path for path, chosen in layers if layer in chosen)

    runs = [list(run) for _, run in groupby(range(count), replaced)]
    return [(run[0], run[-1] + 1) for run in runs]


def _checkpointed(step: Callable[..., tuple], remat: bool) -> Callable[..., tuple]:
    return jax.checkpoint(step, prevent_cse=False, policy=None if remat else _saved)


def _saved(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name not in ("dynamic_slice", "squeeze", "convert_element_type")
