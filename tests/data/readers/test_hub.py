"""Hugging Face datasets: a local one through the real library, and failures without a network."""

from __future__ import annotations

import datasets
import pytest

from relearn_jax.config import Source
from relearn_jax.data.readers.hub import read_hub
from relearn_jax.errors import UserError

NAMES = ["O", "B-LOC", "I-LOC"]


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A dataset with ClassLabel tags, as a folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")),
        ner_tags=datasets.List(datasets.ClassLabel(names=NAMES)),
        text_tags=datasets.List(datasets.Value("string")),
    )
    rows = {
        "tokens": [["New", "York"], ["ok"]],
        "ner_tags": [[1, 2], [0]],
        "text_tags": [["I-x", "O"], ["O"]],
    }
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "set" / "test.parquet")
    return tmp_path


def test_class_labels_become_names(local):
    words, tags = read_hub(Source(kind="hub", path="set", split="test"), local)
    assert words == (("New", "York"), ("ok",))
    assert tags == (("B-LOC", "I-LOC"), ("O",))


def test_string_tags_and_another_column(local):
    source = Source(
        kind="hub", path="set", split="test", tag_column="text_tags", tag_map={"x": "LOC"}
    )
    assert read_hub(source, local)[1] == (("B-LOC", "O"), ("O",))


def test_a_missing_column_or_split_lists_what_there_is(local):
    with pytest.raises(UserError, match="no column 'pos'; it has 'tokens', 'ner_tags'"):
        read_hub(Source(kind="hub", path="set", split="test", tag_column="pos"), local)
    with pytest.raises(UserError, match=r"split 'dev'.*test"):
        read_hub(Source(kind="hub", path="set", split="dev"), local)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'conll2003' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match=r"(?s)'conll2003'.*ConnectionError.*kind: table"):
        read_hub(Source(kind="hub", path="conll2003"), tmp_path)


def test_scripts_are_not_run_but_their_parquet_copy_is_read(tmp_path, monkeypatch):
    calls = []

    def load(name, subset, split, revision):
        calls.append((name, subset, split, revision))
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found a.py")
        return datasets.Dataset.from_dict({"tokens": [["a"]], "ner_tags": [["O"]]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_hub(Source(kind="hub", path="me/a:en", split="dev"), tmp_path)[0] == (("a",),)
    assert calls == [
        ("me/a", "en", "dev", None),
        ("me/a", "en", "dev", "refs/convert/parquet"),
    ]


def test_a_named_revision_is_the_only_one_tried(tmp_path, monkeypatch):
    calls = []

    def load(name, subset, split, revision):
        calls.append((name, subset, split, revision))
        raise RuntimeError("Dataset scripts are no longer supported, but found a.py")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match="no longer supported"):
        read_hub(Source(kind="hub", path="me/a@v1"), tmp_path)
    assert calls == [("me/a", None, "train", "v1")]


def test_the_name_must_be_one(tmp_path):
    with pytest.raises(UserError, match="`path` is empty"):
        read_hub(Source(kind="hub"), tmp_path)
    with pytest.raises(UserError, match="`path: a:b:c`: expected NAME"):
        read_hub(Source(kind="hub", path="a:b:c"), tmp_path)
