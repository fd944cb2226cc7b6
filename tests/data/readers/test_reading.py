"""One entry for all kinds of sources."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import pytest

import relearn_jax.data
from relearn_jax.config import Source
from relearn_jax.data.readers.reading import draw, read
from relearn_jax.errors import UserError

DEV = Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-dev.iob2")


def test_a_limit_draws_a_seeded_subset_in_corpus_order(shared):
    whole = read(DEV, shared)
    some = read(replace(DEV, limit=50, limit_seed=3), shared)
    assert len(some.words) == 50
    at = iter(zip(whole.words, whole.tags, strict=True))
    assert all(pair in at for pair in zip(some.words, some.tags, strict=True))
    assert some == read(replace(DEV, limit=50, limit_seed=3), shared)
    assert some.words != read(replace(DEV, limit=50, limit_seed=4), shared).words
    assert read(replace(DEV, limit=10**6), shared).digest == whole.digest
    assert "50 of 2001 sentences, drawn with seed 3" in some.source


def test_a_draw_has_no_sentence_twice():
    kept = draw(100, 99, 0)
    assert len(set(kept.tolist())) == 99
    assert draw(5, None, 0).tolist() == draw(5, 5, 0).tolist() == [0, 1, 2, 3, 4]


def test_the_digest_depends_on_words_and_tags_and_on_nothing_else(tmp_path):
    def digest(name, text):
        (tmp_path / name).write_text(text)
        source = Source(kind="conll", path=name, word_column="0", tag_column="1")
        return read(source, tmp_path).digest

    first = digest("a", "x B-L\ny O\n")
    assert digest("b", "# other file\nx\tI-L\ny\tO\n\n") == first
    assert digest("a", "x O\ny O\n") != first
    assert digest("a", "z B-L\ny O\n") != first
    assert digest("a", "x B-L\n\ny O\n") != first


def test_the_source_line_names_the_map_and_no_folder(shared):
    corpus = read(replace(DEV, tag_map={"ORG": "O"}), shared)
    assert corpus.source == f"{DEV.path}: 2001 sentences; tags read ORG as O"
    assert not corpus.generated
    assert not any("ORG" in tag for sentence in corpus.tags for tag in sentence)


def test_the_world_is_asked_for_split_and_seed(tmp_path, monkeypatch):
    def generate(sentences, split, seed):
        return (((split,) * 2,) * sentences, (("B-X", f"I-{'XY'[seed % 2]}"),) * sentences)

    world = types.SimpleNamespace(generate=generate)
    monkeypatch.setitem(sys.modules, "relearn_jax.data.world", world)
    monkeypatch.setattr(relearn_jax.data, "world", world, raising=False)
    corpus = read(Source(sentences=3, split="dev", limit_seed=1, tag_map={"Y": "O"}), tmp_path)
    assert corpus.words == (("dev", "dev"),) * 3
    assert corpus.tags == (("B-X", "O"),) * 3
    assert corpus.generated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 0}, "limit: 0"),
        ({"tag_map": {"LOC": ""}}, "tag_map"),
        ({"kind": "world", "sentences": 0}, "sentences: 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read(replace(DEV, **change), tmp_path)
