"""How well a language model predicts text."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models.transformer import Model
from relearn_jax.training import losses
from relearn_jax.training.losses import Text

PyTree = Any


BATCH = 256


def loss(model: Model, params: PyTree, text: TokenBatch, batch: int = BATCH) -> float:
    """Mean cross-entropy of the labelled tokens, in nats a token; it does not depend on `batch`."""
    total, size = len(text.labels), min(batch, len(text.labels))
    terms = []
    for begin in range(0, total, size):
        # The last batch is filled up with rows without labels, so that one program serves all.
        rows = np.minimum(np.arange(begin, begin + size), total - 1)
        part = jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], text)
        real = (np.arange(begin, begin + size) < total)[:, None]
        part = part._replace(labels=np.where(real, part.labels, IGNORED))
        terms.append(_term(model, params, Text(part)))
    sums, counts = (np.array([float(x) for x in values]) for values in zip(*terms, strict=True))
    return float(sums.sum() / max(counts.sum(), 1.0))


_term = jax.jit(losses.cross_entropy, static_argnums=0)
