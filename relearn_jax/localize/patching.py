"""Activation patching: one activation of a run is replaced by that of another, and all that follows
is computed again.

Only what can change is computed: layers from the patched one on, positions from the first patched
one on (the keys and values before it stay), and the answers' logits at the last position. The layer
is data, so that one program serves all; interventions on a layer lie side by side.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.localize import questions
from relearn_jax.localize.questions import Cache, Question
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
      inputs: for their mask.
      base, source: the run that is patched, and the one that is patched in.
      question: what is asked.
      place: "states" (what enters a block), "attention", "mlp_out" or "heads".
      where: P interventions, each broadcasting against the place at positions from `start` on.
      start: the first position that any of them touches.
      probabilities: log-probabilities instead of logits.
    """
    past = Past(base.keys[:, :, :start], base.values[:, :, :start]) if start else None
    ours, theirs = (getattr(run, place)[:, :, start:] for run in (base, source))
    last = question.last - start

    def one(layer: Int[Array, ""], where: Bool[Array, ...]) -> Float[Array, "B W"]:
        h, row = base.states[layer][:, start:], Sites()
        if place == "states":
            h = jnp.where(where, theirs[layer], ours[layer])
        else:
            row = Sites(**{place: Site(patch=theirs[layer], where=where)})
        h = transformer.suffix(model, params, inputs, h, layer, row, past=past)
        h = questions.at_last(h, jnp.maximum(last, 0))
        found = questions.answers(model, params, h, question.words, probabilities)
        # A prompt that ends before the first position computed keeps its answer.
        return jnp.where(last[:, None] < 0, base.answers, found)

    def layer(number: Int[Array, ""]) -> Float[Array, "P B W"]:
        return jax.vmap(partial(one, number))(where)

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

    Positions before `first`, where the runs begin to differ (None: it is looked up), change nothing
    and are not computed. The others are taken in `groups`, each with a program of its own that
    begins at its first position.
    """
    length = inputs.mask.shape[1]
    first = first_difference(base, source) if first is None else first
    unchanged = jnp.broadcast_to(base.answers, (model.config.layers, first, *base.answers.shape))
    found = [unchanged]
    for part in np.array_split(np.arange(first, length), min(groups, length - first)):
        start = int(part[0])
        here = jnp.arange(start, length) == part[:, None]
        found.append(
            patched(
                model, params, inputs, base, source, question, place,
                here[:, None, :, None], start, probabilities,
            )
        )  # fmt: skip
    return jnp.concatenate(found, axis=1)


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
    """Answers for every layer, the place patched at all positions."""
    where = jnp.ones((1,) * base.states.ndim, bool)
    start = first_difference(base, source) if first is None else first
    found = patched(
        model, params, inputs, base, source, question, place, where, start, probabilities
    )
    return found[:, 0]


def first_difference(base: Cache, source: Cache) -> int:
    """The first position at which the runs' embeddings differ in any prompt."""
    differs = np.asarray((base.states[0] != source.states[0]).any((0, 2)))
    return int(differs.argmax())
