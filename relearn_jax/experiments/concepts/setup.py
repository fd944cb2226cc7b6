"""All that a run reads, checked before anything is computed: data, labels, model, word types."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from relearn_jax import loading
from relearn_jax.config import Concepts, Config, Training
from relearn_jax.data import alignment, batching, concepts, tokenizer
from relearn_jax.data.alignment import Encoded
from relearn_jax.data.batching import TokenBatch, WordBatch
from relearn_jax.data.concepts import ConceptData
from relearn_jax.data.corpus import Corpus, make_corpus
from relearn_jax.data.readers import reading
from relearn_jax.errors import UserError
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import Group
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.checkpoint import Checkpoint
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import masks, similarity, statistics
from relearn_jax.parallel import mesh as meshes


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
    retrain: dict[str, Text]
    """The text of the retraining rounds, for each removed concept."""
    concept_corpus: Corpus
    concepts: ConceptData
    concept_text: Encoded
    pieces: tuple[np.ndarray, ...]
    """Sub-word ids of every word type."""
    shape: tuple[int, int]
    """Rows and channels of the tracked neurons."""
    vectors: np.ndarray | None
    """Vectors of the word types from a file, [V, E]; None for the base model's embeddings."""
    vectors_sha256: str
    parameters: int

    def __hash__(self) -> int:
        return id(self)


def prepare(config: Config, base: Path) -> Prepared:
    """Read and check everything a config names; relative paths start at `base`."""
    sets.check_names(config)
    named, source = config.model, _source(config.model.source, base)
    opened = checkpoint.open_checkpoint(source, named.revision, named.settings)
    folder = tokenizer_folder(config, base) or opened.folder
    tok = tokenizer.load_tokenizer(folder)
    train_corpus = reading.read(config.data.train, base)
    evaluation_corpus = reading.read(config.data.evaluation, base)
    _disjoint(train_corpus, evaluation_corpus)
    tag_set = alignment.tag_set(train_corpus.tags)
    _known_tags(evaluation_corpus, tag_set)

    dropout = config.training.dropout
    model = checkpoint.describe(
        opened, "token-classification", tag_set, config.model.dtype, dropout,
        config.model.ignore_settings, config.model.remat,
    )  # fmt: skip
    checkpoint.check(opened, model)
    if config.model.max_length > model.config.positions:
        raise UserError(
            f"model.max_length = {config.model.max_length}, but {opened.origin} has "
            f"{model.config.positions} positions"
        )
    if config.prune.target != "state_mask" and config.prune.target not in model.family.neurons:
        targets = ", ".join(sorted({*model.family.neurons, "state_mask"}))
        raise UserError(
            f"prune.target {config.prune.target} is unknown to {model.family.name}, which has "
            f"{targets}"
        )

    def text(corpus: Corpus) -> Text:
        encoded = alignment.encode(tok, corpus.words, config.model.max_length)
        labels = tuple(
            alignment.token_labels(word, tags, tag_set, config.data.continuation)
            for word, tags in zip(encoded.word, corpus.tags, strict=True)
        )
        return Text(corpus, encoded, labels)

    concept_corpus = reading.read(config.concepts.data, base)
    targets = tuple(dict.fromkeys(group.target for group in sets.groups(config)))
    data = concepts.concept_data(concept_corpus, _tracked(config.concepts, targets), base)
    types = alignment.encode(tok, tuple((t,) for t in data.types), config.model.max_length)
    train = text(train_corpus)
    concept_text = alignment.encode(tok, data.words, config.model.max_length)
    for target in targets:
        _covered(config, data, concept_text, target)
    vectors = _vectors(config, base, data.types)
    shape = statistics.neuron_shape(model, config.concepts.site)
    for group in sets.groups(config):
        requested(config, group, shape)
    return Prepared(
        config=config,
        checkpoint=opened,
        weights_sha256=checkpoint.digest(opened, folder),
        model=model,
        train=train,
        evaluation=text(evaluation_corpus),
        retrain=_retrain_texts(config, base, train, data, text, targets),
        concept_corpus=concept_corpus,
        concepts=data,
        concept_text=concept_text,
        pieces=tuple(i[w >= 0] for i, w in zip(types.ids, types.word, strict=True)),
        shape=shape,
        vectors=vectors,
        vectors_sha256="" if vectors is None else hashlib.sha256(vectors.tobytes()).hexdigest(),
        parameters=sum(math.prod(size) for size in weights.shapes(model).values()),
    )


def _source(source: str, base: Path) -> str:
    """A relative folder beside the config is a local checkpoint; other names go to the hub."""
    if source == checkpoint.RANDOM:
        return source
    beside = base / source
    return str(beside) if source and beside.is_dir() else source


def tokenizer_folder(config: Config, base: Path) -> Path | None:
    """The folder of `model.tokenizer`, or None where the model brings its own."""
    name = config.model.tokenizer
    return checkpoint.locate(_source(name, base), config.model.revision) if name else None


def _vectors(config: Config, base: Path, types: tuple[str, ...]) -> np.ndarray | None:
    if config.tracking.vectors == "model":
        return None
    path = base / config.tracking.vectors
    if not path.is_file():
        raise UserError(f"tracking.vectors: no file {path}")
    return similarity.vectors_from_file(path, types)


def _tracked(settings: Concepts, targets: Sequence[str]) -> Concepts:
    """Follow every removed concept, where only some concepts are followed."""
    track = tuple(dict.fromkeys((*settings.track, *targets))) if settings.track else ()
    return dataclasses.replace(settings, target=targets[0], track=track)


def requested(config: Config, group: Group, shape: tuple[int, int]) -> int:
    """Neurons that a group asks to be pruned; UserError if that cannot be."""
    settings = sets.prune_settings(config, group)
    return masks.select(np.zeros(shape), settings, config.concepts.site).requested


def _covered(config: Config, data: ConceptData, encoded: Encoded, target: str) -> None:
    """Refuse a target all of whose words lie behind the cut at `max_length`."""
    if target not in data.names:
        raise UserError(
            f"sets.concepts: no word of the concept text is {target}; it has "
            f"{', '.join(data.names[:-1])}"
        )
    index = data.names.index(target)
    words = zip(data.member, encoded.covered, strict=True)
    if not any(member[:covered, index].any() for member, covered in words):
        raise UserError(
            f"every word of {target} lies behind the cut at model.max_length = "
            f"{config.model.max_length}; raise it"
        )


def _retrain_texts(
    config: Config,
    base: Path,
    train: Text,
    data: ConceptData,
    text: Callable[[Corpus], Text],
    targets: Sequence[str],
) -> dict[str, Text]:
    if config.retrain.data == "full":
        return dict.fromkeys(targets, train)
    if config.retrain.data == "other":
        other = text(reading.read(config.retrain.source, base))
        _known_tags(other.corpus, alignment.tag_set(train.corpus.tags))
        return dict.fromkeys(targets, other)
    return {target: text(_without(config, train.corpus, data, target)) for target in targets}


def _without(config: Config, corpus: Corpus, data: ConceptData, target: str) -> Corpus:
    """The sentences that do not have the target."""
    holds = _holds_target(config, data, target)
    rows = list(zip(corpus.words, corpus.tags, strict=True))
    kept = [row for row in rows if not holds(*row)]
    if not kept or len(kept) == len(rows):
        which = "every sentence" if not kept else "no sentence"
        raise UserError(f"retrain.data without_concept: {which} of the training text has {target}")
    words, tags = zip(*kept, strict=True)
    source = f"{corpus.source}; the {len(kept)} without {target}"
    return make_corpus(words, tags, source, corpus.generated)


def _holds_target(config: Config, data: ConceptData, target: str) -> Callable[..., bool]:
    """Whether a sentence has the target: by its tags, or, for other labels, by its words."""
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
    text: Text,
    config: Config,
    settings: Training,
    mesh: Mesh,
    seeds: Sequence[int],
    epoch: int,
    skip: int = 0,
) -> Iterator[TokenBatch]:
    """One epoch but its first `skip` batches, in an order drawn from (seed, epoch).

    One batch [B, ...] for all where the seeds are the same, else one for each [C, B, ...].
    """
    rows = meshes.rows_of(mesh, settings.batch_size, settings.accumulate)

    def of(seed: int) -> Iterator[TokenBatch]:
        return batching.epoch(
            text.encoded, text.labels, settings.batch_size, config.data.buckets, seed, epoch, rows,
            skip,
        )  # fmt: skip

    if len(set(seeds)) == 1:
        return of(seeds[0])
    padded = [*seeds, *[seeds[0]] * (meshes.padded(len(seeds), mesh) - len(seeds))]
    together = zip(*(of(seed) for seed in padded), strict=True)
    return (jax.tree.map(lambda *leaves: np.stack(leaves), *batches) for batches in together)


def evaluation_batches(prepared: Prepared, mesh: Mesh) -> Iterator[TokenBatch]:
    """The evaluation text, by length."""
    text, config = prepared.evaluation, prepared.config
    size = config.tracking.batch_size
    return batching.epoch(
        text.encoded, text.labels, size, config.data.buckets, None, 0, meshes.rows_of(mesh, size)
    )


def concept_batches(prepared: Prepared, mesh: Mesh) -> Iterator[WordBatch]:
    """The concept text, by length."""
    config = prepared.config
    return batching.word_batches(
        prepared.concept_text,
        prepared.concepts,
        config.tracking.batch_size,
        config.data.buckets,
        config.concepts.drop_unmappable,
        meshes.rows_of(mesh, config.tracking.batch_size),
    )


def steps(text: Text, settings: Training, config: Config) -> int:
    """Steps of one epoch."""
    return batching.batches_per_epoch(text.encoded, settings.batch_size, config.data.buckets)


def summary(prepared: Prepared) -> str:
    """What `--dry-run` prints and every run shows before it starts."""
    config, model = prepared.config, prepared.model
    rows, channels = prepared.shape
    again = loading.retraining(config)
    base = steps(prepared.train, config.training, config) * config.training.epochs
    members, kinds = sets.product(config), sets.groups(config)
    per_set = {
        target: config.retrain.rounds * again.epochs * steps(text, again, config)
        for target, text in prepared.retrain.items()
    }
    total = len(config.seeds) * base + sum(per_set[one.group.target] for one in members)
    first = kinds[0]
    share = len(prepared.retrain[first.target].corpus.words) / len(prepared.train.corpus.words)
    effective = config.training.epochs + config.retrain.rounds * again.epochs * share
    data = prepared.concepts
    words = sum(len(k) for k in data.kind)
    counts = sum(member.sum(axis=0) for member in data.member)
    of_targets = ", ".join(f"{counts[data.names.index(t)]} of them {t}" for t in prepared.retrain)
    pruned = "; ".join(
        f"{sets.group_name(group)}: {requested(config, group, prepared.shape)}" for group in kinds
    )
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
        f"{of_targets}",
        f"  neurons      {rows} x {channels} = {rows * channels}, to prune: {pruned} "
        f"({config.prune.target}, {config.prune.ranking})",
        f"  training     {config.training.epochs} epochs, {base} steps; "
        f"then for a set {config.retrain.rounds} rounds x {again.epochs} epochs, "
        f"{per_set[first.target]} steps; {effective:g} effective epochs of the training text",
        f"  concept sets {len(config.seeds)} seeds x {len(kinds)} x {len(config.arms)} arms "
        f"({', '.join(config.arms)}) = {len(members)}; {total} steps of one set",
    ]  # fmt: skip
    if config.expected_minutes:
        lines.append(f"  expected     about {config.expected_minutes:g} minutes on two CPU cores")
    return "\n".join(lines)
