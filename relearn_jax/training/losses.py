"""Cross-entropy over labelled tokens, for a few labels and for a whole vocabulary.

Losses are sums with their counts, in float32: whoever divides does so once, after adding up over
parts of a batch and over devices. Label -100 means that there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

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
Sum = tuple[Float[Array, ""], Float[Array, ""]]
"""The sum of the losses, and over how many tokens."""
CHUNK = 32
"""Tokens of each sentence whose logits over a vocabulary exist at one time."""


def of_model(
    model: Model,
    params: PyTree,
    batch: TokenBatch,
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    keys: RowKeys | None = None,
) -> Sum:
    """The loss of a batch; a language model's, whose labels are `next_tokens`, in chunks."""
    h, _ = transformer.hidden(model, params, batch.inputs, sites, keys=keys)
    head = partial(transformer.head, model, params, keys=keys)
    if model.task == "language-model":
        return chunked_token_loss(head, h, batch.labels, CHUNK)
    return token_loss(head(h), batch.labels)


def token_loss(logits: Float[Array, "B T Y"], labels: Int[Array, "B T"]) -> Sum:
    """Sum of the cross-entropy over labelled tokens, and their number."""
    labelled = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.where(labelled, labels, 0)
    )
    return jnp.sum(losses * labelled), jnp.sum(labelled, dtype=jnp.float32)


def chunked_token_loss(
    head: Callable[[Float[Array, "B t D"]], Float[Array, "B t V"]],
    h: Float[Array, "B T D"],
    labels: Int[Array, "B T"],
    chunk: int,
) -> Sum:
    """`token_loss(head(h), labels)`, of whose logits only `chunk` tokens a row ever exist.

    The backward pass computes them again, chunk by chunk. Chunks run along T, so that the rows of
    a batch stay on their devices.
    """
    chunk = min(chunk, h.shape[1])
    missing = -h.shape[1] % chunk
    h = jnp.pad(h, ((0, 0), (0, missing), (0, 0)))
    labels = jnp.pad(labels, ((0, 0), (0, missing)), constant_values=IGNORED)

    def split(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    def part(_: None, part: tuple[Array, Array]) -> tuple[None, Sum]:
        return None, token_loss(head(part[0]), part[1])

    body = jax.checkpoint(part, prevent_cse=False)
    _, (losses, counts) = jax.lax.scan(body, None, (split(h), split(labels)))
    return losses.sum(), counts.sum()


def next_tokens(inputs: Inputs) -> Int[Array, "B T"]:
    """Labels of a causal language model: the token after each real one, where there is one."""
    follows = inputs.mask[:, :-1] & inputs.mask[:, 1:]
    labels = jnp.where(follows, inputs.ids[:, 1:], IGNORED)
    return jnp.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
