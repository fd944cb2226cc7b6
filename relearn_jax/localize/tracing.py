"""Causal tracing (Meng et al. 2022): the subject is drowned in noise, one activation is restored.

Every restoration is compared with the corrupted run of its own draw (specs: mechanistic unlearning
3.3; the published code drew new noise for every pass, defect D4).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from relearn_jax.localize import questions
from relearn_jax.localize.patching import patched
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model, PyTree


def deviation(clean: Cache, subject: Bool[Array, "B T"]) -> Float[Array, ""]:
    """Standard deviation of the subjects' embeddings over tokens and channels."""
    weights = subject[..., None].astype(jnp.float32)
    embedded = clean.states[0].astype(jnp.float32)
    count = weights.sum() * embedded.shape[-1]
    mean = (embedded * weights).sum() / count
    return jnp.sqrt((jnp.square(embedded - mean) * weights).sum() / count)


@partial(jax.jit, static_argnames=("model", "place", "start", "probabilities"))
def restored(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    clean: Cache,
    question: Question,
    place: str,
    where: Bool[Array, "P ..."],
    keys: Array,
    scale: Float[Array, ""] | float,
    start: int = 0,
    probabilities: bool = True,
) -> tuple[Float[Array, "R L P B W"], Float[Array, "R B W"]]:
    """Answers with parts of one place restored, and without, for R draws of the noise.

    Args:
      model, params, inputs, question, place, where, start, probabilities: as in
        `patching.patched`; `start` is the subject's first position or earlier.
      clean: the run that is corrupted, and restored from.
      keys: R random keys.
      scale: standard deviation of the noise; 3 times `deviation` as published.

    Returns:
      (answers of the restored runs, answers of the corrupted runs)
    """

    def draw(key: Array) -> tuple[Array, Array]:
        noise = scale * jax.random.normal(key, clean.states[0].shape)
        embedded = clean.states[0] + (noise * question.subject[..., None]).astype(
            clean.states.dtype
        )
        corrupt = questions.run(model, params, inputs, question, embedded, probabilities)
        answers = patched(
            model, params, inputs, corrupt, clean, question, place, where, start, probabilities
        )
        return answers, corrupt.answers

    return jax.lax.map(draw, keys)


def indirect_effect(
    restored: Float[Array, "R L P B"], corrupt: Float[Array, "R B"], clean: Float[Array, " B"]
) -> Float[Array, "L P"]:
    """Share of the lost metric that a restoration brings back: 0 nothing, 1 all of it.

    Sums over draws and prompts are taken before dividing, so that no single draw without an effect
    rules the result.
    """
    gained = (restored - corrupt[:, None, None]).mean((0, 3))
    return gained / jnp.mean(clean - corrupt)
