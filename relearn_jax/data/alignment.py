"""Alignment of words and sub-words: encoding of sentences split into words, and token labels.

Letters: T tokens of one sentence (special tokens included, no padding), W its words, N sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int

from relearn_jax.data.readers.tags import OUTSIDE, entity_type
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
"""Label of tokens without a loss."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of N sentences, and the word of each token."""

    ids: tuple[np.ndarray, ...]
    """int32 [T] each, with special tokens."""
    word: tuple[np.ndarray, ...]
    """int32 [T] each: index of the word in its sentence, -1 for special tokens."""
    covered: tuple[int, ...]
    """Number of encoded words of each sentence: all, unless it was truncated at `max_length`. A
    covered word may still have no token, if the tokenizer yields nothing for it."""
    pad: int = 0
    """Id of padding in batches; always masked."""


def tag_set(tags: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All tags that a tagger of these IOB2 sentences needs: `O`, then B-X, I-X by type, sorted.

    Raises UserError for tags of another form (plain concept labels cannot train a tagger).
    """
    kinds = set()
    for tag in sorted({tag for sentence in tags for tag in sentence}):
        try:
            kinds.add(entity_type(tag))
        except ValueError:
            raise UserError(
                f"tag {tag!r} is neither O, B-TYPE nor I-TYPE: these are concept labels, which "
                "serve `concepts`, not entity tags, which `data.train` and `data.evaluation` need."
            ) from None
    kinds.discard(None)
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI"))


def encode(
    tokenizer: PreTrainedTokenizerFast, words: Sequence[Sequence[str]], max_length: int
) -> Encoded:
    """Token ids of sentences that are split into words, truncated at `max_length` tokens.

    `tokenizer` must be a fast one (`tokenizer.load_tokenizer`); `max_length` includes special
    tokens.
    """
    if max_length <= tokenizer.num_special_tokens_to_add():
        raise UserError(f"`max_length: {max_length}` leaves no room for words.")
    batch = tokenizer(
        [list(sentence) for sentence in words],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    word = tuple(_word_index(encoding.word_ids) for encoding in batch.encodings)
    covered = tuple(
        int(index.max(initial=-1)) + 1 if encoding.overflowing else len(sentence)
        for index, encoding, sentence in zip(word, batch.encodings, words, strict=True)
    )
    ids = tuple(np.asarray(row, np.int32) for row in batch["input_ids"])
    return Encoded(ids, word, covered, tokenizer.pad_token_id)


def _word_index(word_ids: Sequence[int | None]) -> np.ndarray:
    # As floats, NumPy turns None into NaN without a Python loop over tokens.
    return np.nan_to_num(np.array(word_ids, np.float64), nan=-1).astype(np.int32)


def first_subwords(word: Int[np.ndarray, " T"]) -> np.ndarray:
    """Whether a token is the first of its word, bool [T]. Words without a token have none."""
    return (word >= 0) & (np.diff(word, prepend=-1) != 0)


def token_labels(
    word: Int[np.ndarray, " T"],
    tags: Sequence[str],
    tags_known: Sequence[str],
    continuation: Literal["inside", "ignore"],
) -> Int[np.ndarray, " T"]:
    """Labels of a sentence's tokens, as indices into `tags_known` (see `tag_set`); int32.

    The first sub-word of a word has the word's tag. Later sub-words have the same tag with B-
    turned into I- (`inside`, as published, specs/relearning.md section 2.1), or no label
    (`ignore`). Tokens without a label, special tokens included, are IGNORED. Raises UserError for
    an unknown tag.
    """
    index = {tag: i for i, tag in enumerate(tags_known)}
    try:
        begin = np.array([index[tag] for tag in tags], np.int32)
        inside = np.array(
            [index["I" + tag[1:] if tag[0] == "B" else tag] for tag in tags], np.int32
        )
    except KeyError as error:
        raise UserError(
            f"tag {error.args[0]!r} does not occur in the training data (its tags: "
            f"{', '.join(tags_known)}). Rename or drop its type with `tag_map`."
        ) from None
    rest = inside[word] if continuation == "inside" else np.int32(IGNORED)
    labels = np.where(first_subwords(word), begin[word], rest)
    return np.where(word >= 0, labels, np.int32(IGNORED))


def word_labels(
    word: Int[np.ndarray, " T"], labels: Int[np.ndarray, " T"], words: int
) -> Int[np.ndarray, " W"]:
    """Labels of a sentence's `words` words, from the first sub-word of each.

    Words without a token (dropped by the tokenizer, or truncated) have no prediction and get 0,
    which is `O` in a `tag_set` (specs/relearning.md section 7, evaluator F1).
    """
    first = first_subwords(word)
    by_word = np.zeros(words, np.int32)
    by_word[word[first]] = labels[first]
    return by_word
