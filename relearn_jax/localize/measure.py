"""Effects of all localizers on the same pairs of prompts, measured batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.localize import batch as batches
from relearn_jax.localize.batch import Batch, Measured, Pairs
from relearn_jax.localize.effects import Effect, Effects, Metric
from relearn_jax.localize.localizer import Arrays, concatenated
from relearn_jax.localize.methods import LOCALIZERS
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

    Every effect has a null: the same measurement between two runs that both lack the fact. It shows
    what a localizer measures where there is no fact.

    Args:
      model, params: a causal language model.
      pairs: prompts and their partners.
      settings: which localizers, and how.
      seed: of the draws of localizers.
      tick: takes the number of pairs done, and the name of the work.
      mesh: devices over which the pairs of a batch are split.

    Returns:
      (effects, entries of the stage's record by localizer: for `paths`, its extraction heads)
    """
    put, first = batches.placer(mesh), batches.first_position(pairs)
    localizers = [LOCALIZERS[name] for name in settings.methods]
    prepared = {
        localizer.name: localizer.prepare(model, params, pairs, settings, seed, put)
        for localizer in localizers
        if localizer.prepare is not None
    }

    def every_batch() -> Iterator[tuple[Batch, int]]:
        for part, rows, counted in batches.batches(pairs, settings.batch):
            own = {name: of_rows(rows) for name, of_rows in prepared.items()}
            batch = batches.make(model, params, settings, part, put, first=first, prepared=own)
            yield batch, counted

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


def readings(
    model: Model, params: PyTree, prompts: Prompts, settings: config.Localize, seed: int
) -> dict[str, Arrays]:
    """What the readers of the settings' localizers measure on prompts, by localizer."""
    return {
        name: reader.measure(model, params, prompts, seed)
        for name in settings.methods
        if (reader := LOCALIZERS[name].reader) is not None
    }


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
