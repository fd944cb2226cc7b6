"""Laws of the tag schemes."""

from __future__ import annotations

import itertools

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from relearn_jax.data.readers.tags import check_map, entity_type, iob2, is_scheme, problem
from relearn_jax.errors import UserError

_TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_normalising_keeps_the_entities_that_seqeval_sees(length):
    for tags in itertools.product(_TAGS, repeat=length):
        assert get_entities(list(iob2(tags, {}))) == get_entities(list(tags))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_normalising_twice_is_normalising_once_and_gives_valid_iob2(length):
    for tags in itertools.product(_TAGS, repeat=length):
        once = iob2(tags, {})
        assert iob2(once, {}) == once
        for before, tag in itertools.pairwise(("O", *once)):
            assert tag[0] != "I" or before[2:] == tag[2:]


def test_iob1_and_io_become_iob2():
    assert iob2(["I-X", "I-X", "B-X", "O", "I-Y", "I-X"], {}) == (
        "B-X", "I-X", "B-X", "O", "B-Y", "B-X",
    )  # fmt: skip
    assert iob2(["X", "X", "O", "Y"], {"X": "X", "Y": "Y"}) == ("B-X", "I-X", "O", "B-Y")


def test_renaming_keeps_neighbours_apart_and_o_drops():
    assert iob2(["B-X", "I-X", "I-Y"], {"X": "Z", "Y": "Z"}) == ("B-Z", "I-Z", "B-Z")
    assert iob2(["B-X", "I-X", "I-Y"], {"X": "O"}) == ("O", "O", "B-Y")


def test_a_type_literally_named_o_can_be_dropped_or_renamed():
    assert iob2(["B-O", "O", "I-O", "I-O"], {"O": "O"}) == ("O", "O", "O", "O")
    assert iob2(["B-O", "O", "I-O", "I-O"], {"O": "MISC"}) == ("B-MISC", "O", "B-MISC", "I-MISC")
    assert "tag_map: {O: O}" in problem("B-O", {})
    assert problem("B-O", {"O": "O"}) is None


def test_malformed_tags_have_a_problem_and_bare_types_need_the_map():
    for tag in ("LOC", "B-", "b-LOC", "S-LOC", "", "-", "_"):
        assert "malformed" in problem(tag, {})
    assert problem("LOC", {"LOC": "LOC"}) is None
    assert problem("B-creative-work", {}) is None
    assert entity_type("I-creative-work") == "creative-work"
    with pytest.raises(ValueError, match="malformed"):
        entity_type("N/A")


def test_schemes_are_told_from_plain_labels():
    assert is_scheme([["O", "B-X"]])
    assert not is_scheme([["O", "N/A"]])
    assert not is_scheme([["O"]])


def test_a_map_to_nothing_is_refused():
    with pytest.raises(UserError, match="tag_map"):
        check_map({"X": ""})
