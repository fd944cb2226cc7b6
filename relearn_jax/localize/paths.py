"""Path patching: the effect of one component along chosen paths, all else held (Wang et al. 2023).

Two steps find where facts are looked up (specs: mechanistic unlearning 3.2): heads that extract the
answer, by their path to the output; then feed-forward layers that feed the earliest of them.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.localize import questions
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites
from relearn_jax.models.transformer import Model, PyTree


@partial(jax.jit, static_argnames="model")
def heads_to_output(
    model: Model, params: PyTree, inputs: Inputs, base: Cache, source: Cache, question: Question
) -> Float[Array, "L H B W"]:
    """Answers of the base run with one head's output from the source run, all positions.

    Other heads keep what they gave in the base run; feed-forward layers respond. Attention after
    the head's layer being held, no position hears of another: only the last is computed.
    """
    at = question.last[None, :, None, None]
    states, attention = (jnp.take_along_axis(x, at, axis=2) for x in (base.states, base.attention))
    ours, theirs = (jnp.take_along_axis(run.heads, at[..., None], axis=2) for run in (base, source))
    alone = Inputs(inputs.ids[:, :1], jnp.ones_like(inputs.mask[:, :1]))
    frozen = Sites(attention=Site(patch=attention))
    own = jnp.eye(ours.shape[3], dtype=bool)[:, None, None, :, None]

    def one(layer: Int[Array, ""], where: Bool[Array, "1 1 H 1"]) -> Float[Array, "B W"]:
        row = Sites(heads=Site(patch=jnp.where(where, theirs[layer], ours[layer])))
        h = transformer.suffix(model, params, alone, states[layer], layer, row, frozen)
        return questions.answers(model, params, h[:, 0], question.words)

    def layer(number: Int[Array, ""]) -> Float[Array, "H B W"]:
        return jax.vmap(partial(one, number))(own)

    return jax.lax.map(layer, jnp.arange(model.config.layers))


@partial(jax.jit, static_argnames="model")
def mlps_to_state(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    receiver: Int[Array, ""],
) -> Float[Array, "L B W"]:
    """Answers of the base run when the state that enters block `receiver` has one feed-forward
    layer's output from the source run, all positions.

    What lies between that layer and the receiver does not respond; all after it does. Layers from
    the receiver on have no such path and leave the base run's answers.
    """

    def one(layer: Int[Array, ""], found: Float[Array, "L B W"]) -> Float[Array, "L B W"]:
        step = source.mlp_out[layer] - base.mlp_out[layer]
        h = transformer.suffix(model, params, inputs, base.states[receiver] + step, receiver)
        h = questions.at_last(h, question.last)
        return found.at[layer].set(questions.answers(model, params, h, question.words))

    unchanged = jnp.broadcast_to(base.answers, (model.config.layers, *base.answers.shape))
    return jax.lax.fori_loop(0, receiver, one, unchanged)


def extraction(effects: Float[Array, "L H"], count: int) -> list[tuple[int, int]]:
    """The heads with the largest effects of either sign, (layer, head), largest first."""
    order = jnp.argsort(-jnp.abs(effects).ravel())[:count]
    heads = effects.shape[1]
    return [(int(i) // heads, int(i) % heads) for i in order]


def lookup(effects: Float[Array, " L"], threshold: float = 0.02) -> Bool[Array, " L"]:
    """Feed-forward layers whose effect, above that of the last layer, exceeds the threshold.

    Of either sign, as published (specs: mechanistic unlearning 3.2, defect D8).
    """
    return jnp.abs(effects - effects[-1]) > threshold
