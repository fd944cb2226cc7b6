"""Causal tracing and attribution patching as the code of Guo et al. 2025 computes them.

With their defects (specs: mechanistic unlearning 3.3, 3.4 and D4 to D6), to compare `tracing` and
`attribution` with:

    tracing_published      The noise is the root of three deviations, drawn anew for every pass, and
                           the corrupted run is a single draw. Measured is the probability of the
                           right answers of all prompts together, not of each prompt's own. The
                           score of an attention block is the sum over its heads, restored one by
                           one, so an offset of every pass counts once for each head.
    attribution_published  The score of an attention block is the sum over queries, keys, values and
                           outputs of its heads, and that of a feed-forward layer over what it reads
                           and what it writes, so that the same path counts several times.

Feed-forward inputs are taken after their norm; the published ones are taken before it.
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
from relearn_jax.localize import attribution, questions, tracing
from relearn_jax.localize.batch import DONOR, Batch, Measured, Pairs
from relearn_jax.localize.effects import Effect
from relearn_jax.localize.localizer import Localizer, Program, Shapes
from relearn_jax.localize.questions import Question
from relearn_jax.localize.scores import Score
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites, Tap, Taps, everything
from relearn_jax.models.transformer import Model, PyTree

TRACING, ATTRIBUTION = "tracing_published", "attribution_published"
IN_ATTENTION = ("queries", "keys", "values", "heads")
IN_MLP = ("mlp_in", "mlp_out")


class Noise(NamedTuple):
    """The noise of a batch, and the answers of all prompts."""

    scale: Float[Array, " B"]
    """The deviation of each prompt's noise."""
    keys: Key[Array, "2 B"]
    """For the passes (row 0), and for those of the null (row 1)."""
    targets: Int[Array, " N"]
    """The right answer of every prompt of the run; equal ones count as often as they occur."""


def prepare(
    model: Model,
    params: PyTree,
    pairs: Pairs,
    settings: config.Localize,
    seed: int,
    put: Callable[[PyTree], PyTree],
) -> Callable[[Int[np.ndarray, " B"]], Noise]:
    """The noise of any rows of the pairs."""
    clean = pairs.clean
    inputs, subject = put((Inputs(clean.ids, clean.mask), clean.subject))
    embedded = jax.jit(transformer.embed, static_argnums=0)(model, params, inputs)
    scale = jnp.sqrt(settings.noise * jax.jit(jax.vmap(tracing.deviation))(embedded, subject))
    keys = jax.random.split(jax.random.key(seed), (len(pairs.facts), 2))
    targets = jnp.asarray(clean.target)
    return lambda rows: Noise(scale[rows], keys[rows].T, targets)


@partial(jax.jit, static_argnames="model")
def mass(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    question: Question,
    targets: Int[Array, " N"],
    embedded: Float[Array, "B T D"],
    sites: Sites = Sites(),  # noqa: B008 (immutable)
) -> Float[Array, " B"]:
    """The summed probability of all right answers, at the end of each prompt."""
    h, _ = transformer.hidden(model, params, inputs, sites, embedded=embedded)
    h = questions.at_last(h, question.last)
    logits = transformer.head(model, params, h[:, None])[:, 0].astype(jnp.float32)
    return jax.nn.softmax(logits)[:, targets].sum(-1)


@jax.jit
def noised(
    states: Float[Array, "B T D"],
    subject: Bool[Array, "B T"],
    scale: Float[Array, " B"],
    keys: Key[Array, " B"],
    number: Int[Array, ""] | int,
) -> Float[Array, "B T D"]:
    """The embeddings of a pass, with noise of its own number on the subjects."""
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    noise = jax.vmap(lambda key: jax.random.normal(key, states.shape[1:]))(own)
    noise = scale[:, None, None] * noise * subject[..., None]
    return states + noise.astype(states.dtype)


@partial(jax.jit, static_argnames=("model", "place"))
def restored(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    question: Question,
    embedded: Float[Array, "B T D"],
    source: Float[Array, "L B T ..."],
    place: str,
    where: Bool[Array, "P L ..."],
    noise: Noise,
    first: int,
) -> Float[Array, "P B"]:
    """`mass` after each of P restorations of one place, every pass with noise of its own.

    Args:
      model, params, inputs, question: of the clean prompts.
      embedded: their state 0.
      source: what is put back, of every layer.
      place: "heads" or "mlp_out".
      where: P restorations, each broadcasting against `source`.
      noise: of the batch; row 0 of its keys is used.
      first: number of the first pass, which no other pass of the batch should have.
    """

    def one(entry: tuple[Array, Array]) -> Array:
        number, chosen = entry
        corrupt = noised(embedded, question.subject, noise.scale, noise.keys[0], number)
        sites = Sites(**{place: Site(patch=source, where=chosen)})
        return mass(model, params, inputs, question, noise.targets, corrupt, sites)

    return jax.lax.map(one, (first + jnp.arange(len(where)), where))


def components(layers: int, heads: int) -> dict[str, Bool[np.ndarray, "P L ..."]]:
    """Every head and every feed-forward layer, as `restored` takes them."""
    single = np.eye(layers * heads, dtype=bool).reshape(-1, layers, 1, 1, heads, 1)
    return {"heads": single, "mlp_out": np.eye(layers, dtype=bool)[:, :, None, None, None]}


def trace(batch: Batch) -> Measured:
    """The mass that restoring regains, its null, and the mass lost.

    The null restores from another noised run instead of the clean one.
    """
    model, question, inputs = batch.model, batch.question, batch.noising.inputs
    noise: Noise = batch.prepared[TRACING]
    clean = batch.noising.base
    embedded, counts = clean.states[0], (model.config.layers, model.config.heads)
    ask = (model, batch.params, inputs, question)
    other = noised(embedded, question.subject, noise.scale, noise.keys[1], 0)
    corrupt = noised(embedded, question.subject, noise.scale, noise.keys[0], 0)
    before = mass(*ask, noise.targets, corrupt)
    values: dict[Effect, Array] = {}
    for null, source in ((False, clean), (True, questions.run(*ask, other))):
        first = 1
        for place, where in components(*counts).items():
            found = restored(*ask, embedded, getattr(source, place), place, where, noise, first)
            first += len(where)
            gained = found - before
            if place == "heads":
                of_heads = gained.reshape(*counts, -1)
                values[Effect(TRACING, "heads", "head", null)] = of_heads
                values[Effect(TRACING, "attention", "layer", null)] = of_heads.sum(1)
            else:
                values[Effect(TRACING, "mlp_out", "layer", null)] = gained
    lost = mass(*ask, noise.targets, embedded) - before
    return Measured(values, {"mass": lost})


def tracing_programs(shapes: Shapes) -> Iterator[Program]:
    """The programs of `trace`."""
    layers, heads = shapes.model.config.layers, shapes.model.config.heads
    rows = shapes.inputs.ids.shape[0]
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (2, rows)))
    scale = jax.ShapeDtypeStruct((rows,), jnp.float32)
    noise = Noise(scale, keys, jax.ShapeDtypeStruct((shapes.settings.pairs,), jnp.int32))
    states = shapes.cache.states
    embedded = jax.ShapeDtypeStruct(states.shape[1:], states.dtype)
    for place, where in components(layers, heads).items():
        lowered = restored.lower(
            shapes.model, shapes.params, shapes.inputs, shapes.question, embedded,
            getattr(shapes.cache, place), place, where, noise, 1,
        )  # fmt: skip
        yield Program("causal tracing, as published", lowered, layers * len(where), 2)


@partial(jax.jit, static_argnames="model")
def read(model: Model, params: PyTree, inputs: Inputs, embedded: Float[Array, "B T D"]) -> Taps:
    """The states, and the activations at every place whose scores are summed."""
    wanted = ("states", *IN_ATTENTION, *IN_MLP)
    taps = Taps(**{place: Tap(everything) for place in wanted})
    return transformer.hidden(model, params, inputs, taps=taps, embedded=embedded)[1]


def attribute(batch: Batch) -> Measured:
    """The sums of first-order effects of noising, and their null."""
    question = batch.question
    if batch.settings.corrupt == "swapped":
        question = question._replace(words=question.words[:, :DONOR])
    values: dict[Effect, Array] = {}
    for patching, null in ((batch.noising, False), (batch.null, True)):
        ask = (batch.model, batch.params, patching.inputs)
        runs = (read(*ask, run.states[0]) for run in (patching.base, patching.source))
        change = attribution.attribution(*ask, *runs, question, 0, (*IN_ATTENTION, *IN_MLP))
        for place, parts in (("attention", IN_ATTENTION), ("mlp_out", IN_MLP)):
            summed = sum(_by_layer(change[part]) for part in parts)
            values[Effect(ATTRIBUTION, place, "layer", null)] = summed
    return Measured(values)


def _by_layer(change: Float[Array, "L T B ..."]) -> Float[Array, "L B"]:
    """Sums over positions and heads."""
    of_positions = change.sum(1)
    return of_positions.reshape(*of_positions.shape[:2], -1).sum(-1)


def attribution_programs(shapes: Shapes) -> Iterator[Program]:
    """The largest program of `attribute`."""
    words = shapes.question.words
    narrow = jax.ShapeDtypeStruct((words.shape[0], DONOR), words.dtype, sharding=words.sharding)
    question = shapes.question._replace(words=narrow)
    states = shapes.cache.states
    embedded = jax.ShapeDtypeStruct(states.shape[1:], states.dtype)
    ask = (shapes.model, shapes.params, shapes.inputs)
    run = jax.eval_shape(partial(read, shapes.model), *ask[1:], embedded)
    lowered = attribution.attribution.lower(*ask, run, run, question, 0, (*IN_ATTENTION, *IN_MLP))
    yield Program("attribution, as published", lowered, 4 * shapes.model.config.layers, 2)


PUBLISHED_TRACING = Localizer(
    name=TRACING,
    scores={
        TRACING: Score(
            1,
            "published causal tracing",
            "publ. tracing",
            "as in the code of Guo et al.: new noise for every pass, one corrupted run, the "
            "probability of the right answers of all prompts, and attention as the sum of its "
            "heads",
            "Guo et al. 2025",
            metric="mass",
        )
    },
    prepare=prepare,
    effects=trace,
    programs=tracing_programs,
)
PUBLISHED_ATTRIBUTION = Localizer(
    name=ATTRIBUTION,
    scores={
        ATTRIBUTION: Score(
            -1,
            "published attribution patching",
            "publ. AP",
            "as in the code of Guo et al.: the sum over queries, keys, values and heads of an "
            "attention block, and over input and output of a feed-forward layer",
            "Guo et al. 2025",
        )
    },
    effects=attribute,
    programs=attribution_programs,
)
