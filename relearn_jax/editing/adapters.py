"""Adapters: small trees of parameters that are trained beside frozen matrices, and added to them.

Letters: L layers, I inputs and O outputs of a matrix, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from relearn_jax.models import paths

PyTree = Any
Shapes = Mapping[str, tuple[int, ...]]
DOWN, UP, FULL = "adapter_down", "adapter_up", "adapter"


def shapes(matrices: Shapes, rank: int | None) -> dict[str, tuple[int, ...]]:
    """Shapes of the adapters of stacked matrices [L, I, O], by path.

    Args:
      matrices: shape of each matrix, by its path `blocks/up/kernel`.
      rank: LoRA's rank; None: adapters as large as their matrices.
    """
    of_adapters: dict[str, tuple[int, ...]] = {}
    for path, (layers, rows, columns) in matrices.items():
        folder = path.rpartition("/")[0]
        if rank is None:
            of_adapters[f"{folder}/{FULL}"] = (layers, rows, columns)
        else:
            of_adapters[f"{folder}/{DOWN}"] = (layers, rows, rank)
            of_adapters[f"{folder}/{UP}"] = (layers, rank, columns)
    return of_adapters


def draw(key: Array, shapes: Shapes) -> PyTree:
    """New adapters, whose product is 0 (Hu et al. 2021, as in the library peft).

    The matrix before the rank is uniform in ±1/sqrt(I), all others are 0.
    """
    leaves = {}
    for number, (path, shape) in enumerate(sorted(shapes.items())):
        leaves[path] = jnp.zeros(shape)
        if path.endswith(DOWN):
            limit = 1 / math.sqrt(shape[1])
            own = jax.random.fold_in(key, number)
            leaves[path] = jax.random.uniform(own, shape, minval=-limit, maxval=limit)
    return paths.unflatten(leaves)


def merged(params: PyTree, adapters: PyTree, scale: float = 1.0) -> PyTree:
    """The parameters with adapters added: W + scale * down @ up, or W + adapter."""
    leaves, added = paths.flatten(params), paths.flatten(adapters)
    for path, adapter in added.items():
        folder, _, name = path.rpartition("/")
        kernel = f"{folder}/kernel"
        if name == DOWN:
            product = jnp.einsum("LIR,LRO->LIO", adapter, added[f"{folder}/{UP}"])
            leaves[kernel] = leaves[kernel] + scale * product
        elif name == FULL:
            leaves[kernel] = leaves[kernel] + adapter
    return paths.unflatten(leaves)
