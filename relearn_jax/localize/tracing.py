"""Causal tracing (Meng et al. 2022): the subject is drowned in noise, one activation is restored.

Every restoration is compared with the corrupted run of its own draw (specs: mechanistic unlearning
3.3; the published code drew new noise for every pass, defect D4).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from relearn_jax.localize import questions
from relearn_jax.localize.patching import patched
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model, PyTree


def deviation(embedded: Float[Array, "B T D"], subject: Bool[Array, "B T"]) -> Float[Array, ""]:
    """Standard deviation of the subjects' embeddings over tokens and channels."""
    weights = subject[..., None].astype(jnp.float32)
    embedded = embedded.astype(jnp.float32)
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
    keys: Key[Array, "R B"],
    scale: Float[Array, ""] | float,
    start: int = 0,
    probabilities: bool = True,
    others: Key[Array, "R B"] | None = None,
) -> tuple[Float[Array, "R L P B W"], Float[Array, "R B W"]]:
    """Answers with parts of one place restored, and without, for R draws of the noise.

    Args:
      model, params, inputs, question, place, where, start, probabilities: as in
        `patching.patched`; `start` is the subject's first position or earlier.
      clean: the run that is corrupted, and restored from.
      keys: random keys, one for each draw and prompt, so that a prompt's noise is its own.
      scale: standard deviation of the noise; 3 times `deviation` as published.
      others: keys of other draws, from whose runs is restored instead of the clean one: a null,
        for neither run has the subject.

    Returns:
      (answers of the restored runs, answers of the corrupted runs)
    """

    def noised(keys: Key[Array, " B"]) -> Cache:
        shape = clean.states.shape[2:]
        noise = scale * jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        embedded = clean.states[0] + (noise * question.subject[..., None]).astype(
            clean.states.dtype
        )
        return questions.run(model, params, inputs, question, embedded, probabilities)

    def draw(keys: tuple[Array, Array | None]) -> tuple[Array, Array]:
        corrupt = noised(keys[0])
        source = clean if keys[1] is None else noised(keys[1])
        answers = patched(
            model, params, inputs, corrupt, source, question, place, where, start, probabilities
        )
        return answers, corrupt.answers

    return jax.lax.map(draw, (keys, others))
