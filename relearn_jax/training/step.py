"""The body of a training step. The drivers (jit, pmap, shard_map) all wrap this one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import masks, paths
from relearn_jax.models.inputs import RowKeys
from relearn_jax.models.masks import Mask
from relearn_jax.models.sites import Sites
from relearn_jax.training.losses import Loss, Terms, Text
from relearn_jax.training.optimizer import Schedule, rate

PyTree = Any
Batches = Mapping[str, TokenBatch]
"""The texts of a step by name, each with its own number of rows."""
TEXT_ROWS = 2**24
"""Upper bound on the rows of a text in a step."""


class State(NamedTuple):
    """The values that a step changes."""

    params: PyTree
    """The trainable leaves only."""
    moments: optax.OptState
    step: Int[Array, ""]
    bad_step: Int[Array, ""]
    """The first step whose loss was not finite, or -1."""


class Sums(NamedTuple):
    """The report of a step. Its arrays are copies, as the state is donated to the next step."""

    loss: Float[Array, ""]
    """The weighted sum of the mean terms."""
    terms: Terms
    step: Int[Array, ""]
    bad_step: Int[Array, ""]


class Round(NamedTuple):
    """The values that a step only reads, which are constant in a training round."""

    schedule: Schedule
    key: Array
    """Dropout key; the step number and the position of each row are folded into it."""
    weights: Mapping[str, Float[Array, ""]] | None = None
    """Weights of the loss terms, by name; None: all 1."""
    sites: Sites = Sites()
    frozen: PyTree = None
    """The leaves that are not trained, if any, as a tree of dicts without the trainable leaves."""
    reference: PyTree = None
    """Reference parameters, for losses that compare with another model."""
    held: Mask | None = None
    """Entries of trainable leaves that do not change."""


Projection = Callable[[PyTree], PyTree]
"""Takes the trained parameters after a step, and gives those that are allowed."""
Step = Callable[[State, Batches, Round], tuple[State, Sums]]
"""A step of C models on its devices. It takes this process's rows as NumPy arrays, and donates the
state."""


def start(params: PyTree, optimizer: optax.GradientTransformation) -> State:
    """A state with a fresh optimizer for trainable leaves of one model, or of several by `vmap`."""
    return State(params, optimizer.init(params), jnp.int32(0), jnp.int32(-1))


def to_bfloat16(params: PyTree) -> PyTree:
    """The nearest values of bfloat16, in float32: updates below 1/256 of a parameter are lost."""
    # Not a pair of casts, which XLA may drop.
    return jax.tree.map(lambda p: jax.lax.reduce_precision(p, 8, 7), params)


def to_unit_interval(params: PyTree) -> PyTree:
    """The nearest values from 0 to 1."""
    return jax.tree.map(lambda p: jnp.clip(p, 0.0, 1.0), params)


def train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: State,
    batches: Batches,
    round_: Round,
    parts: int = 1,
    project: Projection | None = None,
    axis_name: str | None = None,
) -> tuple[State, Sums]:
    """One optimizer step on the weighted sum of the loss's mean terms.

    Sums and counts are added over `axis_name` (if any) and divided once, and each row has its own
    dropout key. So the result does not depend on how a batch is spread over devices, nor on the
    number of `parts` in which it is computed to save memory.

    Gradients, moments and updates exist for the trainable leaves only; `project` is applied to
    these after the update.

    Returns:
      (the new state, the report)
    """
    texts = _texts(batches, round_, state.step, axis_name)

    def terms_of(trainable: PyTree, texts: Mapping[str, Text]) -> Terms:
        params = trainable if round_.frozen is None else paths.merge(trainable, round_.frozen)
        return loss(params, round_.reference, texts)

    # The counts of the whole batch are needed first. The sums here are dead code that XLA drops.
    counts = {name: term.count for name, term in terms_of(state.params, texts).items()}
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    counts = {name: jnp.maximum(count, 1.0) for name, count in counts.items()}
    weights = dict.fromkeys(counts, 1.0) if round_.weights is None else round_.weights
    # The first term's count is divided out last, so that a loss of one term stays a plain sum.
    first, *others = counts
    divisor = counts[first]
    shares = {first: weights[first]} | {n: weights[n] * (divisor / counts[n]) for n in others}

    def total(trainable: PyTree, texts: Mapping[str, Text]) -> tuple[Array, Terms]:
        terms = terms_of(trainable, texts)
        return sum(shares[name] * term.sum for name, term in terms.items()), terms

    grad = jax.value_and_grad(total, has_aux=True)
    (value, terms), grads = _accumulated(partial(grad, state.params), texts, parts)
    if axis_name is not None:
        value, terms, grads = jax.lax.psum((value, terms, grads), axis_name)
    grads = jax.tree.map(lambda g: g / divisor, grads)

    # Before clipping, so that held entries have no part in the norm; after it, for weight decay.
    grads = masks.remove(grads, round_.held)
    updates, moments = optimizer.update(grads, state.moments, state.params)
    updates = masks.remove(updates, round_.held)
    scale = -rate(round_.schedule, state.step)
    params = jax.tree.map(lambda p, u: p + scale * u, state.params, updates)
    if project is not None:
        params = project(params)

    bad = jnp.where((state.bad_step < 0) & ~jnp.isfinite(value), state.step, state.bad_step)
    state = State(params, moments, state.step + 1, bad)
    return state, Sums(value / divisor, terms, state.step, bad)


def _texts(
    batches: Batches, round_: Round, step: Int[Array, ""], axis_name: str | None
) -> dict[str, Text]:
    """The texts of a step. A row's dropout key does not depend on the devices."""
    key = jax.random.fold_in(round_.key, step)

    def keys(number: int, rows: int) -> RowKeys:
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows
        positions = number * TEXT_ROWS + first + jnp.arange(rows)
        return jax.vmap(partial(jax.random.fold_in, key))(positions)

    return {
        name: Text(batches[name], keys(number, batches[name].labels.shape[0]), round_.sites)
        for number, name in enumerate(sorted(batches))
    }


def _accumulated(
    grad: Callable[[Mapping[str, Text]], PyTree], texts: Mapping[str, Text], parts: int
) -> PyTree:
    """Cut the texts into `parts`, and add up `grad` over them one after another."""
    if parts == 1:
        return grad(texts)
    sites = {name: text.sites for name, text in texts.items()}

    # A part takes every `parts`-th row, so that each device has its share of every part.
    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)

    rows = {name: jax.tree.map(cut, (text.batch, text.keys)) for name, text in texts.items()}

    def of_part(part: PyTree) -> PyTree:
        return grad({name: Text(*part[name], sites[name]) for name in part})

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(of_part, jax.tree.map(lambda x: x[0], rows)),
    )

    def add(sums: PyTree, part: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, sums, of_part(part)), None

    return jax.lax.scan(add, zeros, rows)[0]
