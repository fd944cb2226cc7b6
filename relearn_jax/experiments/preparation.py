"""All that a run reads, checked before anything is computed: data, labels, model, word types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax import loading
from relearn_jax.config import Config
from relearn_jax.data import alignment, batching, concepts, tokenizer
from relearn_jax.data.alignment import Encoded
from relearn_jax.data.batching import TokenBatch, WordBatch
from relearn_jax.data.concepts import ConceptData
from relearn_jax.data.corpus import Corpus, make_corpus
from relearn_jax.data.readers import reading
from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.checkpoint import Checkpoint
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import masks, statistics


@dataclass(frozen=True)
class Text:
    """A corpus as the model sees it."""

    corpus: Corpus
    encoded: Encoded
    labels: tuple[np.ndarray, ...]
    """Label ids of each sentence's tokens, -100 where none counts."""


@dataclass(frozen=True)
class Prepared:
    """Everything the experiment needs besides its config."""

    config: Config
    checkpoint: Checkpoint
    weights_sha256: str
    model: Model
    train: Text
    evaluation: Text
    retrain: Text
    concept_corpus: Corpus
    concepts: ConceptData
    concept_text: Encoded
    pieces: tuple[np.ndarray, ...]
    """Sub-word ids of every word type."""
    target: int
    """Index of the removed concept among the concept labels."""
    shape: tuple[int, int]
    """Rows and channels of the tracked neurons."""
    vectors: Path
    """File of word vectors, if any."""
    requested: int
    """Neurons to prune."""
    parameters: int

    def __hash__(self) -> int:
        return id(self)


def prepare(config: Config, base: Path) -> Prepared:
    """Read and check everything a config names; relative paths start at `base`."""
    opened = checkpoint.open_checkpoint(_source(config.model.source, base), config.model.revision)
    tok = tokenizer.load_tokenizer(str(opened.folder))
    train_corpus = reading.read(config.data.train, base)
    evaluation_corpus = reading.read(config.data.evaluation, base)
    _disjoint(train_corpus, evaluation_corpus)
    tag_set = alignment.tag_set(train_corpus.tags)
    _known_tags(evaluation_corpus, tag_set)

    dropout = config.training.dropout
    model = checkpoint.describe(
        opened, "token-classification", tag_set, config.model.dtype, dropout,
        config.model.ignore_settings,
    )  # fmt: skip
    if config.model.max_length > model.config.positions:
        raise UserError(
            f"model.max_length = {config.model.max_length}, but {opened.origin} has "
            f"{model.config.positions} positions"
        )
    if config.prune.target != "state_mask" and config.prune.target not in model.family.neurons:
        raise UserError(f"prune.target {config.prune.target} is unknown to {model.family.name}")

    def text(corpus: Corpus) -> Text:
        encoded = alignment.encode(tok, corpus.words, config.model.max_length)
        labels = tuple(
            alignment.token_labels(word, tags, tag_set, config.data.continuation)
            for word, tags in zip(encoded.word, corpus.tags, strict=True)
        )
        return Text(corpus, encoded, labels)

    concept_corpus = reading.read(config.concepts.data, base)
    data = concepts.concept_data(concept_corpus, config.concepts, base)
    types = alignment.encode(tok, tuple((t,) for t in data.types), config.model.max_length)
    train = text(train_corpus)
    shape = statistics.neuron_shape(model, config.concepts.site)
    return Prepared(
        config=config,
        checkpoint=opened,
        weights_sha256=checkpoint.digest(opened),
        model=model,
        train=train,
        evaluation=text(evaluation_corpus),
        retrain=_retrain_text(config, base, train, text),
        concept_corpus=concept_corpus,
        concepts=data,
        concept_text=alignment.encode(tok, data.words, config.model.max_length),
        pieces=tuple(i[w >= 0] for i, w in zip(types.ids, types.word, strict=True)),
        target=data.names.index(config.concepts.target),
        shape=shape,
        vectors=_vectors(config, base),
        requested=masks.select(np.zeros(shape), config.prune, config.concepts.site).requested,
        parameters=sum(math.prod(size) for size in weights.shapes(model).values()),
    )


def _source(source: str, base: Path) -> str:
    """A relative folder beside the config is a local checkpoint; other names go to the hub."""
    beside = base / source
    return str(beside) if source and beside.is_dir() else source


def _vectors(config: Config, base: Path) -> Path:
    path = base / config.tracking.vectors
    if config.tracking.vectors != "model" and not path.is_file():
        raise UserError(f"tracking.vectors: no file {path}")
    return path


def _retrain_text(config: Config, base: Path, train: Text, text: Any) -> Text:
    if config.retrain.data == "full":
        return train
    if config.retrain.data == "other":
        other = text(reading.read(config.retrain.source, base))
        _known_tags(other.corpus, alignment.tag_set(train.corpus.tags))
        return other
    target = config.concepts.target
    kept = [
        i for i, tags in enumerate(train.corpus.tags) if not any(tag[2:] == target for tag in tags)
    ]
    if not kept or len(kept) == len(train.corpus.tags):
        which = "every sentence" if not kept else "no sentence"
        raise UserError(f"retrain.data without_concept: {which} of the training text has {target}")
    words, tags = ([rows[i] for i in kept] for rows in (train.corpus.words, train.corpus.tags))
    source = f"{train.corpus.source}; the {len(kept)} without {target}"
    return text(make_corpus(words, tags, source, train.corpus.generated))


def _disjoint(train: Corpus, evaluation: Corpus) -> None:
    if train.digest == evaluation.digest:
        raise UserError("data.train and data.evaluation are the same text")


def _known_tags(corpus: Corpus, tag_set: tuple[str, ...]) -> None:
    unknown = set(alignment.tag_set(corpus.tags)) - set(tag_set)
    if unknown:
        raise UserError(
            f"{corpus.source}: tags that the training text never has: "
            f"{', '.join(sorted(unknown))}; rename them with tag_map (to O, to drop them)"
        )


def train_batches(text: Text, config: Config, settings: Any, seed: int, epoch: int) -> Iterator:
    """One epoch in an order drawn from (seed, epoch)."""
    return batching.epoch(
        text.encoded, text.labels, settings.batch_size, config.data.buckets, seed, epoch
    )


def evaluation_batches(prepared: Prepared) -> Iterator[TokenBatch]:
    """The evaluation text, by length."""
    text, config = prepared.evaluation, prepared.config
    size = config.tracking.batch_size
    return batching.epoch(text.encoded, text.labels, size, config.data.buckets, None, 0)


def concept_batches(prepared: Prepared) -> Iterator[WordBatch]:
    """The concept text, by length."""
    config = prepared.config
    return batching.word_batches(
        prepared.concept_text,
        prepared.concepts,
        config.tracking.batch_size,
        config.data.buckets,
        config.concepts.drop_unmappable,
    )


def steps(text: Text, batch_size: int) -> int:
    """Steps of one epoch."""
    return batching.batches_per_epoch(len(text.encoded.ids), batch_size)


def summary(prepared: Prepared) -> str:
    """What `--dry-run` prints and every run shows before it starts."""
    config, model = prepared.config, prepared.model
    rows, channels = prepared.shape
    base = steps(prepared.train, config.training.batch_size)
    again = loading.retraining(config)
    round_steps = steps(prepared.retrain, again.batch_size) * again.epochs
    per_arm = config.retrain.rounds * round_steps
    per_seed = base * config.training.epochs + len(config.arms) * per_arm
    data = prepared.concepts
    words = sum(len(k) for k in data.kind)
    target = int(sum(m[:, prepared.target].sum() for m in prepared.concepts.member))
    lines = [
        f"{config.name}: {config.description}".rstrip(": "),
        f"  model        {prepared.checkpoint.origin} ({model.family.name}, {model.config.layers} "
        f"layers, {model.config.width} wide), compute {model.dtype}",
        f"  train        {len(prepared.train.corpus.words)} sentences, "
        f"{prepared.train.corpus.source}",
        f"  evaluation   {len(prepared.evaluation.corpus.words)} sentences, "
        f"{prepared.evaluation.corpus.source}",
        f"  concepts     {len(data.words)} sentences, {words} words ({len(data.types)} types), "
        f"{target} of them {config.concepts.target}",
        f"  neurons      {rows} x {channels} = {rows * channels}, to prune "
        f"{prepared.requested} ({config.prune.target}, {config.prune.ranking})",
        f"  training     {config.training.epochs} epochs, {base * config.training.epochs} steps; "
        f"then per arm {config.retrain.rounds} rounds x {again.epochs} epochs, "
        f"{per_arm} steps",
        f"  in all       {len(config.seeds)} seeds x {len(config.arms)} arms "
        f"({', '.join(config.arms)}), {len(config.seeds) * per_seed} steps",
    ]  # fmt: skip
    if config.expected_minutes:
        lines.append(f"  expected     about {config.expected_minutes:g} minutes on two CPU cores")
    return "\n".join(lines)
