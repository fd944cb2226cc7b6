"""Accuracy of a model's answers to prompts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

PyTree = Any


def correct(
    model: Model, params: PyTree, prompts: Prompts, batch: int = 256
) -> Bool[np.ndarray, " B"]:
    """For each prompt, whether the most likely of all words is the answer."""
    parts = []
    for begin in range(0, len(prompts.ids), batch):
        rows = slice(begin, begin + batch)
        inputs = Inputs(prompts.ids[rows], prompts.mask[rows])
        answer = _most_likely(model, params, inputs, prompts.last[rows])
        parts.append(np.asarray(answer) == prompts.target[rows])
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _most_likely(
    model: Model, params: PyTree, inputs: Inputs, last: Int[Array, " B"]
) -> Int[Array, " B"]:
    h, _ = transformer.hidden(model, params, inputs)
    h = jnp.take_along_axis(h, last[:, None, None], axis=1)
    return jnp.argmax(transformer.head(model, params, h)[:, 0], axis=-1)
