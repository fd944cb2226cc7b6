"""Memory of a run before it starts, from shapes and XLA's own analysis; nothing is allocated."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments.preparation import Prepared, train_batches
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.training import loop, optimizer
from relearn_jax.training.step import Round, start

GIB = 2**30


def summary(prepared: Prepared) -> str:
    """Lines on the training step's and the statistics' memory."""
    config = prepared.config
    settings = config.training
    length = max(
        batch.inputs.ids.shape[1]
        for batch in train_batches(prepared.train, config, settings, config.seeds[0], 0)
    )
    state, temporary = step_bytes(prepared, settings.batch_size, length)
    rows, channels = prepared.shape
    types = len(prepared.concepts.types) * rows * channels * 4
    per_stage = prepared.parameters * 4
    kept = len(config.seeds) * (1 + len(config.arms)) * per_stage
    return "\n".join(
        [
            f"  memory       training step {(state + temporary) / GIB:.2f} GiB (parameters and "
            f"moments {state / GIB:.2f}, batch {settings.batch_size} x {length} "
            f"{temporary / GIB:.2f})",
            f"               statistics {types / GIB:.2f} GiB for the word types",
            f"  disk         {kept / GIB:.2f} GiB of kept weights",
        ]
    )


def step_bytes(prepared: Prepared, batch_size: int, length: int) -> tuple[int, int]:
    """Bytes of the donated state, and XLA's temporaries of one step on the default device."""
    direction = optimizer.direction(prepared.config.training)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda k: start(transformer.init(prepared.model, k), direction), key)

    def array(shape: tuple[int, ...], dtype: type) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    tokens = (batch_size, length)
    batch = TokenBatch(
        Inputs(array(tokens, np.int32), array(tokens, np.bool_)),
        array(tokens, np.int32),
        array((batch_size,), np.int32),
    )
    schedule = optimizer.Schedule(*(array((), jnp.float32) for _ in range(3)))
    round_ = Round(schedule, jax.eval_shape(lambda: key))
    step = loop.jitted(prepared.model, direction)
    analysis = step.lower(state, batch, round_).compile().memory_analysis()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return size, int(analysis.temp_size_in_bytes)
