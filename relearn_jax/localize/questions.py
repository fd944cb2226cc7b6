"""Questions of localizers: prompts, and the words among which the model decides.

Letters: B pairs, T tokens, W words (the true answer first), L layers, D width, H heads.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps, everything
from relearn_jax.models.transformer import Model, PyTree


class Question(NamedTuple):
    """Where B prompts are answered, and with which words."""

    last: Int[Array, " B"]
    """The position whose logits are the answer."""
    words: Int[Array, "B W"]
    """Token ids: the true answer, then the others, padded with -1."""
    subject: Bool[Array, "B T"]
    """The subject's tokens."""


class Cache(NamedTuple):
    """A run of a model on B prompts: activations at each place, and the answers."""

    states: Float[Array, "L1 B T D"]
    keys: Float[Array, "L B T G K"]
    values: Float[Array, "L B T G K"]
    heads: Float[Array, "L B T H K"]
    attention: Float[Array, "L B T D"]
    mlp_out: Float[Array, "L B T D"]
    answers: Float[Array, "B W"]


PLACES = Cache._fields[:-1]


def answers(
    model: Model,
    params: PyTree,
    h: Float[Array, "B D"],
    words: Int[Array, "B W"],
    probabilities: bool = False,
) -> Float[Array, "B W"]:
    """Logits of the words, or their log-probabilities among all words, from the last state.

    For logits, only the embedding rows of these words are multiplied. Words of id -1 give -inf.
    """
    known = jnp.maximum(words, 0)
    if probabilities:
        logits = transformer.head(model, params, h[:, None])[:, 0]
        logits = jax.nn.log_softmax(logits.astype(jnp.float32))
        values = jnp.take_along_axis(logits, known, axis=-1)
    else:
        values = transformer.head(model, params, h[:, None], words=known)[:, 0]
    return jnp.where(words < 0, -jnp.inf, values)


def difference(answers: Float[Array, "... W"]) -> Float[Array, ...]:
    """The true answer's logit minus the mean of the others' (specs: mechanistic unlearning 3.4)."""
    others = answers[..., 1:]
    present = jnp.isfinite(others)
    mean = jnp.where(present, others, 0.0).sum(-1) / jnp.maximum(present.sum(-1), 1)
    return answers[..., 0] - mean


def at_last(h: Float[Array, "B T D"], last: Int[Array, " B"]) -> Float[Array, "B D"]:
    """The state at each prompt's own last position."""
    return jnp.take_along_axis(h, last[:, None, None], axis=1)[:, 0]


@partial(jax.jit, static_argnames=("model", "probabilities"))
def run(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    question: Question,
    embedded: Float[Array, "B T D"] | None = None,
    probabilities: bool = False,
) -> Cache:
    """A pass that keeps the activations that localizers patch."""
    taps = Taps(**{place: Tap(everything) for place in PLACES})
    h, readings = transformer.hidden(model, params, inputs, taps=taps, embedded=embedded)
    logits = answers(model, params, at_last(h, question.last), question.words, probabilities)
    return Cache(*(getattr(readings, place) for place in PLACES), logits)
