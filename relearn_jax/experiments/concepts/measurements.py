"""The two measurements of every stage: task scores, and statistics of every neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax.data.alignment import word_labels
from relearn_jax.data.batching import TokenBatch, WordBatch
from relearn_jax.evaluation import entities
from relearn_jax.experiments.concepts.setup import (
    Prepared,
    concept_batches,
    evaluation_batches,
)
from relearn_jax.models import transformer
from relearn_jax.models.sites import Sites
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import probe, ranking, saliency, similarity, statistics, tokens
from relearn_jax.neurons.statistics import Moments, TypeScores
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.stopping import until

PyTree = Any
Records = list[dict[str, Any]]


@partial(jax.jit, static_argnames=("model", "mesh"))
def predict(
    model: Model, mesh: Mesh, params: PyTree, batch: TokenBatch, sites: Sites
) -> tuple[jax.Array, jax.Array]:
    """Which sentences the rows are, [B], and the label with the highest logit, [C, B, T]."""

    def one(params: PyTree, sites: Sites) -> jax.Array:
        logits, _ = transformer.apply(model, params, batch.inputs, sites)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    labels = jax.vmap(one)(params, sites)
    return jax.lax.with_sharding_constraint((batch.row, labels), meshes.replicated(mesh))


def task_scores(
    prepared: Prepared,
    mesh: Mesh,
    params: PyTree,
    sites: Sites,
    sets: int,
    stop: Callable[[], bool],
) -> list[Records]:
    """Entity scores of the first `sets` of C models, in both variants (specs: relearning 7).

    `word`: a word's label is that of its first sub-word, O where truncation cut it off. `subword`:
    every labelled sub-word counts as a position of its own.

    Raises:
      Stopped: `stop` said so between two batches.
    """
    model = sharding.spread(prepared.model, mesh)
    pending = [
        predict(model, mesh, params, meshes.put_rows(mesh, batch, False), sites)
        for batch in until(stop, evaluation_batches(prepared, mesh), "an evaluation")
    ]
    found: list[dict[int, np.ndarray]] = [{} for _ in range(sets)]
    for rows, labels in until(stop, pending, "an evaluation"):
        rows, labels = np.asarray(rows), np.asarray(labels)
        for c in range(sets):
            found[c] |= {int(r): x for r, x in zip(rows, labels[c], strict=True) if r >= 0}
    return [_scores(prepared, predicted) for predicted in found]


def _scores(prepared: Prepared, predicted: dict[int, np.ndarray]) -> Records:
    text, tag_set = prepared.evaluation, prepared.model.labels
    ids = {tag: i for i, tag in enumerate(tag_set)}
    words_gold, words_found, pieces_gold, pieces_found = [], [], [], []
    for row, tags in enumerate(text.corpus.tags):
        word, label = text.encoded.word[row], text.labels[row]
        found = predicted[row][: len(word)]
        words_gold.append(np.array([ids[t] for t in tags], int))
        words_found.append(word_labels(word, found, len(tags)))
        pieces_gold.append(label[label >= 0])
        pieces_found.append(found[label >= 0])
    return [
        {"variant": variant, **record}
        for variant, gold, found in (
            ("word", words_gold, words_found),
            ("subword", pieces_gold, pieces_found),
        )
        for record in entities.score(gold, found, tag_set)
    ]


def neuron_statistics(
    prepared: Prepared,
    mesh: Mesh,
    params: PyTree,
    sites: Sites,
    sets: int,
    stop: Callable[[], bool],
) -> list[dict[str, np.ndarray]]:
    """Scores of every neuron for every concept label, and its top tokens.

    Returns:
      For each of the first `sets` of C models: score, standardized: float32 [Y, S, D]; top_ids
      int32 and top_scores float32 [N, k].

    Raises:
      Stopped: `stop` said so between two batches.
    """
    config, data = prepared.config, prepared.concepts
    model = sharding.spread(prepared.model, mesh)
    site, labels = config.concepts.site, len(data.names)

    def batches() -> Iterator[WordBatch]:
        some = until(stop, concept_batches(prepared, mesh), "the tracking of neurons")
        return (meshes.put_rows(mesh, batch, False) for batch in some)

    zeros = partial(stacking.zeros, mesh)
    moments = statistics.concept_moments(model, params, batches(), labels, site, sites, zeros)
    types = statistics.type_scores(
        model, params, batches(), moments, len(data.types), site, sites, config.tracking.signed,
        zeros,
    )  # fmt: skip
    weights = None
    if config.prune.ranking == "linear_probe":
        weights = probe.train(model, params, batches, labels, site, sites, zeros=zeros)
    return [
        _of_one(prepared, *stacking.one_result(mesh, (moments, types, weights), c))
        for c in until(stop, range(sets), "the tracking of neurons")
    ]


def _of_one(
    prepared: Prepared, moments: Moments, types: TypeScores, weights: jax.Array | None
) -> dict[str, np.ndarray]:
    config, shape = prepared.config, prepared.shape
    ids, scores = tokens.top_tokens(types.score, types.count, config.tracking)
    host = jax.tree.map(np.asarray, moments)
    if weights is not None:
        host_weights = np.asarray(weights)
        fitted = [
            ranking.probe_scores(host_weights, y) for y in range(len(prepared.concepts.names))
        ]
        ranked = np.stack(fitted).reshape(-1, *shape)
    else:
        ranked = ranking.scores_all(host, config.prune.ranking, config.prune.contrast)
    return {
        "score": np.asarray(ranked, np.float32),
        "standardized": np.asarray(saliency.standardized(host), np.float32),
        "top_ids": ids,
        "top_scores": scores,
    }


def word_vectors(prepared: Prepared, mesh: Mesh, params: PyTree, index: int) -> np.ndarray:
    """Vectors of the word types, [V, E]: the input embeddings of one of C models, or a file's."""
    if prepared.vectors is not None:
        return prepared.vectors
    # The rows in use alone: a large vocabulary's table is never whole on one device.
    used = np.unique(np.concatenate(prepared.pieces))
    table = _rows(mesh, params["embed"]["word"]["embedding"], index, used)
    pieces = tuple(np.searchsorted(used, piece) for piece in prepared.pieces)
    return similarity.vectors_from_embeddings(np.asarray(table), pieces)


@partial(jax.jit, static_argnums=0)
def _rows(mesh: Mesh, tables: jax.Array, index: int, used: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(tables[index][used], meshes.replicated(mesh))


def similarity_to_base(
    before: np.ndarray, after: np.ndarray, vectors: np.ndarray, pruned: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Similarity of every neuron's tokens to its base tokens, and the null of random pairs.

    Neurons whose token set did not change are left out of the null, as the paper leaves them out of
    its means.
    """
    unchanged = tokens.same_tokens(before, after)
    null = similarity.null(
        before, after, vectors, pruned, seed, included=~unchanged.reshape(pruned.shape)
    )
    return {
        "similarity": similarity.concept_similarity(before, after, vectors).astype(np.float32),
        "unchanged": unchanged,
        "null": np.stack([null.mean, null.low, null.high, null.neurons]).astype(np.float32),
    }
