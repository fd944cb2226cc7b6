"""The loss on text does not depend on the batch, nor on the rows that fill up the last one."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from relearn_jax.data.batching import TokenBatch
from relearn_jax.evaluation import text
from relearn_jax.models import checkpoint
from relearn_jax.models.inputs import Inputs
from relearn_jax.training import losses


def test_the_loss_does_not_depend_on_the_batch():
    opened = checkpoint.open_checkpoint(
        "random", settings={"model_type": "gpt2", "vocab_size": 50, "n_embd": 8, "n_layer": 1,
                            "n_head": 2},
    )  # fmt: skip
    model = checkpoint.describe(opened, "language-model")
    params = checkpoint.load(opened, model, jax.random.key(0))[0]
    inputs = Inputs(np.random.default_rng(0).integers(0, 50, (7, 9)), np.ones((7, 9), bool))
    labels = np.array(losses.next_tokens(inputs))
    labels[6] = -100
    labels[6, 3] = 11
    batch = TokenBatch(inputs, labels, np.arange(7))
    whole = text.loss(model, params, batch)
    for size in (1, 3, 7, 100):
        assert text.loss(model, params, batch, size) == pytest.approx(whole, rel=1e-5)
