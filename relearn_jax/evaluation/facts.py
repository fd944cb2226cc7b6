"""A model's answers to prompts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

PyTree = Any
Change = Callable[[PyTree, PyTree], PyTree]
"""(shared parameters, a model's own parameters) -> the model's parameters."""
BATCH = 256


class Answers(NamedTuple):
    """Answers to B prompts; of C models, each array has a leading axis C."""

    target: Float[np.ndarray, " B"]
    """Probability of the right answer among all words."""
    injected: Float[np.ndarray, " B"]
    """Probability of the first alternative among all words; 0 without one."""
    share: Float[np.ndarray, " B"]
    """Probability of the right answer among it and its alternatives."""
    first: Bool[np.ndarray, " B"]
    """Whether the right answer is more likely than each of its alternatives."""
    says: Int[np.ndarray, " B"]
    """Token id of the most likely of all words."""


def answers(model: Model, params: PyTree, prompts: Prompts, batch: int = BATCH) -> Answers:
    """The answers of one model; they do not depend on `batch`."""
    return _in_batches(partial(_answers, model, params), prompts, batch)


def answers_side_by_side(
    model: Model,
    change: Change,
    mesh: Mesh,
    base: PyTree,
    own: PyTree,
    prompts: Prompts,
    batch: int = BATCH,
) -> Answers:
    """The answers of C models that share a base.

    Args:
      model: the architecture.
      change: gives a model's parameters from the base and its own; pass the same object again, so
        that it shares a program.
      mesh: the devices of the models.
      base: parameters that all models share.
      own: the models' own parameters, [C, ...].
      prompts: what they are asked.
      batch: prompts at one time.
    """
    return _in_batches(partial(_stacked_answers, model, change, mesh, base, own), prompts, batch)


def correct(
    model: Model, params: PyTree, prompts: Prompts, batch: int = BATCH
) -> Bool[np.ndarray, " B"]:
    """For each prompt, whether the most likely of all words is the answer."""
    return answers(model, params, prompts, batch).says == prompts.target


def _in_batches(of: Any, prompts: Prompts, batch: int) -> Answers:
    total = len(prompts.ids)
    size, parts = min(batch, total), []
    for begin in range(0, total, size):
        # The last batch is filled up, so that one program serves all.
        part = take(prompts, np.arange(begin, begin + size) % total)
        read = of(Inputs(part.ids, part.mask), part.last, _words(part))
        parts.append(jax.tree.map(lambda x, n=total - begin: np.asarray(x)[..., :n], read))
    return Answers(*(np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)))


def _words(prompts: Prompts) -> Int[np.ndarray, "B W"]:
    """The right answer, then its alternatives, at least one; padded with -1."""
    words = np.concatenate([prompts.target[:, None], prompts.others], axis=1)
    return words if words.shape[1] > 1 else np.pad(words, ((0, 0), (0, 1)), constant_values=-1)


@partial(jax.jit, static_argnums=0)
def _answers(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    last: Int[Array, " B"],
    words: Int[Array, "B W"],
) -> Answers:
    h, _ = transformer.hidden(model, params, inputs)
    h = jnp.take_along_axis(h, last[:, None, None], axis=1)
    logits = transformer.head(model, params, h)[:, 0].astype(jnp.float32)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), jnp.maximum(words, 0), axis=-1)
    p = jnp.where(words < 0, 0.0, jnp.exp(logp))
    among = jax.nn.softmax(jnp.where(words < 0, -jnp.inf, logp), axis=-1)
    first = jnp.argmax(among, axis=-1) == 0
    return Answers(p[:, 0], p[:, 1], among[:, 0], first, jnp.argmax(logits, axis=-1))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _stacked_answers(
    model: Model,
    change: Change,
    mesh: Mesh,
    base: PyTree,
    own: PyTree,
    inputs: Inputs,
    last: Int[Array, " B"],
    words: Int[Array, "B W"],
) -> Answers:
    def of_model(own: PyTree) -> Answers:
        return _answers(model, change(base, own), inputs, last, words)

    found = jax.vmap(of_model)(sharding.constrain(own, mesh, sets_axis=True))
    return jax.lax.with_sharding_constraint(found, meshes.replicated(mesh))
