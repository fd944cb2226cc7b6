"""Models side by side on the mesh: stacked along C, taken out again, filled up to divide evenly."""

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


def filled(mesh: Mesh, some: Sequence[T]) -> list[T]:
    """One thing for each set, filled up with the first to a number that divides evenly."""
    return [*some, *[some[0]] * (meshes.padded(len(some), mesh) - len(some))]


def fitted(mesh: Mesh, stacked: PyTree, sets: int) -> PyTree:
    """The first `sets` of models that were filled up for another mesh, filled up for this one.

    Given back as they are where the number is right; else they are donated.
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
