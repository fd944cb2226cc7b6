"""The annotated texts of a relearning run, encoded for the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relearn_jax.config import Data, Relearning, Retrained, Training
from relearn_jax.data import alignment, batching
from relearn_jax.data.alignment import IGNORED, Encoded
from relearn_jax.data.concepts import ConceptData
from relearn_jax.data.corpus import Corpus, make_corpus
from relearn_jax.data.readers import reading
from relearn_jax.errors import UserError
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Text:
    """A corpus encoded for the model."""

    corpus: Corpus
    encoded: Encoded
    labels: tuple[np.ndarray, ...]
    """Label ids of the tokens of each sentence; -100 for tokens without a label."""


TextKey = tuple[str, Retrained | int, int | None]
"""Target, retraining text, and the seed that draws it, if it is drawn."""


@dataclass(frozen=True)
class Texts:
    """The texts of the task."""

    train: Text
    evaluation: Text
    retrain: Mapping[TextKey, Text]
    """The retraining texts; `retraining` finds that of a set."""
    dose: Text
    """The part of the evaluation text that dose curves are scored on."""
    choice: Text | None = None
    """The text that `prune.fraction: auto` is chosen by; None without it."""


def read_task(data: Data, base: Path) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The training text, the evaluation text and the tags; relative paths start at `base`.

    Raises:
      UserError: the texts are the same, or the evaluation text has tags that the training text
        lacks.
    """
    train, evaluation = reading.read(data.train, base), reading.read(data.evaluation, base)
    same = repeated(train, evaluation)
    if same > len(evaluation.words) / 2:
        raise UserError(
            f"data.train and data.evaluation are the same text: {same} of the "
            f"{len(evaluation.words)} evaluation sentences stand in the training text"
        )
    tags = alignment.tag_set(train.tags)
    check_tags(evaluation, tags)
    return train, evaluation, tags


def encode(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    tags: tuple[str, ...],
    max_length: int,
    data: Data,
) -> Text:
    """Sub-word ids of a corpus and their labels."""
    encoded = alignment.encode(tokenizer, corpus.words, max_length)
    labels = tuple(
        alignment.token_labels(word, tags_of, tags, data.continuation)
        for word, tags_of in zip(encoded.word, corpus.tags, strict=True)
    )
    return Text(corpus, encoded, labels)


def spread(text: Text, most: int | None) -> Text:
    """At most this many sentences, spread evenly over a text; None: all."""
    total = len(text.corpus.words)
    if most is None or most >= total:
        return text
    rows = np.linspace(0, total - 1, most).round().astype(int)

    def of(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[row] for row in rows)

    corpus = text.corpus
    return Text(
        make_corpus(of(corpus.words), of(corpus.tags), corpus.source, corpus.generated),
        dataclasses.replace(
            text.encoded,
            ids=of(text.encoded.ids),
            word=of(text.encoded.word),
            covered=of(text.encoded.covered),
        ),
        of(text.labels),
    )


def key_of(config: Relearning, concept_set: ConceptSet) -> TextKey:
    """The key of a set's retraining text."""
    group = concept_set.group
    data = config.retrain.data if group.text is None else group.text
    return group.target, data, concept_set.seed if isinstance(data, int) else None


def retraining(config: Relearning, texts: Texts, concept_set: ConceptSet) -> Text:
    """The retraining text of a set."""
    return texts.retrain[key_of(config, concept_set)]


def retraining_settings(config: Relearning, text: Text) -> Training:
    """The training settings of a retraining round on a text."""
    settings, steps = config.retraining, config.retrain.steps
    if steps is None:
        return settings
    each = steps_per_epoch(text, settings.batch_size, config.data.buckets)
    return dataclasses.replace(settings, epochs=max(1, round(steps / each)))


def retraining_texts(
    config: Relearning,
    base: Path,
    train: Text,
    concepts: ConceptData,
    encoded: Callable[[Corpus], Text],
) -> dict[TextKey, Text]:
    """The retraining texts of all sets."""
    labels, cached = config.concepts.labels, {}

    def other() -> Text:
        text = encoded(reading.read(config.retrain.source, base))
        check_tags(text.corpus, alignment.tag_set(train.corpus.tags))
        return text

    texts: dict[TextKey, Text] = {}
    for key in dict.fromkeys(key_of(config, concept_set) for concept_set in sets.product(config)):
        target, data, seed = key
        if data == "full":
            texts[key] = train
        elif data == "other":
            texts[key] = cached["other"] = cached.get("other") or other()
        elif data == "without_concept":
            texts[key] = encoded(_without(train.corpus, concepts, target, labels))
        else:
            texts[key] = encoded(_few(train.corpus, concepts, target, labels, data, seed))
    return texts


def untaught(text: Text, target: str, tags: Sequence[str]) -> Text:
    """The text with no label on the target's words, for a model that never learns the target."""
    hidden = np.array([i for i, tag in enumerate(tags) if tag[2:] == target])
    labels = tuple(np.where(np.isin(row, hidden), IGNORED, row) for row in text.labels)
    return dataclasses.replace(text, labels=labels)


def _few(
    corpus: Corpus, concepts: ConceptData, target: str, labels: str, number: int, seed: int
) -> Corpus:
    """So many sentences with the target concept, drawn by a seed."""
    holds = _holds(concepts, target, labels)
    rows = [row for row in zip(corpus.words, corpus.tags, strict=True) if holds(*row)]
    if len(rows) < number:
        raise UserError(
            f"{number} sentences with {target} to retrain on: the training text has {len(rows)}"
        )
    chosen = np.random.default_rng((seed, number)).choice(len(rows), number, replace=False)
    words, tags = zip(*(rows[i] for i in sorted(chosen)), strict=True)
    source = f"{corpus.source}; {number} with {target}, drawn by seed {seed}"
    return make_corpus(words, tags, source, corpus.generated)


def _without(corpus: Corpus, concepts: ConceptData, target: str, labels: str) -> Corpus:
    """The sentences without the target concept."""
    holds = _holds(concepts, target, labels)
    rows = list(zip(corpus.words, corpus.tags, strict=True))
    remaining = [row for row in rows if not holds(*row)]
    if not remaining or len(remaining) == len(rows):
        which = "every sentence" if not remaining else "no sentence"
        raise UserError(f"retrain.data without_concept: {which} of the training text has {target}")
    words, tags = zip(*remaining, strict=True)
    source = f"{corpus.source}; the {len(remaining)} without {target}"
    return make_corpus(words, tags, source, corpus.generated)


def _holds(concepts: ConceptData, target: str, labels: str) -> Callable[..., bool]:
    """A function that tells whether a sentence has the target: by its tags for span labels, else by
    its words."""
    if labels == "spans":
        return lambda words, tags: any(tag[2:] == target for tag in tags)
    index = concepts.names.index(target)
    marked = {
        concepts.types[kind]
        for kinds, member in zip(concepts.kind, concepts.member, strict=True)
        for kind in kinds[member[:, index]]
    }
    return lambda words, tags: not marked.isdisjoint(words)


def repeated(train: Corpus, evaluation: Corpus) -> int:
    """Number of evaluation sentences that are also in the training text."""
    known = set(train.words)
    return sum(words in known for words in evaluation.words)


def check_tags(corpus: Corpus, tags: tuple[str, ...]) -> None:
    """Raise UserError if a text has tags that the tagger does not know."""
    unknown = set(alignment.tag_set(corpus.tags)) - set(tags)
    if unknown:
        raise UserError(
            f"{corpus.source}: tags that the training text never has: "
            f"{', '.join(sorted(unknown))}; rename them with tag_map (to O, to drop them)"
        )


def steps_per_epoch(text: Text, batch_size: int, buckets: Sequence[int]) -> int:
    """Number of steps of an epoch."""
    return batching.batches_per_epoch(text.encoded, batch_size, buckets)
