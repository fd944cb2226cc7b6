"""How well a language model predicts text."""

from __future__ import annotations

from typing import Any

import jax

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models.transformer import Model
from relearn_jax.training import losses
from relearn_jax.training.losses import Text

PyTree = Any


def loss(model: Model, params: PyTree, batch: TokenBatch) -> float:
    """Mean cross-entropy of the labelled tokens, in nats a token."""
    return float(_term(model, params, Text(batch)).mean)


_term = jax.jit(losses.cross_entropy, static_argnums=0)
