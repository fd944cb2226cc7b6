"""Path patching: the effect of a component along chosen paths, all else fixed (Wang et al. 2023).

Two steps find where facts are looked up (specs: mechanistic unlearning 3.2). The first finds the
heads that extract the answer, by their path to the output. The second finds the feed-forward layers
that feed the earliest of these heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from relearn_jax import config
from relearn_jax.localize import questions
from relearn_jax.localize.batch import Batch, Measured
from relearn_jax.localize.effects import Effect, Effects, share
from relearn_jax.localize.localizer import Localizer, Program, Shapes, concatenated
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import LayerScores, Score
from relearn_jax.localize.selection import Units
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites
from relearn_jax.models.transformer import Model, PyTree


@partial(jax.jit, static_argnames="model")
def heads_to_output(
    model: Model, params: PyTree, inputs: Inputs, base: Cache, source: Cache, question: Question
) -> Float[Array, "L H B W"]:
    """Answers of the base run with one head's output from the source run, all positions.

    Other heads keep their output of the base run; feed-forward layers respond. As attention is
    fixed in later layers, no position depends on another, and only the last is computed.
    """
    at = question.last[None, :, None, None]
    states, attention = (jnp.take_along_axis(x, at, axis=2) for x in (base.states, base.attention))
    base_heads, source_heads = (
        jnp.take_along_axis(run.heads, at[..., None], axis=2) for run in (base, source)
    )
    last_inputs = Inputs(inputs.ids[:, :1], jnp.ones_like(inputs.mask[:, :1]))
    frozen = Sites(attention=Site(patch=attention))
    single = jnp.eye(base_heads.shape[3], dtype=bool)[:, None, None, :, None]

    def of_head(layer: Int[Array, ""], where: Bool[Array, "1 1 H 1"]) -> Float[Array, "B W"]:
        row = Sites(heads=Site(patch=jnp.where(where, source_heads[layer], base_heads[layer])))
        h = transformer.suffix(model, params, last_inputs, states[layer], layer, row, frozen)
        return questions.answers(model, params, h[:, 0], question.words)

    def layer(number: Int[Array, ""]) -> Float[Array, "H B W"]:
        return jax.vmap(partial(of_head, number))(single)

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
    """Answers of the base run with one feed-forward layer's output from the source run, all
    positions, replaced only in the state that enters block `receiver`.

    Blocks between that layer and the receiver do not respond; the receiver and later blocks do.
    Layers from the receiver on have no such path, and their row is the base run's answers.
    """

    def patched(layer: Int[Array, ""], answers: Float[Array, "L B W"]) -> Float[Array, "L B W"]:
        step = source.mlp_out[layer] - base.mlp_out[layer]
        h = transformer.suffix(model, params, inputs, base.states[receiver] + step, receiver)
        h = questions.at_last(h, question.last)
        return answers.at[layer].set(questions.answers(model, params, h, question.words))

    unchanged = jnp.broadcast_to(base.answers, (model.config.layers, *base.answers.shape))
    return jax.lax.fori_loop(0, receiver, patched, unchanged)


def extraction(effects: Float[Array, "L H"], count: int) -> list[tuple[int, int]]:
    """The `count` heads with the largest absolute effects, as (layer, head), largest first."""
    order = jnp.argsort(-jnp.abs(effects).ravel())[:count]
    heads = effects.shape[1]
    return [(int(i) // heads, int(i) % heads) for i in order]


def lookup(
    effects: Float[Array, " L"], threshold: float = 0.02, positive: bool = False
) -> Bool[Array, " L"]:
    """Feed-forward layers whose effect differs from the last layer's by more than the threshold.

    The difference may have either sign, as published, or must be `positive`, so that the layer
    restores the answer (specs: mechanistic unlearning 3.2, defect D8).
    """
    apart = effects - effects[-1]
    return (apart if positive else jnp.abs(apart)) > threshold


HEADS = Effect("paths", "heads", "head")
MLPS = Effect("paths", "mlp_out", "layer")


def effects(batch: Batch) -> Measured:
    """The first step: the direct effect of every head on the answer, and its null."""
    values = {}
    for patching, null in ((batch.denoising, False), (batch.null, True)):
        answers = heads_to_output(batch.model, batch.params, *patching, batch.question)
        values[HEADS._replace(null=null)] = batch.change(answers, patching.base)
    return Measured(values)


def second(
    effects: Effects, batches: Iterable[tuple[Batch, int]]
) -> tuple[Measured, list[list[int]]]:
    """The second step (specs: mechanistic unlearning 3.2).

    Returns:
      (effects [L, B] of the feed-forward layers through the state that enters the block of the
      earliest extraction head, with their null; the extraction heads as [layer, head], largest
      effect first)
    """
    shares = share(effects.values[HEADS], effects.totals["logit_difference"])
    heads: list[tuple[int, int]] = []
    changes: dict[Effect, list[np.ndarray]] = {MLPS: [], MLPS._replace(null=True): []}
    for batch, count in batches:
        heads = heads or extraction(jnp.asarray(shares), batch.settings.heads)
        receiver = jnp.int32(min(layer for layer, _ in heads))
        for effect, patching in zip(changes, (batch.denoising, batch.null), strict=True):
            answers = mlps_to_state(batch.model, batch.params, *patching, batch.question, receiver)
            change = batch.change(answers, patching.base)
            changes[effect].append(np.asarray(change)[..., :count])
    values = {effect: concatenated(parts) for effect, parts in changes.items()}
    return Measured(values), [list(head) for head in heads]


def rule(scores: Mapping[str, LayerScores], settings: config.Localize) -> Units:
    """The feed-forward layers with an effect above `settings.threshold`; see `lookup`."""
    positive = settings.sign == "positive"
    return {"mlp": np.asarray(lookup(scores["mlp"].score, settings.threshold, positive))}


def programs(shapes: Shapes) -> Iterator[Program]:
    """The programs of both steps."""
    layers, heads = shapes.model.config.layers, shapes.model.config.heads
    lowered = heads_to_output.lower(*shapes.runs)
    yield Program("head paths", lowered, shapes.suffixes * heads / shapes.length, 2)
    lowered = mlps_to_state.lower(*shapes.runs, jax.ShapeDtypeStruct((), jnp.int32))
    # An upper bound: half of the layers lie before the receiver and half after it.
    yield Program("MLP paths", lowered, layers * layers / 4, 2)


LOCALIZER = Localizer(
    name="paths",
    scores={
        "paths": Score(
            1,
            "path patching",
            "paths",
            "the {localize.heads} heads with the largest direct effect on the answer are found "
            "first; a feed-forward layer's score is its effect on the state that enters the "
            "earliest of them",
            "Wang et al. 2023; fact lookup of Guo et al. 2025",
        )
    },
    effects=effects,
    second=second,
    programs=programs,
    rule=rule,
    choosing=("threshold", "sign"),
)
