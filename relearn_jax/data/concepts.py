"""Which words belong to which concept: the labels that neurons are ranked for.

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
    """The Y labels; the last is `other`: words of no concept that is followed."""
    member: tuple[np.ndarray, ...]
    """bool [W, Y] each; a word may belong to several concepts."""
    types: tuple[str, ...]
    """Word types: exact strings, in the order in which they occur first."""
    kind: tuple[np.ndarray, ...]
    """int32 [W] each: index into `types`."""
    digest: str
    """SHA-256 (hex) of words, names and memberships."""


def concept_data(corpus: Corpus, settings: config.Concepts, base: Path = Path()) -> ConceptData:
    """The first `settings.sentences` sentences with the concepts of each word.

    Labels come from entity types (`spans`, IOB2 tags), from the tags as they stand (`words`,
    composite ones split at `separator`), or from `word_list` (`list`; words that are in the file
    exactly, case and all, belong to `target`). The labels followed are those of `track` (in that
    order, the target added if it is not among them) or all that occur (sorted). A word that
    belongs to none of them is `other`.

    Raises UserError if the target, or a tracked concept, does not occur, if the target covers every
    word, or if a word list has no word of the text. `base` is the folder where a relative
    `word_list` starts.
    """
    if settings.sentences is not None and settings.sentences < 1:
        raise UserError(f"`concepts.sentences: {settings.sentences}`: give a positive number.")
    words = corpus.words[: settings.sentences]
    keys, labels = _labels(corpus, settings, base)
    names = _names(keys[: settings.sentences], labels, settings, corpus)
    rows = {key: _membership(found, names) for key, found in labels.items()}
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
    """What a word's concepts depend on (its tag, or itself), and the concepts of each such key."""
    if settings.labels == "list":
        listed = _read_list(settings, base)
        target = frozenset((settings.target,))
        none = frozenset()
        found = {word: target if word in listed else none for word in _distinct(corpus.words)}
        _check_list(found, listed, settings)
        return corpus.words, found
    of_tag = _type_of if settings.labels == "spans" else _parts_of
    found = {tag: of_tag(tag, settings) for tag in _distinct(corpus.tags)}
    return corpus.tags, found


def _distinct(sentences: Sentences) -> tuple[str, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(sentences)))


def _type_of(tag: str, settings: config.Concepts) -> frozenset[str]:
    try:
        kind = entity_type(tag)
    except ValueError:
        raise UserError(
            f"concepts.data: tag {tag!r} is not an entity tag (O, B-TYPE, I-TYPE). For labels that "
            "are to be taken as they stand, set `concepts.labels: words`."
        ) from None
    return frozenset((kind,)) - {None, settings.other}


def _parts_of(tag: str, settings: config.Concepts) -> frozenset[str]:
    parts = tag.split(settings.separator) if settings.separator else [tag]
    return frozenset(part.strip() for part in parts) - {"", settings.other}


def _read_list(settings: config.Concepts, base: Path) -> frozenset[str]:
    path = locate(settings.word_list, base, "concepts.word_list")
    return frozenset(word for line in read_lines(path) if (word := line.strip(BLANK)))


def _check_list(
    found: dict[str, frozenset[str]], listed: frozenset[str], settings: config.Concepts
) -> None:
    if any(found.values()):
        return
    folded = {word.casefold() for word in listed}
    almost = sum(word.casefold() in folded for word in found)
    hint = f" Words are compared with their case; ignoring it, {almost} would match." * bool(almost)
    raise UserError(
        f"`concepts.word_list: {settings.word_list}`: none of its {len(listed)} words occurs in "
        f"the concept text ({len(found)} different words).{hint} List single words, one a line."
    )


def _names(
    keys: Sentences,
    labels: dict[str, frozenset[str]],
    settings: config.Concepts,
    corpus: Corpus,
) -> tuple[str, ...]:
    """Names of the labels that are followed, `other` last."""
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
    """Why there is no word of a concept, as far as that can be told."""
    if name in _union(labels.values()):
        return (
            f"concept {name!r} is empty: it does not occur in the first {settings.sentences} "
            f"sentences of the concept text, only later. Raise `concepts.sentences`."
        )
    near = difflib.get_close_matches(name, present, n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    shown = ", ".join(present[:20]) + (", ..." if len(present) > 20 else "")
    hint = ""
    if settings.labels == "words" and any(label[:2] in ("B-", "I-") for label in present):
        hint = " These are entity tags: set `concepts.labels: spans`."
    return (
        f"concept {name!r} is empty: no word of the concept text ({corpus.source}) has it. It has: "
        f"{shown or 'no concept at all'}.{meant}{hint}"
    )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _membership(labels: frozenset[str], names: Sequence[str]) -> np.ndarray:
    """bool [Y]: the followed labels of one key; `other` if there is none."""
    row = [name in labels for name in names[:-1]]
    return np.array([*row, not any(row)])


def _check_contrast(member: Sequence[np.ndarray], names: Sequence[str], target: str) -> None:
    at = names.index(target)
    if all(rows[:, at].all() for rows in member):
        raise UserError(
            f"concept {target!r} covers every word of the concept text, so there is nothing to "
            "compare it with. Add text with other words, or check `concepts.labels`."
        )
