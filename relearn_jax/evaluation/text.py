"""How well a language model predicts text."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from relearn_jax.data.batching import TokenBatch
from relearn_jax.models.transformer import Model
from relearn_jax.training import losses
from relearn_jax.training.losses import Text

PyTree = Any


def loss(model: Model, params: PyTree, batch: TokenBatch) -> float:
    """Mean cross-entropy of the labelled tokens, in nats a token."""
    term = jax.jit(partial(losses.cross_entropy, model))(params, Text(batch))
    return float(term.mean)
