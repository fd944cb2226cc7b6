"""Activation patching: replace an activation of one run by another run's, and compute what follows.

Only what can change is computed: layers from the patched layer on, positions from the first patched
position on (earlier keys and values are reused), and the answers' logits at the last position. The
layer is data, so that one program serves all layers; interventions on a layer run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.localize import questions
from relearn_jax.localize.batch import Batch, Measured, Patching
from relearn_jax.localize.effects import Effect
from relearn_jax.localize.localizer import Localizer, Program, Shapes, bools
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import Score
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs, Past
from relearn_jax.models.sites import Site, Sites
from relearn_jax.models.transformer import Model, PyTree


@partial(jax.jit, static_argnames=("model", "place", "start", "probabilities"))
def patched(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    place: str,
    where: Bool[Array, "P ..."],
    start: int = 0,
    probabilities: bool = False,
) -> Float[Array, "L P B W"]:
    """Answers of the base run with parts of one place replaced by the source run's.

    Args:
      model, params: a causal model, unless `start` is 0.
      inputs: prompts of the base run, for their mask.
      base, source: the run to patch, and the run with the replacements.
      question: where the prompts are answered, and with which words.
      place: "states" (what enters a block), "attention", "mlp_out" or "heads".
      where: P interventions, each broadcasting against the place at positions from `start` on.
      start: the first patched position of any intervention.
      probabilities: return log-probabilities instead of logits.
    """
    past = Past(base.keys[:, :, :start], base.values[:, :, :start]) if start else None
    base_values, source_values = (getattr(run, place)[:, :, start:] for run in (base, source))
    last = question.last - start

    def intervention(layer: Int[Array, ""], where: Bool[Array, ...]) -> Float[Array, "B W"]:
        h, row = base.states[layer][:, start:], Sites()
        if place == "states":
            h = jnp.where(where, source_values[layer], base_values[layer])
        else:
            row = Sites(**{place: Site(patch=source_values[layer], where=where)})
        h = transformer.suffix(model, params, inputs, h, layer, row, past=past)
        h = questions.at_last(h, jnp.maximum(last, 0))
        answers = questions.answers(model, params, h, question.words, probabilities)
        # A prompt that ends before position `start` keeps its answer.
        return jnp.where(last[:, None] < 0, base.answers, answers)

    def layer(number: Int[Array, ""]) -> Float[Array, "P B W"]:
        return jax.vmap(partial(intervention, number))(where)

    return jax.lax.map(layer, jnp.arange(model.config.layers))


def by_position(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    place: str,
    groups: int = 4,
    probabilities: bool = False,
    first: int | None = None,
) -> Float[Array, "L T B W"]:
    """Answers for every layer and position of `states`, `attention` or `mlp_out`.

    Positions before `first`, where the runs begin to differ (None: `first_difference`), change
    nothing and are not computed. The others are split into `groups`; each has its own program,
    which begins at the first position of the group.
    """
    length = inputs.mask.shape[1]
    first = first_difference(base, source) if first is None else first
    unchanged = jnp.broadcast_to(base.answers, (model.config.layers, first, *base.answers.shape))
    parts = [unchanged]
    for group in np.array_split(np.arange(first, length), min(groups, length - first)):
        start = int(group[0])
        where = jnp.arange(start, length) == group[:, None]
        parts.append(
            patched(
                model, params, inputs, base, source, question, place,
                where[:, None, :, None], start, probabilities,
            )
        )  # fmt: skip
    return jnp.concatenate(parts, axis=1)


def by_head(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    probabilities: bool = False,
    first: int | None = None,
) -> Float[Array, "L H B W"]:
    """Answers for every head, patched at all positions."""
    heads = base.heads.shape[3]
    where = jnp.eye(heads, dtype=bool)[:, None, None, :, None]
    start = first_difference(base, source) if first is None else first
    return patched(
        model, params, inputs, base, source, question, "heads", where, start, probabilities
    )


def whole(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    place: str,
    probabilities: bool = False,
    first: int | None = None,
) -> Float[Array, "L B W"]:
    """Answers for every layer, with the place patched at all positions."""
    where = jnp.ones((1,) * base.states.ndim, bool)
    start = first_difference(base, source) if first is None else first
    answers = patched(
        model, params, inputs, base, source, question, place, where, start, probabilities
    )
    return answers[:, 0]


def first_difference(base: Cache, source: Cache) -> int:
    """The first position at which the runs' embeddings differ in any prompt."""
    differs = np.asarray((base.states[0] != source.states[0]).any((0, 2)))
    return int(differs.argmax())


STREAM = ("attention", "mlp_out")
"""The places that add to the residual stream."""


def effects(batch: Batch) -> Measured:
    """Effects of both directions and their null, for whole outputs, single positions and heads.

    With `corrupt: swapped` the partners have other answers. Then `interchange` tells whether a
    state of the source run turns the base run's answer into the source run's.
    """
    values: dict[Effect, Array] = {}
    directions = (
        ("noising", batch.noising, False, 1),
        ("denoising", batch.denoising, False, None),
        ("noising", batch.null, True, 0),
    )
    for method, patching, null, answer in directions:
        for effect, answers in _answers(batch, patching, method, null).items():
            values[effect] = batch.change(answers, patching.base)
            states = effect.place == "states" and answer is not None
            if states and batch.settings.corrupt == "swapped":
                turned = _turned(answers, patching, batch.question, answer)
                values[Effect("interchange", "states", "position", null)] = turned
    return Measured(values)


def _answers(
    batch: Batch, patching: Patching, method: str, null: bool
) -> dict[Effect, Float[Array, "L ... B W"]]:
    runs = (batch.model, batch.params, *patching, batch.question)
    first, answers = batch.first, {}
    for place in STREAM:
        answers[Effect(method, place, "layer", null)] = whole(*runs, place, first=first)
    for place in ("states", *STREAM):
        answers[Effect(method, place, "position", null)] = by_position(
            *runs, place, batch.settings.groups, first=first
        )
    answers[Effect(method, "heads", "head", null)] = by_head(*runs, first=first)
    return answers


def _turned(
    by_position: Float[Array, "L T B W"], patching: Patching, question: Question, answer: int
) -> Bool[Array, "L1 T B"]:
    """Whether a patched state changes the answer to word number `answer` from another word.

    There are L+1 rows. Patching the last state gives the source run's answer at the last position,
    and changes nothing elsewhere.
    """
    base, source = patching.base, patching.source
    at_last = jnp.arange(by_position.shape[1])[:, None] == question.last
    final = jnp.where(at_last[..., None], source.answers, base.answers)
    words = jnp.argmax(jnp.concatenate([by_position, final[None]]), -1)
    return (words == answer) & (jnp.argmax(base.answers, -1) != answer)


def programs(shapes: Shapes) -> Iterator[Program]:
    """Every program of `effects`, in its order."""
    length, first, heads = shapes.length, shapes.first, shapes.model.config.heads
    tail = length - first
    groups = np.array_split(np.arange(first, length), min(shapes.settings.groups, tail))
    for place in ("states", *STREAM):
        for group in groups:
            start, count = int(group[0]), len(group)
            where = bools(count, 1, length - start, 1)
            lowered = patched.lower(*shapes.runs, place, where, start)
            blocks = shapes.suffixes * count * (length - start) / length
            yield Program("patching positions", lowered, blocks, 3)
    for place in STREAM:
        lowered = patched.lower(*shapes.runs, place, bools(1, 1, 1, 1), first)
        yield Program("patching", lowered, shapes.suffixes * tail / length, 3)
    lowered = patched.lower(*shapes.runs, "heads", bools(heads, 1, 1, heads, 1), first)
    yield Program("patching heads", lowered, shapes.suffixes * heads * tail / length, 3)


LOCALIZER = Localizer(
    name="patching",
    scores={
        "noising": Score(
            -1,
            "noising",
            "noising",
            "activation patching: one output of the clean run is replaced by the corrupt run's, "
            "and all that follows is computed again: how far does the answer move towards the "
            "corrupt one",
            "Vig et al. 2020; Zhang, Nanda 2024",
            less_null=True,
        ),
        "denoising": Score(
            1,
            "denoising",
            "denoising",
            "the same the other way round: one output of the corrupt run is replaced by the clean "
            "run's: how much of the answer comes back",
            "Meng et al. 2022; Zhang, Nanda 2024",
            # Between two runs without the fact, patching has no direction: one null serves both.
            null="noising",
            less_null=True,
        ),
    },
    effects=effects,
    programs=programs,
)
