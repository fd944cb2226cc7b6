"""Planned memory of a run, from shapes and XLA's analysis; and out-of-memory errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from relearn_jax.config import Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import drivers, sharding
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training import losses, optimizer
from relearn_jax.training.optimizer import Schedule
from relearn_jax.training.step import Round, State, start

GIB = 2**30


class Bytes(NamedTuple):
    """Memory of a training step on each device."""

    params: int
    moments: int
    temporary: int
    """Gradients, activations, and gathered or copied arrays, by XLA's plan."""


@contextlib.contextmanager
def reported(remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error into a UserError that names settings which take less.

    Args:
      remedy: sentences about the experiment's settings.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        line, *_ = str(error).splitlines()
        raise UserError(
            f"a device has not enough memory: {line[:200].rstrip('.')}. Finished stages are kept. "
            + remedy
        ) from error


def step_bytes(
    model: Model,
    settings: Training,
    length: int,
    mesh: Mesh,
    count: int,
    loss: Callable[..., losses.Terms] = losses.token_classification,
) -> Bytes:
    """Memory of a step of `count` sets on batches of `length` tokens, on each device of a mesh.

    The step is that of driver `jit`, compiled for the devices of the mesh and not run. Parameters
    and moments are updated in place.

    Args:
      model, settings: the model and its training.
      length: tokens of a row.
      mesh, count: the mesh, and the number of sets side by side.
      loss: a loss on one text, whose first argument is the model.
    """
    analysis = compiled(model, settings, length, mesh, count, loss).memory_analysis()
    return Bytes(*state_bytes(model, settings, mesh, count), int(analysis.temp_size_in_bytes))


def state_bytes(model: Model, settings: Training, mesh: Mesh, count: int) -> tuple[int, int]:
    """Bytes of the parameters and of the moments of `count` sets on each device."""
    state = _state(model, settings, mesh, count)
    params, moments = (
        sharding.bytes_per_device(tree, mesh, True) for tree in (state.params, state.moments)
    )
    return params, moments


def compiled(
    model: Model,
    settings: Training,
    length: int,
    mesh: Mesh,
    count: int,
    loss: Callable[..., losses.Terms] = losses.token_classification,
) -> jax.stages.Compiled:
    """The training step, compiled from shapes only."""
    state = _state(model, settings, mesh, count)
    rows = meshes.rows_of(mesh, settings.batch_size, settings.accumulate).total
    ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    mask = jax.ShapeDtypeStruct((rows, length), jnp.bool_)
    batch = TokenBatch(Inputs(ids, mask), ids, jax.ShapeDtypeStruct((rows,), jnp.int32))
    batches = {losses.TASK: batch}
    round_ = jax.eval_shape(lambda: _round(settings, meshes.padded(count, mesh)))
    by_set = NamedSharding(mesh, P(meshes.SETS))
    places = (
        sharding.shardings(state, mesh, sets_axis=True),
        jax.tree.map(lambda _: meshes.rows(mesh, False), batches),
        jax.tree.map(lambda _: by_set, round_),
    )
    of_model = partial(loss, sharding.spread(model, mesh))
    body = drivers.body(of_model, optimizer.direction(settings), settings.accumulate)
    step = drivers.over_mesh(mesh, body)
    placed = jax.tree.map(
        lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to),
        (state, batches, round_),
        places,
    )
    return step.lower(*placed).compile()


def _round(settings: Training, models: int) -> Round:
    schedule = optimizer.schedule(settings, 1)
    schedules = Schedule(*(jnp.full(models, value) for value in schedule))
    return Round(schedules, _keys(models))


def _keys(models: int) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.arange(models))


def _state(model: Model, settings: Training, mesh: Mesh, count: int) -> State:
    """Shapes of the training state of `count` sets."""
    direction = optimizer.direction(settings)

    def begin(key: jax.Array) -> State:
        return start(transformer.init(model, key), direction)

    return jax.eval_shape(lambda: jax.vmap(begin)(_keys(meshes.padded(count, mesh))))
