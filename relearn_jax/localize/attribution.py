"""Attribution patching: the first-order effect of patching, from one gradient for all places.

AP      sum over d of (a_corrupt - a_clean) * dm/da at the clean run (Nanda 2023)
AP-IG   the gradient is averaged over runs on the straight line between the two embeddings
        (Hanna et al. 2024): at early layers a single gradient misses most of the effect
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from relearn_jax.localize import questions
from relearn_jax.localize.batch import DONOR, Batch, Measured
from relearn_jax.localize.effects import Effect
from relearn_jax.localize.localizer import Localizer, Program, Shapes
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import Score
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites, Taps
from relearn_jax.models.transformer import Model, PyTree

PLACES = ("states", "heads", "attention", "mlp_out")


@partial(jax.jit, static_argnames=("model", "steps", "places"))
def attribution(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    clean: Cache | Taps,
    corrupt: Cache | Taps,
    question: Question,
    steps: int = 0,
    places: tuple[str, ...] = PLACES,
) -> dict[str, Float[Array, "L T B ..."]]:
    """First-order change of the logit difference when a place is patched, clean to corrupt.

    Args:
      model, params: a causal language model.
      inputs: the clean prompts.
      clean, corrupt: activations of the two runs, at the states and at `places`.
      question: where the prompts are answered, and with which words.
      steps: 0 for AP; else the number of points (midpoints) on the path of AP-IG.
      places: where to patch (`models.sites`).

    Returns:
      For each place the change in nats by layer and position, [L, T, B]; for places with heads [L,
      T, B, H]. states[0] enters the first block; the last state is left out.
    """
    # Otherwise the backward pass would keep every layer's matrices in the compute dtype.
    model = dataclasses.replace(model, remat=True)
    zeros = {place: jnp.zeros_like(getattr(clean, place)) for place in places}

    def metric(deltas: dict[str, Array], embedded: Array) -> Array:
        sites = Sites(**{place: Site(delta=delta) for place, delta in deltas.items()})
        h, _ = transformer.hidden(model, params, inputs, sites, embedded=embedded)
        h = questions.at_last(h, question.last)
        logits = questions.answers(model, params, h, question.words)
        return questions.difference(logits).sum()

    def gradient(share: Float[Array, ""]) -> dict[str, Array]:
        embedded = clean.states[0] + share * (corrupt.states[0] - clean.states[0])
        return jax.grad(metric)(zeros, embedded.astype(clean.states.dtype))

    def add(sums: dict[str, Array], share: Array) -> tuple[dict[str, Array], None]:
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, gradient(share)), None

    # Midpoints; one step at share 0 is AP itself.
    shares = (jnp.arange(steps) + 0.5) / steps if steps else jnp.zeros(1)
    sums = jax.tree.map(lambda x: x.astype(jnp.float32), zeros)
    gradients, _ = jax.lax.scan(add, sums, shares)

    def change(place: str) -> Float[Array, "L T B ..."]:
        step = (getattr(corrupt, place) - getattr(clean, place)).astype(jnp.float32)
        total = (step * gradients[place]).sum(-1) / len(shares)
        total = jnp.moveaxis(total, 2, 1)
        return total[:-1] if place == "states" else total

    return {place: change(place) for place in places}


def effects(batch: Batch, method: str, steps: int) -> Measured:
    """The first-order effect of noising every position and head, and its null."""
    question = batch.question
    if batch.settings.corrupt == "swapped":
        question = question._replace(words=question.words[:, :DONOR])
    values: dict[Effect, Array] = {}
    for patching, null in ((batch.noising, False), (batch.null, True)):
        change = attribution(batch.model, batch.params, *patching, question, steps)
        heads = jnp.moveaxis(change.pop("heads").sum(1), 2, 1)
        values |= {Effect(method, place, "position", null): x for place, x in change.items()}
        values[Effect(method, "heads", "head", null)] = heads
    return Measured(values)


def programs(shapes: Shapes, steps: int) -> Iterator[Program]:
    """The one program of `effects`."""
    words = shapes.question.words
    narrow = jax.ShapeDtypeStruct((words.shape[0], DONOR), words.dtype, sharding=words.sharding)
    question = shapes.question._replace(words=narrow)
    lowered = attribution.lower(*shapes.runs[:-1], question, steps)
    yield Program("attribution", lowered, 4 * shapes.model.config.layers * max(steps, 1), 2)


ATTRIBUTION = Localizer(
    name="attribution",
    scores={
        "attribution": Score(
            -1,
            "attribution patching",
            "AP",
            "what noising would do, to first order, from one gradient at the clean run",
            "Nanda 2023; Syed, Rager, Conmy 2023",
        )
    },
    effects=lambda batch: effects(batch, "attribution", 0),
    programs=lambda shapes: programs(shapes, 0),
)
ATTRIBUTION_PATH = Localizer(
    name="attribution_path",
    scores={
        "attribution_path": Score(
            -1,
            "AP with integrated gradients",
            "AP-IG",
            "the same with the gradient averaged over {localize.path_steps} points between the two "
            "runs' embeddings",
            "Sundararajan, Taly, Yan 2017; Hanna, Pezzelle, Belinkov 2024",
        )
    },
    effects=lambda batch: effects(batch, "attribution_path", batch.settings.path_steps),
    programs=lambda shapes: programs(shapes, shapes.settings.path_steps),
)
