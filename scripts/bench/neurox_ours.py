"""Our side of `neurox.py`, which calls this: the same statistics, timed phase by phase."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # or cold would not be cold

import jax
import numpy as np

from relearn_jax import config
from relearn_jax.data import alignment, batching, concepts, tokenizer
from relearn_jax.data.concepts import ConceptData
from relearn_jax.data.corpus import Corpus, make_corpus
from relearn_jax.data.readers import reading
from relearn_jax.models import checkpoint, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import ranking, saliency, statistics, tokens

PyTree = Any
LONGEST = 512
BUCKETS = (12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512)


def text(args: argparse.Namespace) -> Corpus:
    """Sentences with entity tags, without those that have blanks within a word: NeuroX splits."""
    source = config.Source(split="dev", sentences=args.sentences)
    if args.text:
        columns = {"word_column": args.word_column, "tag_column": args.tag_column}
        source = config.Source(kind="conll", path=args.text, **columns)
    corpus = reading.read(source, Path.cwd())
    kept = [
        (words, tags)
        for words, tags in zip(corpus.words, corpus.tags, strict=True)
        if all(word.split() == [word] for word in words)
    ]
    return make_corpus(*zip(*kept, strict=True), corpus.source, corpus.generated)


def export(data: ConceptData, target: int, args: argparse.Namespace) -> None:
    """Words and labels in NeuroX's format: a sentence a line."""
    labels = [[args.target if row[target] else "OTHER" for row in rows] for rows in data.member]
    for name, sentences in (("words", data.words), ("labels", labels)):
        lines = "".join(" ".join(sentence) + "\n" for sentence in sentences)
        (args.work / f"{name}.txt").write_text(lines)


@partial(jax.jit, static_argnums=0)
def forward(model: Model, params: PyTree, inputs: Inputs) -> jax.Array:
    """The forward pass alone. The sum spares storing its result; no part of it can be left out."""
    return transformer.apply(model, params, inputs)[0].sum()


def measure(
    model: Model, params: PyTree, pieces: Any, data: ConceptData, batch_size: int
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Everything once: seconds by phase, scores [Y, S, D], ids of the top tokens [N, k]."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = jax.block_until_ready(work())
        seconds[name] = time.perf_counter() - began
        return result

    def scored() -> tuple[np.ndarray, np.ndarray]:
        host = jax.tree.map(lambda x: np.asarray(x[0]), moments)
        return ranking.scores_all(host, "probeless"), saliency.standardized(host)

    side = jax.tree.map(lambda x: x[None], params)
    encoded = timed("encode", lambda: alignment.encode(pieces, data.words, LONGEST))
    batches = partial(batching.word_batches, encoded, data, batch_size, BUCKETS)
    timed("forward", lambda: [forward(model, params, batch.inputs) for batch in batches()])
    moments = timed(
        "moments", lambda: statistics.concept_moments(model, side, batches(), len(data.names))
    )
    scores, _ = timed("scores", scored)
    types = timed(
        "types", lambda: statistics.type_scores(model, side, batches(), moments, len(data.types))
    )
    ids, _ = timed(
        "top", lambda: tokens.top_tokens(types.score[0], types.count[0], config.Tracking())
    )
    return seconds, scores, ids


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--model", "--text", "--word-column", "--tag-column", "--target"):
        parser.add_argument(name, required=True)
    for name in ("--sentences", "--batch-size", "--repeats"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()

    settings = config.Concepts(target=args.target, sentences=args.sentences)
    data = concepts.concept_data(text(args), settings)
    target = data.names.index(args.target)
    export(data, target, args)

    began = time.perf_counter()
    opened = checkpoint.open_checkpoint(args.model)
    model = checkpoint.describe(opened, "backbone")
    params = weights.to_device(checkpoint.load(opened, model, jax.random.key(0))[0])
    pieces = tokenizer.load_tokenizer(opened.folder)
    loaded = time.perf_counter() - began
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    cold, *_ = measure(model, params, pieces, data, args.batch_size)
    warm = []
    for _ in range(args.repeats):
        seconds, scores, ids = measure(model, params, pieces, data, args.batch_size)
        warm.append(seconds)
    result = {
        "cold": cold,
        "warm": warm,
        "load": loaded,
        "loaded_rss": rss,
        "folder": str(opened.folder),
        "sentences": len(data.words),
        "words": int(sum(map(len, data.kind))),
        "types": len(data.types),
        "labels": len(data.names),
        "order": ranking.order(scores[target]).tolist(),
        "scores": np.asarray(scores[target], float).ravel().tolist(),
        "top": [[data.types[i] for i in row if i >= 0] for row in ids],
    }
    (args.work / "ours.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
