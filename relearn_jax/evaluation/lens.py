"""The logit lens: what each state would answer if it were the last (nostalgebraist 2020)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from relearn_jax.models import transformer
from relearn_jax.models.transformer import Model

PyTree = Any


def probabilities(
    model: Model,
    params: PyTree,
    states: Float[np.ndarray, "L1 B D"],
    words: Int[np.ndarray, "B W"],
) -> Float[np.ndarray, "L1 B W"]:
    """Probability of words among the whole vocabulary, read off each state.

    Args:
      model, params: a language model.
      states: at the prompt's last token; the last row has had the final norm, the others get it.
      words: token ids; -1 gives 0.
    """
    rows = [
        np.asarray(_row(model, params, h, words, row == len(states) - 1))
        for row, h in enumerate(states)
    ]
    return np.stack(rows)


@partial(jax.jit, static_argnums=(0, 4))
def _row(
    model: Model,
    params: PyTree,
    h: Float[Array, "B D"],
    words: Int[Array, "B W"],
    last: bool,
) -> Float[Array, "B W"]:
    h = jnp.asarray(h, model.dtype)[:, None]
    h = h if last else transformer.final(model, params, h)
    logp = jax.nn.log_softmax(transformer.head(model, params, h)[:, 0].astype(jnp.float32))
    p = jnp.exp(jnp.take_along_axis(logp, jnp.maximum(words, 0), axis=-1))
    return jnp.where(words < 0, 0.0, p)
