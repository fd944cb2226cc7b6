"""Word file and label file."""

from __future__ import annotations

import pytest

from relearn_jax.config import Source
from relearn_jax.data.readers.parallel import read_parallel
from relearn_jax.errors import UserError


def read_two(folder, words: str, labels: str, **settings):
    """Read two files with these texts."""
    (folder / "words.txt").write_text(words, "utf-8")
    (folder / "labels.txt").write_text(labels, "utf-8")
    source = Source(kind="parallel", path="words.txt", labels_path="labels.txt", **settings)
    return read_parallel(source, folder)


def test_labels_stay_as_they_are(tmp_path):
    words, labels = read_two(
        tmp_path,
        "In Los Angeles\n\nI \x80 am\n\n\n",
        "N/A SEM:loc SEM:loc\n\nN/A a,a:b N/A\n",
        tag_map={"SEM:loc": "LOC"},
    )
    assert words == (("In", "Los", "Angeles"), ("I", "\x80", "am"))
    assert labels == (("N/A", "LOC", "LOC"), ("N/A", "a,a:b", "N/A"))


def test_entity_tags_become_iob2(tmp_path):
    _, labels = read_two(tmp_path, "a b c\n", "I-x I-x I-y\n", tag_map={"x": "X", "y": "O"})
    assert labels == (("B-X", "I-X", "O"),)


@pytest.mark.parametrize(
    ("words", "labels", "message"),
    [
        ("a b\nc d\n", "O O\nO\n", r"words\.txt:2: 2 words, but .*labels\.txt:2 has 1 labels"),
        ("a\n\nb\n", "O\nO\nO\n", r"words\.txt:2: 0 words"),
        ("a\nb\nc\n", "O\nO\n", r"3 lines and .* has 2: line 3 is missing"),
        ("a\n", "O\n\n\nO\n", r"1 lines and .* has 4: line 2 is missing"),
        ("a\n", "", r"labels\.txt: the file is empty"),
        ("a\n", "B-O\n", r"tag_map: \{O: O\}"),
    ],
)
def test_files_of_different_length_name_the_line(tmp_path, words, labels, message):
    with pytest.raises(UserError, match=message):
        read_two(tmp_path, words, labels)


def test_the_label_file_must_be_named(tmp_path):
    (tmp_path / "w").write_text("a")
    with pytest.raises(UserError, match="labels_path"):
        read_parallel(Source(kind="parallel", path="w"), tmp_path)
