"""Effects of all localizers on the same pairs of prompts, measured batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.localize import batch as batches
from relearn_jax.localize import tracing
from relearn_jax.localize.batch import Batch, Measured, Pairs
from relearn_jax.localize.effects import Effect, Effects, Metric
from relearn_jax.localize.localizer import concatenated
from relearn_jax.localize.methods import LOCALIZERS
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

PyTree = Any


def effects(
    model: Model,
    params: PyTree,
    pairs: Pairs,
    settings: config.Localize,
    seed: int,
    tick: Callable[[int, str], None],
    mesh: Mesh | None = None,
) -> tuple[Effects, dict[str, Any]]:
    """The effects of every localizer of the settings; they do not depend on `settings.batch`.

    Every effect has a null: the same measurement between two runs that both lack the fact (for
    tracing, two draws of the noise). It shows what a localizer measures where there is no fact.

    Args:
      model, params: a causal language model.
      pairs: prompts and their partners.
      settings: which localizers, and how.
      seed: seed of the noise of causal tracing.
      tick: takes the number of pairs done, and the name of the work.
      mesh: devices over which the pairs of a batch are split.

    Returns:
      (effects, entries of the stage's record by localizer: for `paths`, its extraction heads)
    """
    put, first = batches.placer(mesh), batches.first_position(pairs)
    count = len(pairs.facts)
    keys = jax.random.split(jax.random.key(seed), (count, 2, settings.draws))
    noise = 0.0
    if "tracing" in settings.methods:
        noise = settings.noise * _deviation(model, params, pairs.clean, put)

    def every_batch() -> Iterator[tuple[Batch, int]]:
        for part, rows, counted in batches.batches(pairs, settings.batch):
            yield (
                batches.make(
                    *(model, params, settings, part, put),
                    first=first, noise=noise, keys=jnp.moveaxis(keys[rows], 0, 2),
                ),
                counted,
            )  # fmt: skip

    localizers = [LOCALIZERS[name] for name in settings.methods]
    parts: list[Measured] = []
    for batch, counted in every_batch():
        parts.append(_on_host(_measured(batch, localizers), counted))
        tick(counted, "localizing")
    result = _joined(parts)
    records = {}
    for localizer in localizers:
        if localizer.second is not None:
            measured, records[localizer.name] = localizer.second(result, every_batch())
            result = Effects({**result.values, **measured.values}, result.totals)
    return result, records


def _measured(batch: Batch, localizers: list) -> Measured:
    noising = batch.noising
    total = batch.difference(noising.base.answers) - batch.difference(noising.source.answers)
    values: dict[Effect, jax.Array] = {}
    totals: dict[Metric, jax.Array] = {"logit_difference": total}
    for localizer in localizers:
        if localizer.effects is not None:
            measured = localizer.effects(batch)
            values |= measured.values
            totals |= measured.totals
    return Measured(values, totals)


def _on_host(measured: Measured, count: int) -> Measured:
    def part(array: jax.Array) -> np.ndarray:
        return np.asarray(array, np.float32)[..., :count]

    return Measured(
        {effect: part(array) for effect, array in measured.values.items()},
        {metric: part(array) for metric, array in measured.totals.items()},
    )


def _joined(parts: list[Measured]) -> Effects:
    first = parts[0]
    return Effects(
        {effect: concatenated([p.values[effect] for p in parts]) for effect in first.values},
        {metric: concatenated([p.totals[metric] for p in parts]) for metric in first.totals},
    )


def _deviation(
    model: Model, params: PyTree, clean: Prompts, put: Callable[[PyTree], PyTree]
) -> jax.Array:
    """Standard deviation of the embeddings of all pairs' subjects."""
    inputs, subject = put((Inputs(clean.ids, clean.mask), clean.subject))
    embed = jax.jit(transformer.embed, static_argnums=0)
    return tracing.deviation(embed(model, params, inputs), subject)
