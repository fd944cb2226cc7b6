"""Causal tracing (Meng et al. 2022): add noise to the subject and restore one activation.

Every restored run is compared with the corrupted run of the same noise (specs: mechanistic
unlearning 3.3; the published code drew new noise for every pass, defect D4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from relearn_jax import config
from relearn_jax.localize import questions
from relearn_jax.localize.batch import Batch, Measured, Pairs
from relearn_jax.localize.effects import Effect
from relearn_jax.localize.localizer import Localizer, Program, Shapes, bools
from relearn_jax.localize.patching import STREAM, patched
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import Score
from relearn_jax.models import transformer
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
    """Answers of restored and of corrupted runs, for R draws of the noise.

    Args:
      model, params, inputs, question, place, where, start, probabilities: as in
        `patching.patched`; `start` is the subject's first position or earlier.
      clean: the run to corrupt and to restore from.
      keys: random keys, one for each draw and prompt, so that each prompt has its own noise.
      scale: standard deviation of the noise; 3 times `deviation` as published.
      others: keys of other draws. With them, activations are restored from the runs of those draws
        instead of the clean run: a null, as neither run has the subject.

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


class Noise(NamedTuple):
    """The noise of a batch."""

    scale: Float[Array, ""]
    """Its standard deviation."""
    keys: Key[Array, "2 R B"]
    """For R draws (row 0), and for the R draws of the null (row 1)."""


def prepare(
    model: Model,
    params: PyTree,
    pairs: Pairs,
    settings: config.Localize,
    seed: int,
    put: Callable[[PyTree], PyTree],
) -> Callable[[Int[np.ndarray, " B"]], Noise]:
    """The noise of any rows of the pairs, whose scale is that of all pairs' subjects."""
    clean = pairs.clean
    inputs, subject = put((Inputs(clean.ids, clean.mask), clean.subject))
    embed = jax.jit(transformer.embed, static_argnums=0)
    scale = settings.noise * deviation(embed(model, params, inputs), subject)
    keys = jax.random.split(jax.random.key(seed), (len(pairs.facts), 2, settings.draws))
    return lambda rows: Noise(scale, jnp.moveaxis(keys[rows], 0, 2))


def effects(batch: Batch) -> Measured:
    """Probability of the right answer that restoring regains, its null, and the probability lost.

    Restored are outputs of attention and feed-forward layers at all positions, and single positions
    of the states.
    """
    question, inputs, first = batch.question, batch.noising.inputs, batch.first
    noise: Noise = batch.prepared["tracing"]
    clean = questions.run(batch.model, batch.params, inputs, question, probabilities=True)
    positions = jnp.arange(first, inputs.mask.shape[1])
    everywhere = jnp.ones((1, 1, 1, 1), bool)
    single = (positions == positions[:, None])[:, None, :, None]
    trace = partial(
        restored, batch.model, batch.params, inputs, clean, question,
        keys=noise.keys[0], scale=noise.scale, start=first,
    )  # fmt: skip
    values: dict[Effect, Array] = {}
    for null, others in ((False, None), (True, noise.keys[1])):
        for place, where in (*((place, everywhere) for place in STREAM), ("states", single)):
            answers, corrupt = trace(place=place, where=where, others=others)
            gained = jnp.exp(answers[..., 0]) - jnp.exp(corrupt[..., 0])[:, None, None]
            gained = gained.mean(0)
            if place == "states":
                before = jnp.zeros((gained.shape[0], first, gained.shape[2]))
                gained = jnp.concatenate([before, gained], axis=1)
                values[Effect("tracing", place, "position", null)] = gained
            else:
                values[Effect("tracing", place, "layer", null)] = gained[:, 0]
    lost = jnp.exp(clean.answers[:, 0]) - jnp.exp(corrupt[..., 0]).mean(0)
    return Measured(values, {"probability": lost})


def programs(shapes: Shapes) -> Iterator[Program]:
    """Every program of `effects`, in its order."""
    settings, tail = shapes.settings, shapes.length - shapes.first
    draws = (settings.draws, shapes.inputs.ids.shape[0])
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), draws))
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    for place, count in (*((place, 1) for place in STREAM), ("states", tail)):
        where = bools(count, 1, tail if count > 1 else 1, 1)
        lowered = restored.lower(
            shapes.model, shapes.params, shapes.inputs, shapes.cache, shapes.question,
            place, where, keys, scale, shapes.first,
        )  # fmt: skip
        patches = shapes.suffixes * count * tail / shapes.length
        blocks = settings.draws * (shapes.model.config.layers + patches)
        yield Program("causal tracing", lowered, blocks, 2)


LOCALIZER = Localizer(
    name="tracing",
    scores={
        "tracing": Score(
            1,
            "causal tracing",
            "tracing",
            "the subject's embeddings are drowned in noise ({localize.draws} draws), one output is "
            "restored and compared with the corrupted run of its own draw: how much of the lost "
            "probability comes back",
            "Meng et al. 2022",
            metric="probability",
        )
    },
    prepare=prepare,
    effects=effects,
    programs=programs,
)
