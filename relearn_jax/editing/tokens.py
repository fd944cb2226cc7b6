"""A value for each token from logits over the vocabulary, a few tokens of each sentence at a time.

Letters: B sentences, T tokens, t tokens of a chunk, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.data.alignment import IGNORED
from relearn_jax.models import transformer
from relearn_jax.models.transformer import Model
from relearn_jax.training.losses import CHUNK, Text, chunks

PyTree = Any
Value = Callable[..., Float[Array, "B t"]]
"""(labels [B, t], logits [B, t, V] of each model in float32) -> a value for each token."""


def values(
    model: Model, models: Sequence[PyTree], text: Text, value: Value, chunk: int = CHUNK
) -> Float[Array, "B T"]:
    """A value for each token of a text from the logits of one model or of several, in float32.

    Args:
      model: the architecture.
      models: parameters of each model.
      text: the batch; its dropout keys serve the first model, the others have none.
      value: the function of labels and logits. It is applied to every token, labelled or not.
      chunk: tokens of each sentence whose logits are in memory at one time. The backward pass
        computes them again.
    """
    batch, length = text.batch, text.batch.labels.shape[1]
    parts = [chunks(batch.labels, chunk, IGNORED)]
    heads = []
    for params, keys in zip(models, (text.keys, *[None] * (len(models) - 1)), strict=True):
        h, _ = transformer.hidden(model, params, batch.inputs, text.sites, keys=keys)
        heads.append(partial(transformer.head, model, params, keys=keys))
        parts.append(chunks(h, chunk, 0))

    def step(_: None, part: tuple[Array, ...]) -> tuple[None, Array]:
        labels, *states = part
        logits = (head(h).astype(jnp.float32) for head, h in zip(heads, states, strict=True))
        return None, value(labels, *logits)

    _, found = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), None, tuple(parts))
    return jnp.moveaxis(found, 0, 1).reshape(found.shape[1], -1)[:, :length]


def labelled(labels: Int[Array, "B T"]) -> Bool[Array, "B T"]:
    """Where a token has a label."""
    return labels >= 0


def log_probability(labels: Int[Array, "B t"], logits: Float[Array, "B t V"]) -> Array:
    """[B, t]: log p of the label; 0 where there is none."""
    answer = labelled(labels)
    index = jnp.where(answer, labels, 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, index)
    return jnp.where(answer, -loss, 0.0)
