"""Scoring of many masks of one model side by side.

The program is forward-only: the masks have an axis P, the parameters none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from relearn_jax import config, hosts, runs
from relearn_jax.data import batching
from relearn_jax.data.batching import TokenBatch
from relearn_jax.evaluation import entities
from relearn_jax.evaluation.selectivity import Counts
from relearn_jax.experiments.concepts import chunks, measurements, pruning
from relearn_jax.experiments.concepts.side_by_side import Run
from relearn_jax.experiments.concepts.texts import Text
from relearn_jax.models import transformer, weights
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any
Masks = Sequence[Bool[np.ndarray, "S D"]]


def counted(
    run: Run, seed: int, zeroed: config.Zeroed, masks: Masks, text: Text, work: str
) -> tuple[Counts, Float[np.ndarray, " P"]]:
    """Counts of the base model of a seed under each of P masks.

    The second result is the share of words with the label that is predicted most often. `work` is
    what the progress line says is done.
    """
    setup, watch = run.setup, run.trainer.watch
    settings, model = setup.config, setup.pretrained.model
    most = hosts.first(chunks.masks_side_by_side(setup))
    mesh = meshes.make(settings.parallel, min(most, len(masks)))
    size = meshes.padded(min(most, len(masks)), mesh)
    file = runs.array_file(run.trainer.out, f"seed{seed}-base", "params")
    params = weights.read_stacked([file], sharding.placer(mesh, sets_axis=True))

    def batches() -> Iterator[TokenBatch]:
        batch_size, buckets = settings.tracking.batch_size, settings.data.buckets
        rows = meshes.rows_of(mesh, batch_size)
        return batching.epoch(text.encoded, text.labels, batch_size, buckets, None, 0, rows)

    gold = measurements.gold_words(text, model.labels)
    results = []
    for start in range(0, len(masks), size):
        watch.tick(0, f"{work}, {start} of {len(masks)} masks")
        part = list(masks[start : start + size])
        # The last part is filled up, as each number of masks would be compiled.
        pruned = stacking.per_set(mesh, [*part, *[part[0]] * (size - len(part))])
        predict = partial(_predict, sharding.spread(model, mesh), mesh, zeroed, params, pruned)
        for predicted in measurements.predictions(predict, mesh, batches, len(part), watch.stop):
            words = measurements.predicted_words(text, predicted)
            results.append(_counts(gold, words, model.labels))
    found, words, most_frequent = (np.stack(part) for part in zip(*results, strict=True))
    return Counts(found, words), most_frequent


def _counts(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], tags: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outside = tags.index("O")
    words = [[np.sum(g == outside), np.sum((g == outside) & (p == outside))]
             for g, p in zip(gold, predicted, strict=True)]  # fmt: skip
    every = np.concatenate(predicted)
    most_frequent = np.bincount(every).max() / len(every)
    return (
        entities.counts(gold, predicted, tags).astype(np.int16),
        np.array(words, np.int16),
        np.float32(most_frequent),
    )


@partial(jax.jit, static_argnames=("model", "mesh", "zeroed"))
def _predict(
    model: Model,
    mesh: Mesh,
    zeroed: config.Zeroed,
    params: PyTree,
    pruned: Bool[Array, "P S D"],
    batch: TokenBatch,
) -> tuple[Int[Array, " B"], Int[Array, "P B T"]]:
    """The sentence number of each row, and the labels by each mask; `params` is [1, ...]."""
    shared = jax.tree.map(lambda leaf: leaf[0], params)

    def of_mask(pruned: Array) -> Array:
        own, sites = pruning.without(model, zeroed, shared, pruned)
        logits, _ = transformer.apply(model, own, batch.inputs, sites)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    labels = jax.vmap(of_mask)(pruned)
    return jax.lax.with_sharding_constraint((batch.row, labels), meshes.replicated(mesh))
