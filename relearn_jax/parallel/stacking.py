"""Models side by side on the mesh: stacked along C, taken out again, filled up to divide evenly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

PyTree = Any


def stack(mesh: Mesh, trees: Sequence[PyTree]) -> PyTree:
    """Parameters of several models as one tree [C, ...], each leaf where the rules want it."""
    size = meshes.padded(len(trees), mesh)
    return _stack(mesh, (*trees, *[trees[0]] * (size - len(trees))))


@partial(jax.jit, static_argnums=0)
def _stack(mesh: Mesh, trees: tuple[PyTree, ...]) -> PyTree:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return sharding.constrain(stacked, mesh, sets_axis=True)


@partial(jax.jit, static_argnums=0)
def one_model(mesh: Mesh, stacked: PyTree, index: int) -> PyTree:
    """Parameters of one of C models, shared out by the rules but not along the sets axis."""
    return sharding.constrain(jax.tree.map(lambda leaf: leaf[index], stacked), mesh)


@partial(jax.jit, static_argnums=0)
def one_result(mesh: Mesh, stacked: PyTree, index: int) -> PyTree:
    """A small result of one of C models, whole on every device."""
    one = jax.tree.map(lambda leaf: leaf[index], stacked)
    return jax.lax.with_sharding_constraint(one, meshes.replicated(mesh))


def per_set(mesh: Mesh, rows: Sequence[np.ndarray]) -> jax.Array:
    """Host arrays, one for each set, as one array [C, ...] along the sets axis."""
    size = meshes.padded(len(rows), mesh)
    host = np.stack([*rows, *[rows[0]] * (size - len(rows))])
    place = jax.NamedSharding(mesh, jax.P(meshes.SETS))
    return jax.make_array_from_callback(host.shape, place, lambda index: host[index])


@partial(jax.jit, static_argnums=(0, 2))
def trimmed(mesh: Mesh, stacked: PyTree, sets: int) -> PyTree:
    """The first `sets` of C models."""
    return sharding.constrain(jax.tree.map(lambda leaf: leaf[:sets], stacked), mesh, sets_axis=True)


@partial(jax.jit, static_argnums=0)
def filled(mesh: Mesh, stacked: PyTree) -> PyTree:
    """Models filled up, by repeating the first, to a number that divides evenly."""

    def fill(leaf: jax.Array) -> jax.Array:
        missing = meshes.padded(leaf.shape[0], mesh) - leaf.shape[0]
        return jnp.concatenate([leaf, jnp.repeat(leaf[:1], missing, axis=0)])

    return sharding.constrain(jax.tree.map(fill, stacked), mesh, sets_axis=True)
