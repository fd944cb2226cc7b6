"""Three drivers that run the same step body on the devices, with results equal up to rounding.

    jit         over the mesh: the compiler places the communication. All axes; the default.
    shard_map   over the mesh, with explicit sums. Axes sets and data.
    pmap        axis data only, all parameters on each device. The classic way; see `_pmapped`.

C concept sets are trained side by side: leaves of `State` and of `Round` have a leading axis C. A
batch is either shared by all sets, [B, ...], or has an axis of sets, [C, B, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding
from relearn_jax.parallel.mesh import DATA, FSDP, SETS, TENSOR
from relearn_jax.training.losses import Loss
from relearn_jax.training.step import Batches, Projection, Round, State, Step, Sums, train_step


class Body(NamedTuple):
    """The step of one set, and which fields of `Round` have an axis of sets."""

    step: Callable[..., tuple[State, Sums]]
    axes: Round
    """0 for fields with a leading axis C, None for fields shared by all sets."""

    def over_sets(
        self, batches: Batches, axis_name: str | None = None
    ) -> Callable[..., tuple[State, Sums]]:
        """The step of C sets, under `vmap`.

        `axis_name` names the axis of devices to add sums over. None: the compiler adds them up, and
        is told that the sets lie along the mesh axis `sets`.
        """
        axes = (0, {name: _sets_axis(batch) for name, batch in batches.items()}, self.axes)
        spmd = SETS if axis_name is None else None
        return jax.vmap(partial(self.step, axis_name=axis_name), axes, spmd_axis_name=spmd)


def body(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    parts: int = 1,
    shared: Collection[str] = (),
    project: Projection | None = None,
) -> Body:
    """The step of one set, which the drivers wrap.

    Args:
      loss: the loss to minimize; its model should be `sharding.spread` over the mesh.
      optimizer: from `optimizer.direction`.
      parts: number of parts in which a batch is computed (gradient accumulation).
      shared: which of `frozen` and `reference` are the same for all sets, without an axis C.
      project: is applied to the trained parameters after every step.
    """
    axes = Round(*(None if name in shared else 0 for name in Round._fields))
    return Body(partial(train_step, loss, optimizer, parts=parts, project=project), axes)


def make(driver: str, mesh: Mesh, body: Body) -> Step:
    """The training step of C sets under a driver.

    Args:
      driver: "jit", "shard_map" or "pmap".
      mesh: from `mesh.make`.
      body: from `body`.

    Raises:
      UserError: the mesh has axes that the driver cannot use.
    """
    check(driver, mesh)
    return {"jit": _jitted, "shard_map": _shard_mapped, "pmap": _pmapped}[driver](mesh, body)


def check(driver: str, mesh: Mesh) -> None:
    """Raise UserError if the mesh uses an axis that the driver cannot."""
    unusable = {"jit": (), "shard_map": (FSDP, TENSOR), "pmap": (SETS, FSDP, TENSOR)}[driver]
    for axis in unusable:
        if mesh.shape[axis] > 1:
            raise UserError(
                f"parallel.driver {driver} cannot use the mesh axis {axis} (now {mesh.shape[axis]} "
                "devices); set it to 1, or use the driver jit, which uses all axes"
            )


def _sets_axis(batch: TokenBatch) -> int | None:
    return 0 if np.ndim(batch.labels) == 3 else None


def put(mesh: Mesh, batches: Batches) -> Batches:
    """Batches of this process's rows on the mesh."""
    return {
        name: meshes.put_rows(mesh, batch, _sets_axis(batch) == 0)
        for name, batch in batches.items()
    }


def _jitted(mesh: Mesh, body: Body) -> Step:
    step = over_mesh(mesh, body)
    return lambda state, batches, round_: step(state, put(mesh, batches), round_)


def over_mesh(mesh: Mesh, body: Body) -> Callable[..., tuple[State, Sums]]:
    """The jitted step of driver `jit`, for batches that are already on the mesh."""

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, batches: Batches, round_: Round) -> tuple[State, Sums]:
        state, sums = body.over_sets(batches)(state, batches, round_)
        everywhere = jax.lax.with_sharding_constraint(sums, meshes.replicated(mesh))
        return sharding.constrain(state, mesh, sets_axis=True), everywhere

    return step


def _shard_mapped(mesh: Mesh, body: Body) -> Step:
    specs = Round(*(P() if axis is None else P(SETS) for axis in body.axes))

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, batches: Batches, round_: Round) -> tuple[State, Sums]:
        rows = {
            name: P(DATA) if _sets_axis(batch) is None else P(SETS, DATA)
            for name, batch in batches.items()
        }
        state, sums = jax.shard_map(
            body.over_sets(batches, axis_name=DATA),
            mesh=mesh, in_specs=(P(SETS), rows, specs), out_specs=P(SETS), check_vma=False,
        )(state, batches, round_)  # fmt: skip
        return state, jax.lax.with_sharding_constraint(sums, meshes.replicated(mesh))

    return lambda state, batches, round_: step(state, put(mesh, batches), round_)


def _pmapped(mesh: Mesh, body: Body) -> Step:
    """Data parallel under `jax.pmap`, on one host or several.

    Every device holds all parameters of all sets and a share of each batch's rows. Use the driver
    jit when a model with its moments no longer fits one device, when sets are to lie on different
    devices, or for speed on several hosts: there pmap turns each process's arrays into global
    arrays and back at every step.
    """

    devices = mesh.local_devices

    @partial(jax.pmap, axis_name=DATA, in_axes=(None, 0, None), out_axes=None, donate_argnums=0)
    def step(state: State, batches: Batches, round_: Round) -> tuple[State, Sums]:
        return body.over_sets(batches, axis_name=DATA)(state, batches, round_)

    def by_device(axis: int, leaf: np.ndarray) -> np.ndarray:
        shape = (*leaf.shape[:axis], len(devices), -1, *leaf.shape[axis + 1 :])
        return np.moveaxis(leaf.reshape(shape), axis, 0)

    def run(state: State, batches: Batches, round_: Round) -> tuple[State, Sums]:
        local = {
            name: jax.tree.map(partial(by_device, 1 if _sets_axis(batch) == 0 else 0), batch)
            for name, batch in batches.items()
        }
        return step(state, local, round_)

    return run
