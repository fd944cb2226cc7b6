"""Laws of batches: everything once, nothing twice, nothing lost in padding, few shapes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.data.alignment import Encoded, encode, tag_set, token_labels
from relearn_jax.data.batching import Rows, batches_per_epoch, epoch, word_batches
from relearn_jax.data.concepts import concept_data
from relearn_jax.data.corpus import make_corpus
from relearn_jax.data.readers.reading import read
from relearn_jax.errors import UserError

BUCKETS = (16, 32, 64, 128)
SIZE = 16


@pytest.fixture(scope="module")
def text(shared, minilm):
    """Real sentences, encoded, with labels and concepts."""
    source = config.Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-dev.iob2")
    corpus = read(source, shared)
    encoded = encode(minilm, corpus.words, 128)
    known = tag_set(corpus.tags)
    labels = [
        token_labels(word, tags, known, "inside")
        for word, tags in zip(encoded.word, corpus.tags, strict=True)
    ]
    return encoded, labels, concept_data(corpus, config.Concepts(sentences=None))


def made(lengths, pad=7):
    """Sentences of these lengths, each token with an id of its own."""
    ids = [np.arange(n, dtype=np.int32) + 1000 * i for i, n in enumerate(lengths)]
    word = tuple(np.arange(n, dtype=np.int32) for n in lengths)
    return Encoded(tuple(ids), word, tuple(lengths), pad), [row + 1 for row in ids]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_sentence_occurs_exactly_once(text, seed):
    encoded, labels, _ = text
    batches = list(epoch(encoded, labels, SIZE, BUCKETS, seed))
    number = 126 if seed is None else batches_per_epoch(encoded, SIZE, BUCKETS)
    assert len(batches) == number <= 126 + len(BUCKETS) - 1
    rows = np.concatenate([batch.row for batch in batches])
    assert sorted(rows[rows >= 0]) == list(range(len(labels)))
    assert (rows < 0).sum() == number * SIZE - len(labels)


def test_all_seeds_have_the_same_lengths_at_the_same_steps(text):
    encoded, labels, _ = text

    def widths(seed, number):
        batches = epoch(encoded, labels, SIZE, BUCKETS, seed, number)
        return [batch.labels.shape[1] for batch in batches]

    assert widths(0, 0) == widths(1, 0) == widths(99, 0)
    assert widths(0, 0) != widths(0, 1)


def test_an_epoch_is_taken_up_where_it_was_left(text):
    encoded, labels, _ = text
    whole = list(epoch(encoded, labels, SIZE, BUCKETS, 3, 1))
    rest = list(epoch(encoded, labels, SIZE, BUCKETS, 3, 1, skip=100))
    assert len(rest) == len(whole) - 100
    for a, b in zip(whole[100:], rest, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_parts_of_processes_make_the_batch(text):
    encoded, labels, _ = text
    padded = Rows(24)
    parts = [Rows(24, slice(0, 12)), Rows(24, slice(12, 24))]
    batches = [list(epoch(encoded, labels, SIZE, BUCKETS, 0, 0, rows)) for rows in (padded, *parts)]
    plain = list(epoch(encoded, labels, SIZE, BUCKETS, 0, 0))
    for whole, first, second, small in zip(*batches, plain, strict=True):
        joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
        jax.tree.map(np.testing.assert_array_equal, whole, joined)
        jax.tree.map(np.testing.assert_array_equal, small, jax.tree.map(lambda x: x[:16], whole))
        assert (whole.row[16:] == -1).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_batches_hold_the_sentences_and_mask_all_else(text, seed):
    encoded, labels, _ = text
    for batch in epoch(encoded, labels, SIZE, BUCKETS, seed):
        assert batch.inputs.ids.dtype == batch.labels.dtype == batch.row.dtype == np.int32
        assert batch.inputs.mask.dtype == bool
        for i, row in enumerate(batch.row):
            real = batch.inputs.mask[i]
            size = len(labels[row]) if row >= 0 else 0
            assert real.tolist() == (np.arange(real.size) < size).tolist()
            if row >= 0:
                np.testing.assert_array_equal(batch.inputs.ids[i][real], encoded.ids[row])
                np.testing.assert_array_equal(batch.labels[i][real], labels[row])
            assert (batch.inputs.ids[i][~real] == encoded.pad).all()
            assert (batch.labels[i][~real] == -100).all()


def test_padding_uses_the_tokenizers_id():
    encoded, labels = made([3, 0, 16], pad=7)
    (batch,) = epoch(encoded, labels, 4, (16,), None)
    assert batch.row.tolist() == [1, 0, 2, -1]
    assert set(batch.inputs.ids[~batch.inputs.mask].tolist()) == {7}
    assert batch.inputs.mask.sum(1).tolist() == [0, 3, 16, 0]


def test_each_batch_has_the_smallest_bucket_that_fits(text):
    encoded, labels, _ = text
    for batch in epoch(encoded, labels, SIZE, BUCKETS, 0):
        longest = batch.inputs.mask.sum(1).max()
        assert batch.inputs.ids.shape == (SIZE, min(b for b in BUCKETS if b >= longest))


def test_seed_and_epoch_alone_determine_the_order(text):
    encoded, labels, _ = text

    def order(seed, number):
        return [b.row.tolist() for b in epoch(encoded, labels, SIZE, BUCKETS, seed, number)]

    assert order(5, 2) == order(5, 2)
    assert len({str(order(seed, number)) for seed in (5, 6) for number in (2, 3)}) == 4


def test_the_shuffle_reaches_everywhere_and_saves_padding(text):
    encoded, labels, _ = text
    batches = list(epoch(encoded, labels, SIZE, BUCKETS, 0))
    first = np.concatenate([batch.row for batch in batches[:40]])
    assert abs(first[first >= 0].mean() / len(labels) - 0.5) < 0.1
    widths = np.array([batch.inputs.ids.shape[1] for batch in batches])
    assert (np.diff(widths) < 0).mean() > 0.1, "batches are not shuffled after the sort"
    rng = np.random.default_rng(0)
    lengths = np.array([len(row) for row in labels])[rng.permutation(len(labels))]
    plain = [BUCKETS[np.searchsorted(BUCKETS, lengths[i : i + SIZE].max())]
             for i in range(0, len(lengths), SIZE)]  # fmt: skip
    assert widths.sum() < 0.7 * sum(plain)


def test_sentences_meet_others_in_every_epoch():
    encoded, labels = made(range(1, 401))

    def partners(number):
        return {frozenset(b.row.tolist()) for b in epoch(encoded, labels, 2, (512,), 0, number)}

    assert len(partners(0) & partners(1)) < 20


def test_a_padding_row_does_not_widen_its_batch():
    # The partial batch holds one short sentence; the corpus's last sentence, which index -1 would
    # reach, is long.
    encoded, labels = made([3] * 100 + [30])
    for number in range(4):
        for batch in epoch(encoded, labels, 2, (4, 32), 0, number):
            assert batch.inputs.ids.shape[1] == (32 if 100 in batch.row else 4)


def test_evaluation_order_is_by_length_then_by_corpus():
    encoded, labels = made([5, 3, 5, 1, 3])
    (batch,) = epoch(encoded, labels, 5, (16,), None)
    assert batch.row.tolist() == [3, 1, 4, 0, 2]


def test_nothing_is_compiled_after_the_first_pass(text):
    encoded, labels, concepts = text
    step = jax.jit(lambda batch: jax.tree.map(lambda x: x.sum(), batch))
    for number in range(2):
        for batch in epoch(encoded, labels, SIZE, BUCKETS, 0, number):
            step(batch)
        assert step._cache_size() <= len(BUCKETS)
    before = step._cache_size()
    for batch in epoch(encoded, labels, SIZE, BUCKETS, 1, 0):
        step(batch)
    assert step._cache_size() == before
    count = jax.jit(lambda batch: jax.tree.map(lambda x: x.sum(), batch))
    for batch in word_batches(encoded, concepts, SIZE, BUCKETS):
        count(batch)
    assert count._cache_size() <= len(BUCKETS)


def test_batches_do_not_share_memory():
    encoded, labels = made([4] * 8)
    first, second = epoch(encoded, labels, 4, (16,), 0)
    assert not any(
        np.shares_memory(a, b) or np.shares_memory(a, encoded.ids[0])
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


def test_mistakes_of_the_caller_are_found_before_the_first_batch():
    encoded, labels = made([4, 20])
    with pytest.raises(ValueError, match="20 tokens"):
        epoch(encoded, labels, 4, (16,), 0)
    with pytest.raises(ValueError, match="differ in shape"):
        epoch(encoded, labels[:1], 4, (32,), 0)
    with pytest.raises(ValueError, match="batch_size"):
        epoch(encoded, labels, 0, (32,), 0)


def test_word_batches_hold_every_covered_word_once(text):
    encoded, _, concepts = text
    batches = list(word_batches(encoded, concepts, SIZE, BUCKETS))
    total = np.bincount(
        np.concatenate([b.kind[b.kind >= 0] for b in batches]), minlength=len(concepts.types)
    )
    expected = np.bincount(
        np.concatenate([k[:n] for k, n in zip(concepts.kind, encoded.covered, strict=True)]),
        minlength=len(concepts.types),
    )
    np.testing.assert_array_equal(total, expected)
    members = sum(b.member.sum((0, 1)) for b in batches)
    covered = [m[:n] for m, n in zip(concepts.member, encoded.covered, strict=True)]
    np.testing.assert_array_equal(members, np.concatenate(covered).sum(0))


def test_tokens_point_at_their_own_word(text, minilm):
    encoded, _, concepts = text
    types = np.array(concepts.types)
    for batch in list(word_batches(encoded, concepts, SIZE, BUCKETS))[::20]:
        assert batch.word.shape == batch.kind.shape == batch.member.shape[:2]
        assert (batch.word[~batch.inputs.mask] == -1).all()
        for i, t in zip(*np.nonzero(batch.word >= 0), strict=True):
            kind = batch.kind[i, batch.word[i, t]]
            inside = minilm(str(types[kind]), add_special_tokens=False)["input_ids"]
            assert batch.inputs.ids[i, t] in inside


@pytest.mark.parametrize("drop", [False, True])
def test_words_without_a_token_are_kept_or_dropped_as_told(minilm, drop):
    words = (("a", "\x80", "b"), ("\x80",), ("c",))
    tags = (("O", "B-LOC", "O"), ("O",), ("B-LOC",))
    corpus = make_corpus(words, tags, "made", False)
    concepts = concept_data(corpus, config.Concepts())
    (batch,) = word_batches(encode(minilm, words, 16), concepts, 4, (16,), drop_unmappable=drop)
    # By length: the control character alone, then "c", then the sentence of three.
    gone = -1 if drop else 1
    assert batch.kind[:, :4].tolist() == [
        [gone, -1, -1, -1], [3, -1, -1, -1], [0, gone, 2, -1], [-1, -1, -1, -1],
    ]  # fmt: skip
    assert batch.member[2, :4].tolist() == [
        [False, True], [not drop, False], [False, True], [False, False],
    ]  # fmt: skip
    assert not (batch.word[0] >= 0).any()
    assert 1 not in batch.word[2]


def test_words_that_were_cut_off_do_not_count_as_empty(minilm):
    corpus = make_corpus([["Qaim"] * 5], [["B-LOC", "O", "O", "O", "O"]], "made", False)
    concepts = concept_data(corpus, config.Concepts())
    (batch,) = word_batches(encode(minilm, corpus.words, 7), concepts, 1, (16,))
    assert (batch.kind >= 0).sum() == 2
    assert batch.member.sum() == 2


def test_the_bucket_fits_words_as_well_as_tokens(minilm):
    corpus = make_corpus([["a"] + ["\x80"] * 20], [["B-LOC"] + ["O"] * 20], "made", False)
    concepts = concept_data(corpus, config.Concepts())
    encoded = encode(minilm, corpus.words, 16)
    (batch,) = word_batches(encoded, concepts, 1, (16, 32))
    assert batch.kind.shape == (1, 32)
    assert (batch.kind >= 0).sum() == 21
    with pytest.raises(UserError, match="sentence 1: 21 words"):
        word_batches(encoded, concepts, 1, (16,))


def test_concepts_of_another_text_are_refused(text):
    encoded, _, concepts = text
    short = Encoded(encoded.ids[:5], encoded.word[:5], encoded.covered[:5])
    with pytest.raises(ValueError, match="not those of the concept data"):
        word_batches(short, concepts, SIZE, BUCKETS)
