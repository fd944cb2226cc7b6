"""AdamW with weight decay by parameter name, and a learning rate that is data.

As the rate is data, all rounds share one compiled step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from relearn_jax import config
from relearn_jax.models import paths

PyTree = Any


class Schedule(NamedTuple):
    """Linear warm-up to `peak`, then decay to 0 over `steps`."""

    peak: Float[Array, ""]
    steps: Float[Array, ""]
    warmup: Float[Array, ""]
    cosine: Float[Array, ""]
    """1: the decay is half a cosine; 0: it is linear (the default of Hugging Face)."""


def schedule(settings: config.Training, steps: int, cosine: bool = False) -> Schedule:
    """The schedule of one model for a training round of `steps` steps.

    Models side by side may have different schedules, stacked with a leading axis C.
    """
    values = (settings.learning_rate, steps, settings.warmup * steps, cosine)
    return Schedule(*(np.float32(v) for v in values))


def rate(schedule: Schedule, step: Int[Array, ""]) -> Float[Array, ""]:
    """Learning rate of step number `step`, counted from 0."""
    peak, steps, warmup, cosine = schedule
    rising = step / jnp.maximum(warmup, 1.0)
    left = jnp.clip((steps - step) / jnp.maximum(steps - warmup, 1.0), 0.0, 1.0)
    falling = jnp.where(cosine > 0, 0.5 * (1 - jnp.cos(jnp.pi * left)), left)
    return peak * jnp.where(step < warmup, rising, falling)


def decayed(params: PyTree) -> PyTree:
    """True for leaves under weight decay, by name: all but biases and norm parameters.

    Stacked biases have two axes, so a rule by number of axes would be wrong here.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not paths.name(path).endswith(("bias", "scale")), params
    )


def direction(settings: config.Training) -> optax.GradientTransformation:
    """Clipping, Adam moments (0.9, 0.999, 1e-8) and decoupled decay; the step scales by -rate."""
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(settings.weight_decay, mask=decayed),
    )
