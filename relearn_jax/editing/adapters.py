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
from relearn_jax.models.layers import ADAPTER_DOWN, ADAPTER_UP

PyTree = Any
Shapes = Mapping[str, tuple[int, ...]]
FULL = "adapter"
"""A matrix as large as the kernel, [I, O]."""


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
            of_adapters[f"{folder}/{ADAPTER_DOWN}"] = (layers, rows, rank)
            of_adapters[f"{folder}/{ADAPTER_UP}"] = (layers, rank, columns)
    return of_adapters


def draw(key: Array, shapes: Shapes) -> PyTree:
    """New adapters, whose product is 0 (Hu et al. 2021, as in the library peft).

    The matrix before the rank is uniform in ±1/sqrt(I), all others are 0.
    """
    leaves = {}
    for number, (path, shape) in enumerate(sorted(shapes.items())):
        leaves[path] = jnp.zeros(shape)
        if path.endswith(ADAPTER_DOWN):
            limit = 1 / math.sqrt(shape[1])
            own = jax.random.fold_in(key, number)
            leaves[path] = jax.random.uniform(own, shape, minval=-limit, maxval=limit)
    return paths.unflatten(leaves)


def attached(scale: float, params: PyTree, adapters: PyTree) -> PyTree:
    """The parameters with adapters beside their matrices, which `layers.Dense` adds, times `scale`.

    A matrix of full rank is added here, times 1.
    """
    leaves = paths.flatten(params)
    for path, adapter in paths.flatten(adapters).items():
        folder, _, name = path.rpartition("/")
        if name == FULL:
            leaves[f"{folder}/kernel"] = leaves[f"{folder}/kernel"] + adapter
        else:
            leaves[path] = scale * adapter if name == ADAPTER_UP else adapter
    return paths.unflatten(leaves)
