"""Words and sub-words: the published alignment, its alternative, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.config import Source
from relearn_jax.data.alignment import encode, first_subwords, tag_set, token_labels, word_labels
from relearn_jax.data.readers.reading import read
from relearn_jax.errors import UserError

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def dev(shared):
    """Real, human annotated text."""
    return read(Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-dev.iob2"), shared)


def test_tag_set_is_o_then_pairs_by_sorted_type():
    assert tag_set([["O", "I-PER"], ["B-LOC"]]) == TAGS
    assert tag_set([["O"]]) == ("O",)
    with pytest.raises(UserError, match=r"'N/A'.*concept labels"):
        tag_set([["N/A", "O"]])


@pytest.mark.parametrize(
    ("continuation", "expected"),
    [
        # [CLS] q ##ai ##m , new york ##er mo ##ham ##med [SEP], by hand
        ("inside", [-100, 1, 2, 2, 0, 1, 2, 3, 4, 4, -100]),
        ("ignore", [-100, 1, -100, -100, 0, 1, 2, 3, -100, -100, -100]),
    ],
)
def test_labels_of_sub_words_by_hand(continuation, expected):
    word = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 4, 4, -1], np.int32)
    tags = ["B-LOC", "O", "B-LOC", "I-LOC", "B-PER"]
    labels = token_labels(word, tags, TAGS, continuation)
    assert labels.tolist() == expected
    assert labels.dtype == np.int32


def test_word_indices_follow_the_tokenizer(minilm):
    encoded = encode(minilm, [["Don't", "\x80", "Qaim"]], 32)
    tokens = minilm.convert_ids_to_tokens(encoded.ids[0])
    assert tokens == ["[CLS]", "don", "'", "t", "q", "##ai", "##m", "[SEP]"]
    assert encoded.word[0].tolist() == [-1, 0, 0, 0, 2, 2, 2, -1]
    assert encoded.ids[0].dtype == encoded.word[0].dtype == np.int32


@pytest.mark.parametrize("name", ["minilm", "gpt2"])
@pytest.mark.parametrize("continuation", ["inside", "ignore"])
def test_real_labels_survive_the_round_trip(dev, name, continuation, request):
    encoded = encode(request.getfixturevalue(name), dev.words, 128)
    known = tag_set(dev.tags)
    for words, tags, word, covered in zip(
        dev.words, dev.tags, encoded.word, encoded.covered, strict=True
    ):
        labels = token_labels(word, tags, known, continuation)
        has_token = np.isin(np.arange(len(words)), word)
        back = tuple(known[i] for i in word_labels(word, labels, len(words)))
        assert back == tuple(t if h else "O" for t, h in zip(tags, has_token, strict=True))
        assert has_token[:covered].all()


@pytest.mark.parametrize("name", ["minilm", "gpt2"])
def test_the_sub_words_of_a_word_do_not_depend_on_the_sentence(dev, name, request):
    tokenizer = request.getfixturevalue(name)
    encoded = encode(tokenizer, dev.words[:100], 128)
    for words, ids, word in zip(dev.words[:100], encoded.ids, encoded.word, strict=True):
        for index, text in enumerate(words):
            alone = encode(tokenizer, [[text]], 128)
            assert ids[word == index].tolist() == alone.ids[0][alone.word[0] == 0].tolist()


def test_no_continuation_label_begins_an_entity(dev, minilm):
    encoded = encode(minilm, dev.words, 128)
    known = tag_set(dev.tags)
    for word, tags in zip(encoded.word, dev.tags, strict=True):
        labels = token_labels(word, tags, known, "inside")
        assert not any(known[i][0] == "B" for i in labels[(word >= 0) & ~first_subwords(word)])
        assert (labels[word < 0] == -100).all()


def test_long_sentences_are_cut_and_say_how_far_they_reach(minilm):
    encoded = encode(minilm, [["Qaim"] * 5, ["a", "\x80"], ["a", "b", "c", "d", "e", "\x80"]], 7)
    assert [len(ids) for ids in encoded.ids] == [7, 3, 7]
    assert encoded.ids[0][-1] == minilm.sep_token_id
    # "Qaim" is three sub-words: the second is cut in the middle. The last sentence just fits.
    assert encoded.covered == (2, 2, 6)
    assert list(word_labels(encoded.word[0], np.full(7, 1), 5)) == [1, 1, 0, 0, 0]


def test_a_sentence_of_nothing_has_no_labels(minilm, gpt2):
    for tokenizer, size in ((minilm, 2), (gpt2, 0)):
        word = encode(tokenizer, [["", ""]], 8).word[0]
        assert len(word) == size
        labels = token_labels(word, ["B-LOC", "O"], TAGS, "inside")
        assert (labels == -100).all()
        assert list(word_labels(word, labels, 2)) == [0, 0]


def test_an_unknown_tag_names_itself_and_the_remedy():
    with pytest.raises(UserError, match=r"'B-MISC'.*tag_map"):
        token_labels(np.array([0], np.int32), ["B-MISC"], TAGS, "inside")


def test_a_length_without_room_is_refused(minilm):
    with pytest.raises(UserError, match="max_length: 2"):
        encode(minilm, [["a"]], 2)
