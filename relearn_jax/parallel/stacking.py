"""Models side by side on the mesh: stacked along C, with copies so that the devices divide them."""

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
    """Parameters of several models as one tree [C, ...], each leaf where the rules want it."""
    return _stack(mesh, tuple(filled(mesh, trees)))


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
    host = np.stack(filled(mesh, rows))
    place = jax.NamedSharding(mesh, jax.P(meshes.SETS))
    return jax.make_array_from_callback(host.shape, place, lambda index: host[index])


def filled(mesh: Mesh, models: Sequence[T]) -> list[T]:
    """One value for each set, and copies of the first up to a number that the devices divide."""
    missing = meshes.padded(len(models), mesh) - len(models)
    return [*models, *[models[0]] * missing]


def fitted(mesh: Mesh, stacked: PyTree, sets: int) -> PyTree:
    """The first `sets` models of a stack, with as many copies as this mesh needs.

    A stack that was made for another mesh may have more copies or fewer. It is donated, unless it
    has the right number already and is returned as it is.
    """
    there, here = jax.tree.leaves(stacked)[0].shape[0], meshes.padded(sets, mesh)
    return stacked if there == here else _fitted(mesh, sets, stacked)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _fitted(mesh: Mesh, sets: int, stacked: PyTree) -> PyTree:
    rows = np.array(filled(mesh, range(sets)))
    return sharding.constrain(jax.tree.map(lambda x: x[rows], stacked), mesh, sets_axis=True)


def zeros(mesh: Mesh, shape: tuple[int, ...]) -> jax.Array:
    """Zeros of C models, [C, ...], each where its model lies."""
    return jnp.zeros(shape, device=jax.NamedSharding(mesh, jax.P(meshes.SETS)))
