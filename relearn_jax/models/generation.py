"""Greedy generation: prompts are continued with the most likely token, one after another."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from relearn_jax.errors import UserError
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import PyTree, Sites
from relearn_jax.models.transformer import Model


def greedy(
    model: Model,
    params: PyTree,
    prompts: Inputs,
    new: int,
    stop: tuple[int, ...] = (),
    sites: Sites = Sites(),  # noqa: B008 (immutable)
) -> Inputs:
    """Prompts followed by the model's continuation, [B, T + new], padded with 0 at the right.

    Each token costs a pass over all T + new positions.

    Args:
      model, params: a causal language model.
      prompts: [B, T], padded at the right, at least one token in each row.
      new: largest number of tokens to add.
      stop: tokens that end a row; they are kept.
      sites: interventions, broadcasting over positions.

    Raises:
      UserError: the model predicts no next token or has too few positions, or a prompt is empty.
    """
    if not model.family.causal or model.task != "language-model":
        raise UserError(f"{model.family.name}, {model.task}: only causal language models continue")
    length = prompts.ids.shape[1] + new
    if length > model.config.positions:
        raise UserError(f"{length} tokens, but the model has {model.config.positions} positions")
    if not np.asarray(prompts.mask).any(1).all():
        raise UserError("a prompt without a token cannot be continued; begin it with one")
    return _continued(model, params, Inputs(*map(jnp.asarray, prompts)), new, stop, sites)


@partial(jax.jit, static_argnames=("model", "new", "stop"))
def _continued(
    model: Model, params: PyTree, prompts: Inputs, new: int, stop: tuple[int, ...], sites: Sites
) -> Inputs:
    rows, length = prompts.ids.shape
    row = jnp.arange(rows)
    ids = jnp.pad(jnp.where(prompts.mask, prompts.ids, 0), ((0, 0), (0, new)))

    def mask(sizes: Int[Array, " B"]) -> Bool[Array, "B T"]:
        return jnp.arange(length + new) < sizes[:, None]

    def unfinished_rows(state: tuple) -> Bool[Array, ""]:
        count, _, _, unfinished = state
        return (count < new) & unfinished.any()

    def step(state: tuple) -> tuple:
        count, ids, sizes, unfinished = state
        h, _ = transformer.hidden(model, params, Inputs(ids, mask(sizes)), sites)
        logits = transformer.head(model, params, h[row, sizes - 1][:, None])[:, 0]
        token = jnp.where(unfinished, logits.argmax(-1), 0).astype(ids.dtype)
        ids = ids.at[row, sizes].add(token)
        ended = jnp.isin(token, jnp.array(stop, ids.dtype))
        return count + 1, ids, sizes + unfinished, unfinished & ~ended

    sizes = prompts.mask.sum(1)
    start = (0, ids, sizes, jnp.ones(rows, bool))
    _, ids, sizes, _ = jax.lax.while_loop(unfinished_rows, step, start)
    return Inputs(ids, mask(sizes))
