"""The two measurements of every stage: task scores, and statistics of every neuron."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from relearn_jax.data.alignment import word_labels
from relearn_jax.evaluation import ner
from relearn_jax.experiments.preparation import (
    Prepared,
    concept_batches,
    evaluation_batches,
)
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Sites
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import probe, ranking, saliency, similarity, statistics, tokens

PyTree = Any
Records = list[dict[str, Any]]


@partial(jax.jit, static_argnames="model")
def predict(model: Model, params: PyTree, inputs: Inputs, sites: Sites) -> jax.Array:
    """Label ids with the highest logit, [B, T]."""
    logits, _ = transformer.apply(model, params, inputs, sites)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def task_scores(prepared: Prepared, params: PyTree, sites: Sites) -> Records:
    """Entity scores on the evaluation text, in both variants (specs: relearning 7).

    `word`: a word's label is that of its first sub-word, O where truncation cut it off. `subword`:
    every labelled sub-word counts as a position of its own.
    """
    text, tag_set = prepared.evaluation, prepared.model.labels
    predicted: dict[int, np.ndarray] = {}
    pending = [
        (batch.row, predict(prepared.model, params, batch.inputs, sites))
        for batch in evaluation_batches(prepared)
    ]
    for rows, labels in pending:
        predicted |= {int(r): x for r, x in zip(rows, np.asarray(labels), strict=True) if r >= 0}

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
        for record in ner.score(gold, found, tag_set)
    ]


def neuron_statistics(prepared: Prepared, params: PyTree, sites: Sites) -> dict[str, np.ndarray]:
    """Scores of every neuron for every concept label, and its top tokens.

    Returns:
      score, standardized: float32 [Y, S, D]; top_ids int32 and top_scores float32 [N, k].
    """
    config, model, data = prepared.config, prepared.model, prepared.concepts
    site, labels = config.concepts.site, len(data.names)
    moments = statistics.concept_moments(
        model, params, concept_batches(prepared), labels, site, sites
    )
    types = statistics.type_scores(
        model, params, concept_batches(prepared), moments, len(data.types), site, sites,
        config.tracking.signed,
    )  # fmt: skip
    ids, scores = tokens.top_tokens(types.score, types.count, config.tracking)
    host = jax.tree.map(np.asarray, moments)
    if config.prune.ranking == "linear_probe":
        weights = probe.train(model, params, lambda: concept_batches(prepared), labels, site, sites)
        ranked = np.stack([probe_scores(weights, y, prepared.shape) for y in range(labels)])
    else:
        ranked = ranking.scores_all(host, config.prune.ranking, config.prune.contrast)
    return {
        "score": np.asarray(ranked, np.float32),
        "standardized": np.asarray(saliency.standardized(host), np.float32),
        "top_ids": ids,
        "top_scores": scores,
    }


def probe_scores(weights: np.ndarray, label: int, shape: tuple[int, int]) -> np.ndarray:
    """Probe scores in the shape of the neurons."""
    return ranking.probe_scores(weights, label).reshape(shape)


def word_vectors(prepared: Prepared, params: PyTree) -> np.ndarray:
    """Vectors of the word types, [V, E]: the base model's input embeddings, or a file's."""
    if prepared.vectors is not None:
        return prepared.vectors
    table = np.asarray(params["embed"]["word"]["embedding"])
    return similarity.vectors_from_embeddings(table, prepared.pieces)


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
