"""The two measurements of every stage: task scores, and statistics of every neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax.config import Prune, Site, Tracking
from relearn_jax.data.alignment import word_labels
from relearn_jax.data.batching import TokenBatch, WordBatch
from relearn_jax.data.concepts import ConceptData
from relearn_jax.evaluation import entities
from relearn_jax.experiments.concepts.probed import ProbedText
from relearn_jax.experiments.concepts.texts import Text
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
Predicted = Mapping[int, np.ndarray]
"""Predicted labels of the tokens of each sentence, by its number."""


@partial(jax.jit, static_argnames=("model", "mesh"))
def predict(
    model: Model, mesh: Mesh, params: PyTree, batch: TokenBatch, sites: Sites
) -> tuple[jax.Array, jax.Array]:
    """The sentence number of each row, [B], and the label with the highest logit, [C, B, T]."""

    def concept_set(params: PyTree, sites: Sites) -> jax.Array:
        logits, _ = transformer.apply(model, params, batch.inputs, sites)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    labels = jax.vmap(concept_set)(params, sites)
    return jax.lax.with_sharding_constraint((batch.row, labels), meshes.replicated(mesh))


def task_scores(
    model: Model,
    mesh: Mesh,
    params: PyTree,
    sites: Sites,
    text: Text,
    batches: Callable[[], Iterator[TokenBatch]],
    models: int,
    stop: Callable[[], bool],
) -> list[Records]:
    """Entity scores of the first `models` of C models, in both variants (specs: relearning 7).

    `word`: a word has the label of its first sub-word, or O if it was truncated. `subword`: every
    labelled sub-word counts as a position.

    Args:
      model, mesh, params: C models [C, ...] on their devices.
      sites: interventions on their forward passes.
      text: the evaluation text.
      batches: gives the batches of the text, with the rows of this process.
      models: how many of the C models count; the others only fill up the mesh.
      stop: whether the process should stop.

    Raises:
      Stopped: `stop` returned true between two batches.
    """
    predict_batch = partial(predict, sharding.spread(model, mesh), mesh, params, sites=sites)
    predicted = predictions(predict_batch, mesh, batches, models, stop)
    return [_scores(text, model.labels, labels) for labels in predicted]


def predictions(
    predict: Callable[..., tuple[jax.Array, jax.Array]],
    mesh: Mesh,
    batches: Callable[[], Iterator[TokenBatch]],
    models: int,
    stop: Callable[[], bool],
) -> list[Predicted]:
    """Labels of the first `models` of C models on a text.

    Args:
      predict: takes `batch`; gives the sentence number of each row and the labels [C, B, T].
      mesh, batches, models, stop: as in `task_scores`.

    Raises:
      Stopped: `stop` returned true between two batches.
    """
    pending = [
        predict(batch=meshes.put_rows(mesh, batch, False))
        for batch in until(stop, batches(), "an evaluation")
    ]
    predicted: list[Predicted] = [{} for _ in range(models)]
    for rows, labels in until(stop, pending, "an evaluation"):
        rows, labels = np.asarray(rows), np.asarray(labels)
        for c in range(models):
            labelled_rows = zip(rows, labels[c], strict=True)
            predicted[c] |= {int(row): of_row for row, of_row in labelled_rows if row >= 0}
    return predicted


def gold_words(text: Text, tags: Sequence[str]) -> list[np.ndarray]:
    """The tag ids of the words of each sentence."""
    ids = {tag: i for i, tag in enumerate(tags)}
    return [np.array([ids[tag] for tag in of_sentence], int) for of_sentence in text.corpus.tags]


def predicted_words(text: Text, predicted: Predicted) -> list[np.ndarray]:
    """The predicted tag ids of the words of each sentence."""
    return [
        word_labels(word, predicted[row][: len(word)], len(tags))
        for row, (word, tags) in enumerate(zip(text.encoded.word, text.corpus.tags, strict=True))
    ]


def _scores(text: Text, tags: Sequence[str], predicted: Predicted) -> Records:
    labelled = [label >= 0 for label in text.labels]
    by_variant = {
        "word": (gold_words(text, tags), predicted_words(text, predicted)),
        "subword": (
            [label[real] for label, real in zip(text.labels, labelled, strict=True)],
            [predicted[row][: len(real)][real] for row, real in enumerate(labelled)],
        ),
    }
    return [
        {"variant": variant, **record}
        for variant, (gold, labels) in by_variant.items()
        for record in entities.score(gold, labels, tags)
    ]


def neuron_statistics(
    model: Model,
    mesh: Mesh,
    params: PyTree,
    sites: Sites,
    site: Site,
    concepts: ConceptData,
    batches: Callable[[], Iterator[WordBatch]],
    prune: Prune,
    tracking: Tracking,
    models: int,
    stop: Callable[[], bool],
) -> list[dict[str, np.ndarray]]:
    """Scores of every neuron for every concept label, and its top tokens.

    Args:
      model, mesh, params, sites, models, stop: as in `task_scores`.
      site: where the neurons are.
      concepts: the labels and types of the words.
      batches: gives the batches of the words, on the devices.
      prune: how neurons are ranked.
      tracking: how their top tokens are found.

    Returns:
      For each of the first `models` of C models: score and what `saliency.stored` names: float32
      [Y, S, D]; top_ids int32 and top_scores float32 [N, k].

    Raises:
      Stopped: `stop` returned true between two batches.
    """
    spread, labels = sharding.spread(model, mesh), len(concepts.names)
    zeros = partial(stacking.zeros, mesh)
    moments = statistics.concept_moments(spread, params, batches(), labels, site, sites, zeros)
    types = statistics.type_scores(
        spread, params, batches(), moments, len(concepts.types), site, sites, tracking.signed, zeros
    )
    weights = None
    if ranking.RANKINGS[prune.ranking].probed:
        weights = probe.train(spread, params, batches, labels, site, sites, zeros=zeros)
    return [
        _neuron_arrays(*stacking.one_result(mesh, (moments, types, weights), c), prune, tracking)
        for c in until(stop, range(models), "the tracking of neurons")
    ]


def _neuron_arrays(
    moments: Moments,
    types: TypeScores,
    weights: jax.Array | None,
    prune: Prune,
    tracking: Tracking,
) -> dict[str, np.ndarray]:
    """The arrays of one model, for `neuron_statistics`."""
    ids, top_scores = tokens.top_tokens(types.score, types.count, tracking)
    host = jax.tree.map(np.asarray, moments)
    scores = ranking.scores_all(host, prune.ranking, prune.contrast, weights)
    return {
        "score": np.asarray(scores, np.float32),
        **saliency.stored(host),
        "top_ids": ids,
        "top_scores": top_scores,
    }


def word_vectors(mesh: Mesh, params: PyTree, index: int, probed: ProbedText) -> np.ndarray:
    """Vectors of the word types, [V, E]: from a file, or the embeddings of model `index` of C."""
    if probed.vectors is not None:
        return probed.vectors
    # Only the rows in use are gathered: a large table may not fit on one device.
    used = np.unique(np.concatenate(probed.pieces))
    table = _rows(mesh, params["embed"]["word"]["embedding"], index, used)
    pieces = tuple(np.searchsorted(used, piece) for piece in probed.pieces)
    return similarity.vectors_from_embeddings(np.asarray(table), pieces)


@partial(jax.jit, static_argnums=0)
def _rows(mesh: Mesh, tables: jax.Array, index: int, used: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(tables[index][used], meshes.replicated(mesh))


def similarity_to_base(
    before: np.ndarray, after: np.ndarray, vectors: np.ndarray, pruned: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Similarity of every neuron's tokens to its base tokens, and the null of random pairs.

    Neurons with an unchanged token set are left out of the null, as the paper leaves them out of
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
