"""All that a run reads, checked before anything is computed: data, labels, model, word types."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relearn_jax import loading
from relearn_jax.config import Config, Training
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
from relearn_jax.neurons import masks, similarity, statistics


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
    vectors: np.ndarray | None
    """Vectors of the word types from a file, [V, E]; None for the base model's embeddings."""
    vectors_sha256: str
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
    checkpoint.check(opened, model)
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
    concept_text = alignment.encode(tok, data.words, config.model.max_length)
    _covered(config, data, concept_text)
    vectors = _vectors(config, base, data.types)
    shape = statistics.neuron_shape(model, config.concepts.site)
    return Prepared(
        config=config,
        checkpoint=opened,
        weights_sha256=checkpoint.digest(opened),
        model=model,
        train=train,
        evaluation=text(evaluation_corpus),
        retrain=_retrain_text(config, base, train, data, text),
        concept_corpus=concept_corpus,
        concepts=data,
        concept_text=concept_text,
        pieces=tuple(i[w >= 0] for i, w in zip(types.ids, types.word, strict=True)),
        target=data.names.index(config.concepts.target),
        shape=shape,
        vectors=vectors,
        vectors_sha256="" if vectors is None else hashlib.sha256(vectors.tobytes()).hexdigest(),
        requested=masks.select(np.zeros(shape), config.prune, config.concepts.site).requested,
        parameters=sum(math.prod(size) for size in weights.shapes(model).values()),
    )


def _source(source: str, base: Path) -> str:
    """A relative folder beside the config is a local checkpoint; other names go to the hub."""
    beside = base / source
    return str(beside) if source and beside.is_dir() else source


def _vectors(config: Config, base: Path, types: tuple[str, ...]) -> np.ndarray | None:
    if config.tracking.vectors == "model":
        return None
    path = base / config.tracking.vectors
    if not path.is_file():
        raise UserError(f"tracking.vectors: no file {path}")
    return similarity.vectors_from_file(path, types)


def _covered(config: Config, data: ConceptData, encoded: Encoded) -> None:
    """Refuse a target all of whose words lie behind the cut at `max_length`."""
    target = data.names.index(config.concepts.target)
    words = zip(data.member, encoded.covered, strict=True)
    if not any(member[:covered, target].any() for member, covered in words):
        raise UserError(
            f"every word of {config.concepts.target} lies behind the cut at model.max_length = "
            f"{config.model.max_length}; raise it"
        )


def _retrain_text(
    config: Config, base: Path, train: Text, data: ConceptData, text: Callable[[Corpus], Text]
) -> Text:
    if config.retrain.data == "full":
        return train
    if config.retrain.data == "other":
        other = text(reading.read(config.retrain.source, base))
        _known_tags(other.corpus, alignment.tag_set(train.corpus.tags))
        return other
    target = config.concepts.target
    holds = _holds_target(config, data)
    rows = zip(train.corpus.words, train.corpus.tags, strict=True)
    kept = [i for i, (words, tags) in enumerate(rows) if not holds(words, tags)]
    if not kept or len(kept) == len(train.corpus.tags):
        which = "every sentence" if not kept else "no sentence"
        raise UserError(f"retrain.data without_concept: {which} of the training text has {target}")
    words, tags = ([rows[i] for i in kept] for rows in (train.corpus.words, train.corpus.tags))
    source = f"{train.corpus.source}; the {len(kept)} without {target}"
    return text(make_corpus(words, tags, source, train.corpus.generated))


def _holds_target(config: Config, data: ConceptData) -> Callable[..., bool]:
    """Whether a sentence has the target: by its tags, or, for other labels, by its words."""
    target = config.concepts.target
    if config.concepts.labels == "spans":
        return lambda words, tags: any(tag[2:] == target for tag in tags)
    index = data.names.index(target)
    marked = {
        data.types[kind]
        for kinds, member in zip(data.kind, data.member, strict=True)
        for kind in kinds[member[:, index]]
    }
    return lambda words, tags: not marked.isdisjoint(words)


def repeated(train: Corpus, evaluation: Corpus) -> int:
    """Evaluation sentences that stand word for word in the training text."""
    known = set(train.words)
    return sum(words in known for words in evaluation.words)


def _disjoint(train: Corpus, evaluation: Corpus) -> None:
    same = repeated(train, evaluation)
    if same > len(evaluation.words) / 2:
        raise UserError(
            f"data.train and data.evaluation are the same text: {same} of the "
            f"{len(evaluation.words)} evaluation sentences stand in the training text"
        )


def _known_tags(corpus: Corpus, tag_set: tuple[str, ...]) -> None:
    unknown = set(alignment.tag_set(corpus.tags)) - set(tag_set)
    if unknown:
        raise UserError(
            f"{corpus.source}: tags that the training text never has: "
            f"{', '.join(sorted(unknown))}; rename them with tag_map (to O, to drop them)"
        )


def train_batches(
    text: Text, config: Config, settings: Training, seed: int, epoch: int
) -> Iterator[TokenBatch]:
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
    share = len(prepared.retrain.corpus.words) / len(prepared.train.corpus.words)
    effective = config.training.epochs + config.retrain.rounds * again.epochs * share
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
        f"{prepared.evaluation.corpus.source} "
        f"({repeated(prepared.train.corpus, prepared.evaluation.corpus)} also in train)",
        f"  concepts     {len(data.words)} sentences, {words} words ({len(data.types)} types), "
        f"{target} of them {config.concepts.target}",
        f"  neurons      {rows} x {channels} = {rows * channels}, to prune "
        f"{prepared.requested} ({config.prune.target}, {config.prune.ranking})",
        f"  training     {config.training.epochs} epochs, {base * config.training.epochs} steps; "
        f"then per arm {config.retrain.rounds} rounds x {again.epochs} epochs, "
        f"{per_arm} steps; {effective:g} effective epochs of the training text",
        f"  in all       {len(config.seeds)} seeds x {len(config.arms)} arms "
        f"({', '.join(config.arms)}), {len(config.seeds) * per_seed} steps",
    ]  # fmt: skip
    if config.expected_minutes:
        lines.append(f"  expected     about {config.expected_minutes:g} minutes on two CPU cores")
    return "\n".join(lines)
