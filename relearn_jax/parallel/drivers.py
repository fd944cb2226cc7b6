"""Three ways to run the one step body on the devices; each gives the same step to the same bits or
to rounding, and none repeats it.

    jit         over the mesh: the compiler places the communication. Every axis; the default.
    shard_map   over the mesh, sums spelled out. Axes sets and data.
    pmap        data only, parameters whole on each device. The classic way; see `_pmapped`.

C concept sets are trained side by side: leaves of `State`, and of `Round` but its schedule, have a
leading axis C. A batch is one for all sets [B, ...] or one for each [C, B, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding
from relearn_jax.parallel.mesh import DATA, FSDP, SETS, TENSOR
from relearn_jax.training.optimizer import Schedule
from relearn_jax.training.step import Round, State, Sums, train_step

Step = Callable[[State, TokenBatch, Round], tuple[State, Sums]]
"""Takes a batch of NumPy arrays, this process's rows; donates the state."""
OF_SETS = Round(schedule=None, key=0, sites=0, keep=0, trainable=0)


def make(
    driver: str, mesh: Mesh, model: Model, optimizer: optax.GradientTransformation, parts: int = 1
) -> Step:
    """The training step of C sets under a driver.

    Args:
      driver: "jit", "shard_map" or "pmap".
      mesh: from `mesh.make`.
      model, optimizer: what is trained, and how.
      parts: parts that each batch is computed in (gradient accumulation).

    Raises:
      UserError: the mesh has axes that the driver cannot use.
    """
    drivers = {"jit": _jitted, "shard_map": _shard_mapped, "pmap": _pmapped}
    check(driver, mesh)
    return drivers[driver](mesh, body_of(mesh, model, optimizer, parts))


def body_of(
    mesh: Mesh, model: Model, optimizer: optax.GradientTransformation, parts: int = 1
) -> Callable:
    """The step of one set, which the drivers wrap."""
    return partial(train_step, sharding.spread(model, mesh), optimizer, parts=parts)


def check(driver: str, mesh: Mesh) -> None:
    """Refuse axes that a driver knows nothing of."""
    unknown = {"jit": (), "shard_map": (FSDP, TENSOR), "pmap": (SETS, FSDP, TENSOR)}[driver]
    for axis in unknown:
        if mesh.shape[axis] > 1:
            raise UserError(
                f"parallel.driver {driver} cannot use the mesh axis {axis} (now {mesh.shape[axis]} "
                "devices); set it to 1, or use the driver jit, which uses all axes"
            )


def _sets_axis(batch: TokenBatch) -> int | None:
    return 0 if np.ndim(batch.labels) == 3 else None


def put(mesh: Mesh, batch: TokenBatch) -> TokenBatch:
    """A batch of this process's rows on the mesh."""
    return meshes.put_rows(mesh, batch, _sets_axis(batch) == 0)


def _jitted(mesh: Mesh, body: Callable) -> Step:
    step = over_mesh(mesh, body)
    return lambda state, batch, round_: step(state, put(mesh, batch), round_)


def over_mesh(mesh: Mesh, body: Callable) -> Callable:
    """The jitted step of the driver jit, which takes batches that are on the mesh already."""

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, batch: TokenBatch, round_: Round) -> tuple[State, Sums]:
        axes = (0, _sets_axis(batch), OF_SETS)
        state, sums = jax.vmap(body, in_axes=axes, spmd_axis_name=SETS)(state, batch, round_)
        everywhere = jax.lax.with_sharding_constraint(sums, meshes.replicated(mesh))
        return sharding.constrain(state, mesh, sets_axis=True), everywhere

    return step


def _shard_mapped(mesh: Mesh, body: Callable) -> Step:
    specs = Round(Schedule(P(), P(), P()), P(SETS), P(SETS), P(SETS), P(SETS))

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, batch: TokenBatch, round_: Round) -> tuple[State, Sums]:
        axis = _sets_axis(batch)
        mapped = jax.vmap(partial(body, axis_name=DATA), in_axes=(0, axis, OF_SETS))
        rows = P(DATA) if axis is None else P(SETS, DATA)
        state, sums = jax.shard_map(
            mapped, mesh=mesh, in_specs=(P(SETS), rows, specs), out_specs=P(SETS), check_vma=False
        )(state, batch, round_)
        return state, jax.lax.with_sharding_constraint(sums, meshes.replicated(mesh))

    return lambda state, batch, round_: step(state, put(mesh, batch), round_)


def _pmapped(mesh: Mesh, body: Callable) -> Step:
    """Data parallel under `jax.pmap`, on one host or several.

    Every device holds all parameters of all sets and a share of each batch's rows. Move to the mesh
    (driver jit) when a model with its moments no longer fits one device, when sets are to lie on
    different devices, or on several hosts for speed: there pmap turns each process's arrays into
    global ones and back at every step.
    """

    devices = mesh.local_devices

    @partial(jax.pmap, axis_name=DATA, in_axes=(None, 0, None), out_axes=None, donate_argnums=0)
    def step(state: State, batch: TokenBatch, round_: Round) -> tuple[State, Sums]:
        axis = _sets_axis(batch)
        return jax.vmap(partial(body, axis_name=DATA), in_axes=(0, axis, OF_SETS))(
            state, batch, round_
        )

    def by_device(leaf: np.ndarray, axis: int) -> np.ndarray:
        shape = (*leaf.shape[:axis], len(devices), -1, *leaf.shape[axis + 1 :])
        return np.moveaxis(leaf.reshape(shape), axis, 0)

    def run(state: State, batch: TokenBatch, round_: Round) -> tuple[State, Sums]:
        axis = 1 if _sets_axis(batch) == 0 else 0
        local = jax.tree.map(lambda leaf: by_device(leaf, axis), batch)
        return step(state, local, round_)

    return run
