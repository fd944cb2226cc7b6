"""Concept labels of words, for which neurons are ranked.

Letters: W words of a sentence, Y concept labels.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relearn_jax import config
from relearn_jax.data.corpus import Corpus, Sentences, digest
from relearn_jax.data.readers.files import BLANK, locate, read_lines
from relearn_jax.data.readers.tags import entity_type
from relearn_jax.errors import UserError


@dataclass(frozen=True)
class ConceptData:
    """Sentences whose words have concept labels."""

    words: Sentences
    names: tuple[str, ...]
    """The Y labels; the last is `other`, for words of no tracked concept."""
    member: tuple[np.ndarray, ...]
    """bool [W, Y] each; a word may belong to several concepts."""
    types: tuple[str, ...]
    """Word types: exact strings, in the order of first occurrence."""
    kind: tuple[np.ndarray, ...]
    """int32 [W] each: index into `types`."""
    digest: str
    """SHA-256 (hex) of words, names and memberships."""


def concept_data(corpus: Corpus, settings: config.Concepts, base: Path = Path()) -> ConceptData:
    """The first `settings.sentences` sentences with the concepts of each word.

    Labels are entity types (`spans`, from IOB2 tags), the tags themselves (`words`; composite tags
    are split at `separator`), or come from `word_list` (`list`; exactly the words in the file, case
    included, belong to `target`). The tracked labels are those of `track` (in that order, with the
    target added if missing) or all that occur (sorted). A word without a tracked label is `other`.

    Raises UserError if the target, or a tracked concept, does not occur, if the target covers every
    word, or if a word list has no word of the text. A relative `word_list` starts at the folder
    `base`.
    """
    if settings.sentences is not None and settings.sentences < 1:
        raise UserError(f"`concepts.sentences: {settings.sentences}`: give a positive number.")
    words = corpus.words[: settings.sentences]
    keys, labels = _labels(corpus, settings, base)
    names = _names(keys[: settings.sentences], labels, settings, corpus)
    rows = {key: _membership(concepts, names) for key, concepts in labels.items()}
    member = tuple(np.array([rows[key] for key in sentence]) for sentence in keys[: len(words)])
    _check_contrast(member, names, settings.target)
    index: dict[str, int] = {}
    kind = tuple(
        np.array([index.setdefault(word, len(index)) for word in sentence], np.int32)
        for sentence in words
    )
    return ConceptData(
        words=words,
        names=names,
        member=member,
        types=tuple(index),
        kind=kind,
        digest=digest(words, names, [rows_.astype(int).tolist() for rows_ in member]),
    )


def _labels(
    corpus: Corpus, settings: config.Concepts, base: Path
) -> tuple[Sentences, dict[str, frozenset[str]]]:
    """The key of each word (its tag, or the word itself), and the concepts of each key."""
    if settings.labels == "list":
        listed = _read_list(settings, base)
        target = frozenset((settings.target,))
        no_concept = frozenset()
        concepts = {
            word: target if word in listed else no_concept for word in _distinct(corpus.words)
        }
        _check_list(concepts, listed, settings)
        return corpus.words, concepts
    concepts_of = _type_of if settings.labels == "spans" else _parts_of
    concepts = {tag: concepts_of(tag, settings) for tag in _distinct(corpus.tags)}
    return corpus.tags, concepts


def _distinct(sentences: Sentences) -> tuple[str, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(sentences)))


def _type_of(tag: str, settings: config.Concepts) -> frozenset[str]:
    try:
        kind = entity_type(tag)
    except ValueError:
        raise UserError(
            f"concepts.data: tag {tag!r} is not an entity tag (O, B-TYPE, I-TYPE). To use labels "
            "unchanged, set `concepts.labels: words`."
        ) from None
    return frozenset((kind,)) - {None, settings.other}


def _parts_of(tag: str, settings: config.Concepts) -> frozenset[str]:
    parts = tag.split(settings.separator) if settings.separator else [tag]
    return frozenset(part.strip() for part in parts) - {"", settings.other}


def _read_list(settings: config.Concepts, base: Path) -> frozenset[str]:
    path = locate(settings.word_list, base, "concepts.word_list")
    return frozenset(word for line in read_lines(path) if (word := line.strip(BLANK)))


def _check_list(
    concepts: dict[str, frozenset[str]], listed: frozenset[str], settings: config.Concepts
) -> None:
    if any(concepts.values()):
        return
    folded = {word.casefold() for word in listed}
    ignoring_case = sum(word.casefold() in folded for word in concepts)
    hint = f" Words are compared with their case; ignoring it, {ignoring_case} would match." * bool(
        ignoring_case
    )
    raise UserError(
        f"`concepts.word_list: {settings.word_list}`: none of its {len(listed)} words occurs in "
        f"the concept text ({len(concepts)} different words).{hint} List single words, one a line."
    )


def _names(
    keys: Sentences,
    labels: dict[str, frozenset[str]],
    settings: config.Concepts,
    corpus: Corpus,
) -> tuple[str, ...]:
    """Names of the tracked labels, `other` last."""
    if settings.other in (settings.target, *settings.track):
        raise UserError(
            f"`concepts.other: {settings.other}` is the label of words without a concept, so it "
            "can be neither the target nor tracked."
        )
    present = sorted(_union(labels[key] for key in _distinct(keys)))
    for name in (settings.target, *settings.track):
        if name not in present:
            raise UserError(_missing(name, present, labels, settings, corpus))
    if settings.track:
        return (*dict.fromkeys((*settings.track, settings.target)), settings.other)
    return (*present, settings.other)


def _missing(
    name: str,
    present: Sequence[str],
    labels: dict[str, frozenset[str]],
    settings: config.Concepts,
    corpus: Corpus,
) -> str:
    """An error message for a concept without words, with the probable cause."""
    if name in _union(labels.values()):
        return (
            f"concept {name!r} is empty: it does not occur in the first {settings.sentences} "
            f"sentences of the concept text, only later. Raise `concepts.sentences`."
        )
    similar = difflib.get_close_matches(name, present, n=3, cutoff=0.5)
    suggestion = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    shown = ", ".join(present[:20]) + (", ..." if len(present) > 20 else "")
    hint = ""
    if settings.labels == "words" and any(label[:2] in ("B-", "I-") for label in present):
        hint = " These are entity tags: set `concepts.labels: spans`."
    return (
        f"concept {name!r} is empty: no word of the concept text ({corpus.source}) has it. It has: "
        f"{shown or 'no concept at all'}.{suggestion}{hint}"
    )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _membership(labels: frozenset[str], names: Sequence[str]) -> np.ndarray:
    """The tracked labels of one key, bool [Y]; `other` if there is none."""
    row = [name in labels for name in names[:-1]]
    return np.array([*row, not any(row)])


def _check_contrast(member: Sequence[np.ndarray], names: Sequence[str], target: str) -> None:
    index = names.index(target)
    if all(rows[:, index].all() for rows in member):
        raise UserError(
            f"concept {target!r} covers every word of the concept text, so there is nothing to "
            "compare it with. Add text with other words, or check `concepts.labels`."
        )
