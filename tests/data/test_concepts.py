"""Concept labels from entity types, from labels as they stand, and from word lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from relearn_jax.config import Concepts, Source
from relearn_jax.data.concepts import concept_data
from relearn_jax.data.corpus import make_corpus
from relearn_jax.data.readers.reading import read
from relearn_jax.errors import UserError

WORDS = (("Paris", "saw", "Mary"), ("saw", "Acme"))
TAGS = (("B-LOC", "O", "B-PER"), ("O", "B-ORG"))


def corpus(words=WORDS, tags=TAGS):
    """A small text."""
    return make_corpus(words, tags, "made for the test", False)


def labels(data):
    """Names of each word's concepts."""
    return [
        [tuple(n for n, m in zip(data.names, row, strict=True) if m) for row in rows]
        for rows in data.member
    ]


def test_spans_give_entity_types_with_other_last():
    data = concept_data(corpus(), Concepts())
    assert data.names == ("LOC", "ORG", "PER", "O")
    assert labels(data) == [[("LOC",), ("O",), ("PER",)], [("O",), ("ORG",)]]
    assert data.member[0].dtype == bool


def test_word_types_are_exact_strings_in_order_of_first_occurrence():
    data = concept_data(corpus(words=(("b", "A", "a"), ("A", "b"))), Concepts())
    assert data.types == ("b", "A", "a")
    assert [kind.tolist() for kind in data.kind] == [[0, 1, 2], [1, 0]]
    assert data.kind[0].dtype == np.int32


def test_real_text_has_as_many_location_words_as_tags(shared):
    source = Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-dev.iob2")
    text = read(source, shared)
    data = concept_data(text, Concepts(sentences=None))
    counts = np.concatenate(data.member).sum(0)
    # B- and I- lines of the file, counted with grep and uniq.
    assert dict(zip(data.names, counts.tolist(), strict=True)) == {
        "LOC": 399 + 148, "ORG": 224 + 186, "PER": 343 + 196, "O": 23653,
    }  # fmt: skip
    kinds = Counter(np.concatenate(data.kind).tolist())
    words = Counter(word for sentence in text.words for word in sentence)
    assert {data.types[k]: n for k, n in kinds.items()} == words


def test_only_the_first_sentences_are_used():
    data = concept_data(corpus(), Concepts(sentences=1))
    assert data.words == WORDS[:1]
    assert data.names == ("LOC", "PER", "O")
    assert len(data.member) == len(data.kind) == 1


def test_tracking_some_makes_all_else_other():
    data = concept_data(corpus(), Concepts(track=("PER",)))
    assert data.names == ("PER", "LOC", "O")
    assert labels(data)[1] == [("O",), ("O",)]


def test_labels_as_they_stand_with_their_own_name_for_other():
    text = corpus(tags=(("SEM:loc", "N/A", "N/A"), ("N/A", "SEM:org")))
    data = concept_data(text, Concepts(labels="words", target="SEM:loc", other="N/A"))
    assert data.names == ("SEM:loc", "SEM:org", "N/A")
    assert labels(data)[0] == [("SEM:loc",), ("N/A",), ("N/A",)]


def test_composite_labels_are_split_by_membership():
    text = corpus(tags=(("origin,origin:america", "N/A", "origin,origin:asia"), ("N/A", "origin")))
    settings = Concepts(labels="words", target="origin:america", other="N/A", separator=",")
    data = concept_data(text, settings)
    assert data.names == ("origin", "origin:america", "origin:asia", "N/A")
    assert labels(data)[0] == [("origin", "origin:america"), ("N/A",), ("origin", "origin:asia")]
    whole = concept_data(text, Concepts(labels="words", target="origin", other="N/A"))
    assert labels(whole)[0][0] == ("origin,origin:america",)


def test_word_lists_match_exactly(tmp_path):
    (tmp_path / "list").write_text("Paris\nsaw \n\nmary\nnowhere\n")
    data = concept_data(corpus(), Concepts(labels="list", word_list="list"), tmp_path)
    assert data.names == ("LOC", "O")
    assert labels(data) == [[("LOC",), ("LOC",), ("O",)], [("LOC",), ("O",)]]


def test_real_city_list_finds_real_cities(shared):
    text = read(Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-dev.iob2"), shared)
    settings = Concepts(labels="list", word_list="data/concept-conceptx/CityList", target="city")
    data = concept_data(text, settings, shared)
    listed = set((shared / settings.word_list).read_text("utf-8").split("\n")) - {""}
    expected = sum(word in listed for sentence in text.words for word in sentence)
    assert np.concatenate(data.member)[:, 0].sum() == expected > 50


def test_the_digest_depends_on_words_and_labels():
    first = concept_data(corpus(), Concepts()).digest
    assert concept_data(corpus(), Concepts()).digest == first
    assert concept_data(corpus(), Concepts(track=("LOC",))).digest != first
    tags = (("B-LOC", "O", "B-PER"), ("O", "B-PER"))
    both = Concepts(track=("LOC", "PER"))
    assert concept_data(corpus(tags=tags), both).digest != concept_data(corpus(), both).digest
    assert concept_data(corpus(words=(("x", "saw", "Mary"), WORDS[1])), Concepts()).digest != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "LOX"}, "concept 'LOX' is empty.*LOC, ORG, PER.*Did you mean 'LOC'"),
        ({"track": ("PERS",)}, "concept 'PERS' is empty.*'PER'"),
        ({"target": "ORG", "sentences": 1}, "'ORG' is empty.*first 1 sentences.*Raise"),
        ({"target": "O"}, "`concepts.other: O`"),
        ({"track": ("O",)}, "`concepts.other: O`"),
        ({"labels": "words"}, "'LOC' is empty.*concepts.labels: spans"),
        ({"sentences": 0}, "sentences: 0"),
        ({"labels": "list"}, "word_list` is empty"),
    ],
)
def test_settings_that_select_nothing_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        concept_data(corpus(), Concepts(**settings))


def test_plain_labels_are_not_spans():
    with pytest.raises(UserError, match=r"'place'.*labels: words"):
        concept_data(corpus(tags=(("place", "O", "O"), ("O", "O"))), Concepts())


def test_a_text_without_any_concept_says_so():
    with pytest.raises(UserError, match="no concept at all"):
        concept_data(corpus(tags=(("O",) * 3, ("O",) * 2)), Concepts())


def test_a_concept_that_covers_every_word_is_refused():
    tags = (("B-LOC",) * 3, ("I-LOC",) * 2)
    with pytest.raises(UserError, match="'LOC' covers every word"):
        concept_data(corpus(tags=tags), Concepts())


def test_a_word_list_without_a_word_of_the_text_says_if_case_is_to_blame(tmp_path):
    (tmp_path / "list").write_text("paris\nSAW\n")
    settings = Concepts(labels="list", word_list="list")
    with pytest.raises(UserError, match=r"none of its 2 words.*ignoring it, 2 would match"):
        concept_data(corpus(), settings, tmp_path)
