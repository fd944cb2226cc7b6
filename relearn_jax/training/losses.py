"""The training loss as a sum and a count, so that devices and parts of a batch can be added up."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import transformer
from relearn_jax.models.inputs import RowKeys
from relearn_jax.models.sites import Sites
from relearn_jax.models.transformer import Model

PyTree = Any


def of_model(
    model: Model, params: PyTree, batch: TokenBatch, sites: Sites, keys: RowKeys | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum of the cross-entropy over the labelled tokens of a batch, and their number."""
    logits, _ = transformer.apply(model, params, batch.inputs, sites, keys=keys)
    return token_loss(logits, batch.labels)


def token_loss(
    logits: Float[Array, "B T Y"], labels: Int[Array, "B T"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum of the cross-entropy over labelled tokens, and their number (label -100: no label)."""
    labelled = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.where(labelled, labels, 0)
    )
    return jnp.sum(losses * labelled), jnp.sum(labelled, dtype=jnp.float32)
