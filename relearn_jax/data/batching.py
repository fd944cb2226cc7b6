"""Batches of fixed shapes: sentences of similar length, padded to the length of a bucket.

Letters: B rows of a batch, T tokens (a bucket's length), Y concept labels, N sentences. Every batch
has exactly B rows and the length of a bucket, so a jitted function is compiled once per bucket.
Padding rows in the last batch are masked at all positions, and have row -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from relearn_jax.data.alignment import IGNORED, Encoded, first_subwords
from relearn_jax.data.concepts import ConceptData
from relearn_jax.errors import UserError
from relearn_jax.models.inputs import Inputs


class TokenBatch(NamedTuple):
    """Sentences with token labels."""

    inputs: Inputs
    labels: Int[np.ndarray, "B T"]
    """int32; IGNORED (-100) for tokens without a label."""
    row: Int[np.ndarray, " B"]
    """int32: index of the sentence in the corpus, -1 for a padding row."""


class WordBatch(NamedTuple):
    """Sentences with concept labels of words; the word axis has the length of the token axis."""

    inputs: Inputs
    word: Int[np.ndarray, "B T"]
    """int32: index of the token's word, -1 for none."""
    kind: Int[np.ndarray, "B T"]
    """int32 [B, words]: word-type id, -1 for no word."""
    member: Bool[np.ndarray, "B T Y"]
    """[B, words, Y]: whether the word belongs to a concept."""


class Rows(NamedTuple):
    """The rows of every batch to make, for several devices and several processes."""

    total: int | None = None
    """Number of rows, at least the batch size; further rows are padding. None: the batch size."""
    own: slice = slice(None)
    """The rows that this process makes."""


class _Flat(NamedTuple):
    """Rows of different lengths in one array, so that a batch is a single gather."""

    values: np.ndarray
    start: np.ndarray
    length: np.ndarray


def batches_per_epoch(encoded: Encoded, batch_size: int, buckets: Sequence[int]) -> int:
    """Number of batches of a shuffled `epoch`; each bucket's last batch may have padding rows."""
    sizes = np.array(sorted(buckets))
    counts = np.bincount(np.searchsorted(sizes, _lengths(encoded.ids)))
    return int((-(-counts // batch_size)).sum())


def epoch(
    encoded: Encoded,
    labels: Sequence[Int[np.ndarray, " T"]],
    batch_size: int,
    buckets: Sequence[int],
    seed: int | None,
    epoch: int = 0,
    rows: Rows = Rows(),  # noqa: B008 (immutable)
    skip: int = 0,
) -> Iterator[TokenBatch]:
    """Batches with every sentence once, without the first `skip` batches, in random order.

    The sentences of each bucket are shuffled by (seed, epoch) and cut into batches; the order of
    buckets is drawn from `epoch` only. So the batches of all seeds have the same lengths at the
    same steps, and models with different seeds can be trained side by side. `seed=None` sorts by
    length instead (corpus order among equals), for evaluation.

    Raises ValueError if a sentence is longer than the largest bucket.
    """
    lengths = _lengths(encoded.ids)
    if not np.array_equal(lengths, _lengths(labels)):
        raise ValueError("labels and ids differ in shape")
    buckets = _checked(buckets, lengths, batch_size)
    if seed is None:
        plan = _sorted(lengths, batch_size)
    else:
        plan = _shuffled(np.searchsorted(buckets, lengths), batch_size, seed, epoch)
    ids, marks = _flat(encoded.ids), _flat(labels)

    def batch(row: np.ndarray) -> TokenBatch:
        width, row = _width(lengths, row, buckets), _taken(row, rows)
        return TokenBatch(
            _inputs(ids, row, width, encoded.pad), _padded(marks, row, width, IGNORED)[0], row
        )

    return map(batch, plan[skip:])


def word_batches(
    encoded: Encoded,
    concepts: ConceptData,
    batch_size: int,
    buckets: Sequence[int],
    drop_unmappable: bool = False,
    rows: Rows = Rows(),  # noqa: B008 (immutable)
) -> Iterator[WordBatch]:
    """Batches with every sentence once, by length (corpus order among equals), with word concepts.

    Truncated words are left out (kind -1, member False). Words without a token are kept, unless
    `drop_unmappable`.

    Raises ValueError if a sentence has more tokens than the largest bucket, UserError if it has
    more words (possible only if many words have no token).
    """
    tokens = _lengths(encoded.ids)
    covered = np.array(encoded.covered, np.int64)
    buckets = _checked(buckets, tokens, batch_size)
    if covered.max(initial=0) > buckets[-1]:
        longest = int(covered.argmax())
        raise UserError(
            f"concept text, sentence {longest + 1}: {covered[longest]} words, more than the "
            f"largest of `data.buckets` ({buckets[-1]}), most of them unknown to the tokenizer. "
            "Add a bucket or leave the sentence out."
        )
    needed = np.maximum(tokens, covered)
    ids, word = _flat(encoded.ids), _flat(encoded.word)
    kind, member = _words(encoded, concepts, covered, drop_unmappable)

    def batch(row: np.ndarray) -> WordBatch:
        width, row = _width(needed, row, buckets), _taken(row, rows)
        return WordBatch(
            _inputs(ids, row, width, encoded.pad),
            _padded(word, row, width, -1)[0],
            _padded(kind, row, width, -1)[0],
            _padded(member, row, width, False)[0],
        )

    return map(batch, _sorted(needed, batch_size))


def _words(
    encoded: Encoded, concepts: ConceptData, covered: np.ndarray, drop_unmappable: bool
) -> tuple[_Flat, _Flat]:
    """Kinds and memberships of the counted words; other words have kind -1 and no membership."""
    kind, member = _flat(concepts.kind), _flat(concepts.member)
    if not np.array_equal(kind.length, [len(sentence) for sentence in concepts.words]) or len(
        covered
    ) != len(kind.length):
        raise ValueError("the encoded sentences are not those of the concept data")
    position = np.arange(kind.length.sum()) - np.repeat(kind.start, kind.length)
    counted = position < np.repeat(covered, kind.length)
    if drop_unmappable:
        index = _flat(encoded.word)
        first = first_subwords(index.values[:-1])
        sentence = np.repeat(np.arange(len(covered)), index.length)
        has_token = np.zeros_like(counted)
        has_token[kind.start[sentence[first]] + index.values[:-1][first]] = True
        counted &= has_token
    counted = np.append(counted, False)
    return (
        kind._replace(values=np.where(counted, kind.values, -1).astype(np.int32)),
        member._replace(values=member.values & counted[:, None]),
    )


def _checked(buckets: Sequence[int], lengths: np.ndarray, batch_size: int) -> np.ndarray:
    if batch_size < 1 or not len(buckets):
        raise ValueError("batch_size must be positive, and there must be a bucket")
    sizes = np.array(sorted(buckets))
    if lengths.max(initial=0) > sizes[-1]:
        raise ValueError(f"a sentence of {lengths.max()} tokens exceeds the buckets {sizes}")
    return sizes


def _sorted(lengths: np.ndarray, batch_size: int) -> Int[np.ndarray, "batches B"]:
    """Batches of sentences in the order of their lengths."""
    return _cut(np.argsort(lengths, kind="stable"), batch_size)


def _shuffled(
    bucket: np.ndarray, batch_size: int, seed: int, epoch: int
) -> Int[np.ndarray, "batches B"]:
    """Batches of sentences of one bucket each."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(bucket))
    parts = [_cut(order[bucket[order] == b], batch_size) for b in np.unique(bucket)]
    bucket_order = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    bucket_order = np.random.default_rng(epoch).permutation(bucket_order)
    plan = np.empty((len(bucket_order), batch_size), np.int32)
    for b, part in enumerate(parts):
        plan[bucket_order == b] = rng.permutation(part)
    return plan


def _cut(order: np.ndarray, batch_size: int) -> Int[np.ndarray, "batches B"]:
    """Cut sentences into batches; the last batch is padded with -1."""
    plan = np.full((-(-len(order) // batch_size), batch_size), -1, np.int32)
    plan.reshape(-1)[: len(order)] = order
    return plan


def _taken(row: np.ndarray, rows: Rows) -> np.ndarray:
    """The rows of a batch that this process makes, padded with -1."""
    padding = (rows.total or len(row)) - len(row)
    return np.pad(row, (0, padding), constant_values=-1)[rows.own]


def _lengths(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int64)


def _width(lengths: np.ndarray, row: np.ndarray, buckets: np.ndarray) -> int:
    return int(buckets[np.searchsorted(buckets, lengths[row[row >= 0]].max(initial=0))])


def _flat(rows: Sequence[np.ndarray]) -> _Flat:
    """Concatenate rows, with one more item at the end, so that a gather never is out of range."""
    length = _lengths(rows)
    values = np.concatenate([*rows, np.zeros((1, *rows[0].shape[1:]), rows[0].dtype)])
    return _Flat(values, np.cumsum(length) - length, length)


def _padded(
    flat: _Flat, row: np.ndarray, width: int, fill: object
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `flat` as [B, width, ...] padded with `fill`, and which entries are real.

    The array is new in each call: jax may use a NumPy array's memory, so a reused buffer would
    change batches on their way to the device.
    """
    column = np.arange(width)
    real = (column < flat.length[row][:, None]) & (row >= 0)[:, None]
    values = flat.values[np.where(real, flat.start[row][:, None] + column, 0)]
    real_values = real.reshape(*real.shape, *[1] * (values.ndim - 2))
    return np.where(real_values, values, values.dtype.type(fill)), real


def _inputs(ids: _Flat, row: np.ndarray, width: int, pad: int) -> Inputs:
    return Inputs(*_padded(ids, row, width, pad))
