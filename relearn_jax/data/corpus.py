"""A corpus, which all readers return: sentences of words, each word with a tag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from relearn_jax.errors import UserError

Sentences = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Corpus:
    """Annotated sentences; `words` and `tags` have the same shape."""

    words: Sentences
    tags: Sentences
    """IOB2 (`B-LOC`, `I-LOC`, `O`), or plain concept labels from a word file and a label file."""
    source: str
    """A description in one line."""
    generated: bool
    """Whether the text is from the built-in generator."""
    digest: str
    """SHA-256 (hex) of words and tags."""


def make_corpus(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], source: str, generated: bool
) -> Corpus:
    """A Corpus with its digest.

    Raises UserError if there is no sentence, and ValueError if words and tags differ in shape
    (readers check this first and report line numbers).
    """
    words, tags = tuple(map(tuple, words)), tuple(map(tuple, tags))
    if not words:
        raise UserError(f"{source}: there is no sentence in it.")
    if tuple(map(len, words)) != tuple(map(len, tags)):
        raise ValueError(f"{source}: words and tags differ in shape")
    return Corpus(words, tags, source, generated, digest(words, tags))


def digest(*parts: object) -> str:
    """SHA-256 (hex) of nested sequences of strings and numbers, in an unambiguous encoding."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
