"""The one training step body. Drivers (jit, pmap, shard_map) wrap it; none repeats it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models.inputs import RowKeys
from relearn_jax.models.paths import flatten, unflatten
from relearn_jax.models.sites import Sites
from relearn_jax.models.transformer import Model
from relearn_jax.training import losses
from relearn_jax.training.optimizer import Schedule, rate

PyTree = Any


class State(NamedTuple):
    """What a step changes."""

    params: PyTree
    moments: optax.OptState
    step: Int[Array, ""]
    bad_step: Int[Array, ""]
    """The first step whose loss was not finite, or -1."""


class Sums(NamedTuple):
    """What a step reports. Copies, as the state it came from is donated to the next step."""

    loss: Float[Array, ""]
    """Sum over labelled tokens."""
    tokens: Float[Array, ""]
    step: Int[Array, ""]
    bad_step: Int[Array, ""]


class Round(NamedTuple):
    """What a step reads and never changes, for one training round."""

    schedule: Schedule
    key: Array
    """Dropout key; each step folds its number in, and each row its place in the batch."""
    sites: Sites = Sites()
    keep: Mapping[str, Float[Array, ...]] | None = None
    """Multipliers by parameter path that hold pruned entries at 0 (`regrowth: frozen`)."""
    trainable: Mapping[str, Float[Array, ...]] | None = None
    """Multipliers by parameter path, 1 for what may move (localized training); None: all may."""


def start(params: PyTree, optimizer: optax.GradientTransformation) -> State:
    """A fresh optimizer around parameters, of one model or (under `vmap`) of several."""
    return State(params, optimizer.init(params), jnp.int32(0), jnp.int32(-1))


def train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: State,
    batch: TokenBatch,
    round_: Round,
    parts: int = 1,
    axis_name: str | None = None,
) -> tuple[State, Sums]:
    """One AdamW step on the mean token loss; returns the new state and the batch's sums.

    Sums and counts are added over `axis_name` (if any) and divided once, and each row has its own
    dropout key, so that the result does not depend on how a batch was spread over devices, nor on
    the `parts` that it is computed in to save memory.
    """
    key = jax.random.fold_in(round_.key, state.step)
    count = batch.labels.shape[0]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(count))

    def loss(params: PyTree, part: tuple[TokenBatch, RowKeys]) -> tuple[Array, Array]:
        batch, keys = part
        return losses.of_model(model, params, batch, round_.sites, keys)

    grad = jax.value_and_grad(loss, has_aux=True)
    (total, tokens), grads = _accumulated(partial(grad, state.params), (batch, keys), parts)
    if axis_name is not None:
        total, tokens, grads = jax.lax.psum((total, tokens, grads), axis_name)
    grads = jax.tree.map(lambda g: g / jnp.maximum(tokens, 1.0), grads)

    # Before clipping, so that what stays has no part in the norm; and after, for weight decay.
    grads = _times(grads, round_.trainable)
    updates, moments = optimizer.update(grads, state.moments, state.params)
    updates = _times(updates, round_.trainable)
    scale = -rate(round_.schedule, state.step)
    params = jax.tree.map(lambda p, u: p + scale * u, state.params, updates)
    # Masking parameters after the update, not gradients before it: decay and Adam's moments would
    # move a pruned entry all the same.
    params = _times(params, round_.keep)

    finite = jnp.isfinite(total)
    bad = jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step)
    state = State(params, moments, state.step + 1, bad)
    return state, Sums(total, tokens, state.step, bad)


def _times(tree: PyTree, multipliers: Mapping[str, Array] | None) -> PyTree:
    """A tree like the parameters, times the multipliers of those paths that have one."""
    if multipliers is None:
        return tree
    leaves = flatten(tree)
    return unflatten(leaves | {path: leaves[path] * m for path, m in multipliers.items()})


def _accumulated(grad: Callable[[PyTree], PyTree], batch: PyTree, parts: int) -> PyTree:
    """The sum of `grad` over a batch cut into `parts`, one after another."""
    if parts == 1:
        return grad(batch)
    # Every part takes rows from the whole batch, so that each device has its share of every part.
    cut = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0), batch
    )
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(grad, jax.tree.map(lambda x: x[0], cut)),
    )

    def add(sums: PyTree, part: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, sums, grad(part)), None

    return jax.lax.scan(add, zeros, cut)[0]
