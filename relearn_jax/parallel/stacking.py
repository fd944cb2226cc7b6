"""Models side by side on the mesh, stacked along C; copies of the first fill up the sets axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

PyTree = Any
T = TypeVar("T")


def stack(mesh: Mesh, trees: Sequence[PyTree]) -> PyTree:
    """Stack parameters of several models into one tree [C, ...], sharded by the rules."""
    return _stack(mesh, tuple(filled(mesh, trees)))


@partial(jax.jit, static_argnums=0)
def _stack(mesh: Mesh, trees: tuple[PyTree, ...]) -> PyTree:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return sharding.constrain(stacked, mesh, sets_axis=True)


@partial(jax.jit, static_argnums=0)
def one_model(mesh: Mesh, stacked: PyTree, index: int) -> PyTree:
    """Parameters of model `index` of C, sharded by the rules but not over the sets axis."""
    return sharding.constrain(jax.tree.map(lambda leaf: leaf[index], stacked), mesh)


@partial(jax.jit, static_argnums=0)
def one_result(mesh: Mesh, stacked: PyTree, index: int) -> PyTree:
    """A small result of model `index` of C, replicated on every device."""
    member = jax.tree.map(lambda leaf: leaf[index], stacked)
    return jax.lax.with_sharding_constraint(member, meshes.replicated(mesh))


def per_set(mesh: Mesh, rows: Sequence[np.ndarray]) -> jax.Array:
    """Stack host arrays, one for each set, into an array [C, ...] split over the sets axis."""
    host = np.stack(filled(mesh, rows))
    place = jax.NamedSharding(mesh, jax.P(meshes.SETS))
    return jax.make_array_from_callback(host.shape, place, lambda index: host[index])


def filled(mesh: Mesh, models: Sequence[T]) -> list[T]:
    """Values of the sets, followed by copies of the first up to `mesh.padded(sets)`."""
    missing = meshes.padded(len(models), mesh) - len(models)
    return [*models, *[models[0]] * missing]


def fitted(mesh: Mesh, stacked: PyTree, sets: int) -> PyTree:
    """The first `sets` models of a stack, followed by the copies that this mesh needs.

    A stack from another mesh may have more copies or fewer. It is donated, unless it already has
    the right number and is returned unchanged.
    """
    present, needed = jax.tree.leaves(stacked)[0].shape[0], meshes.padded(sets, mesh)
    return stacked if present == needed else _fitted(mesh, sets, stacked)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _fitted(mesh: Mesh, sets: int, stacked: PyTree) -> PyTree:
    rows = np.array(filled(mesh, range(sets)))
    return sharding.constrain(jax.tree.map(lambda x: x[rows], stacked), mesh, sets_axis=True)


def zeros(mesh: Mesh, shape: tuple[int, ...]) -> jax.Array:
    """Zeros of shape [C, ...], split over the sets axis."""
    return jnp.zeros(shape, device=jax.NamedSharding(mesh, jax.P(meshes.SETS)))
