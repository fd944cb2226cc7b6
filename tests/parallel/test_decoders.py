"""Decoders with shared key heads, windows and heads of their own, spread over eight devices."""

from __future__ import annotations

from functools import partial

import chex
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import checkpoint
from relearn_jax.models.inputs import Inputs
from relearn_jax.parallel import mesh, sharding
from relearn_jax.training import losses

GATED = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6,
         "num_key_value_heads": 2, "intermediate_size": 32}  # fmt: skip
SIZES = {
    "llama": GATED,
    "gemma2": GATED | {"sliding_window": 4},
    "gpt_neox": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 32, "rotary_pct": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("family", SIZES)
def test_eight_devices_find_the_loss_and_gradients_of_one(family):
    settings = {"model_type": family, "vocab_size": 64} | SIZES[family]
    ck = checkpoint.open_checkpoint("random", settings=settings)
    model = checkpoint.describe(ck, "language-model")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    rng = np.random.default_rng(0)
    real = np.arange(9) < rng.integers(2, 10, (8, 1))
    inputs = Inputs(rng.integers(1, 64, (8, 9)), real)
    batch = TokenBatch(inputs, np.asarray(losses.next_tokens(inputs)), np.arange(8))

    def slopes(model, params, batch):
        def total(params):
            return tuple(losses.cross_entropy(model, params, losses.Text(batch)))

        return jax.value_and_grad(total, has_aux=True)(params)

    one = jax.jit(partial(slopes, model))(params, batch)
    grid = mesh.make(config.Parallel(data=2, fsdp=2, tensor=2), 1)
    placed = jax.device_put(params, sharding.shardings(params, grid))
    spread = partial(slopes, sharding.spread(model, grid))
    many = jax.jit(spread)(placed, mesh.put_rows(grid, batch, False))
    assert placed["blocks"]["down"]["kernel"].sharding.spec == P(None, mesh.TENSOR, mesh.FSDP)
    chex.assert_trees_all_close(one, jax.device_get(many), atol=1e-5, rtol=1e-5)
