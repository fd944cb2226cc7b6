"""Losses: pure functions of parameters, reference parameters and named batches.

A loss returns named terms. Each is a sum over tokens or sentences, with their count, in float32.
The step divides once, after adding up over the parts of a batch and over devices. Label -100 marks
tokens without a label.

To add a loss, write a function of this type and name it where an experiment makes its step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs, RowKeys
from relearn_jax.models.sites import Sites
from relearn_jax.models.transformer import Model

PyTree = Any
CHUNK = 32
"""Tokens of each sentence whose logits over the vocabulary are in memory at one time."""


class Term(NamedTuple):
    """One term of a loss."""

    sum: Float[Array, ""]
    count: Float[Array, ""]
    """Number of tokens or sentences in the sum. It depends on the batch only."""

    @property
    def mean(self) -> Float[Array, ""]:
        """The sum over the count; 0 where nothing was counted."""
        return self.sum / jnp.maximum(self.count, 1.0)


class Text(NamedTuple):
    """The batch of one text in a step, as a loss reads it."""

    batch: TokenBatch
    keys: RowKeys | None = None
    """Dropout keys, one for each row; None for evaluation."""
    sites: Sites = Sites()
    """Interventions on the forward pass."""
    labelled: int | None = None
    """Largest number of labelled tokens in a row, for which alone logits are then computed; None:
    any number."""


Texts = Mapping[str, Text]
Terms = dict[str, Term]
Loss = Callable[[PyTree, PyTree, Texts], Terms]
"""(parameters, reference parameters or None, texts) -> terms by name."""
TASK = "task"
"""Name of the text, and of the loss term, of a training with a single text."""


def token_classification(model: Model, params: PyTree, reference: None, texts: Texts) -> Terms:
    """Cross-entropy of the token labels."""
    return {TASK: cross_entropy(model, params, texts[TASK])}


def next_token(model: Model, params: PyTree, reference: None, texts: Texts) -> Terms:
    """Cross-entropy of the next token, where it has a label."""
    return {TASK: cross_entropy(model, params, texts[TASK])}


def cross_entropy(model: Model, params: PyTree, text: Text) -> Term:
    """Cross-entropy of a text's labels; a language model's logits are computed in chunks."""
    labels, keys = text.batch.labels, text.keys
    h, _ = transformer.hidden(model, params, text.batch.inputs, text.sites, keys=keys)
    if text.labelled is not None:
        h, labels = first_labelled(h, labels, text.labelled)
    head = partial(transformer.head, model, params, keys=keys)
    if model.task == "language-model":
        return chunked_token_loss(head, h, labels, CHUNK)
    return token_loss(head(h), labels)


def first_labelled(
    h: Float[Array, "B T D"], labels: Int[Array, "B T"], count: int
) -> tuple[Float[Array, "B K D"], Int[Array, "B K"]]:
    """States and labels of the first `count` labelled tokens of each row, in order."""
    places = jnp.argsort(labels < 0, axis=1, stable=True)[:, :count]
    states = jnp.take_along_axis(h, places[..., None], axis=1)
    return states, jnp.take_along_axis(labels, places, axis=1)


def token_loss(logits: Float[Array, "B T Y"], labels: Int[Array, "B T"]) -> Term:
    """Summed cross-entropy of the labelled tokens, and their number."""
    labelled = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.where(labelled, labels, 0)
    )
    return Term(jnp.sum(losses * labelled), jnp.sum(labelled, dtype=jnp.float32))


def chunked_token_loss(
    head: Callable[[Float[Array, "B t D"]], Float[Array, "B t V"]],
    h: Float[Array, "B T D"],
    labels: Int[Array, "B T"],
    chunk: int,
) -> Term:
    """`token_loss(head(h), labels)` with the logits of only `chunk` tokens a row in memory.

    The backward pass computes the logits again, chunk by chunk. Chunks run along T, so that the
    rows of a batch stay on their devices.
    """
    count = jnp.sum(labels >= 0, dtype=jnp.float32)

    def part(_: None, part: tuple[Array, Array]) -> tuple[None, Array]:
        return None, token_loss(head(part[0]), part[1]).sum

    body = jax.checkpoint(part, prevent_cse=False)
    _, sums = jax.lax.scan(body, None, (chunks(h, chunk, 0), chunks(labels, chunk, IGNORED)))
    return Term(sums.sum(), count)


def chunks(x: Array, size: int, fill: float) -> Array:
    """[B, T, ...] cut along T into [chunks, B, t, ...], t at most `size`; the last is filled up."""
    size = min(size, x.shape[1])
    padding = [(0, 0), (0, -x.shape[1] % size), *[(0, 0)] * (x.ndim - 2)]
    x = jnp.pad(x, padding, constant_values=fill)
    return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)


def next_tokens(inputs: Inputs) -> Int[Array, "B T"]:
    """Labels of a causal language model: for each real token the next one; IGNORED at the end."""
    follows = inputs.mask[:, :-1] & inputs.mask[:, 1:]
    labels = jnp.where(follows, inputs.ids[:, 1:], IGNORED)
    return jnp.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
