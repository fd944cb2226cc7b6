"""JSON, JSON Lines and Parquet, one sentence a row."""

from __future__ import annotations

import json

import pyarrow
import pytest
from pyarrow import parquet

from relearn_jax.config import Source
from relearn_jax.data.readers.table import read_table, sentences_of_rows
from relearn_jax.errors import UserError

ROWS = [
    {"tokens": ["New", "York", "!"], "ner_tags": ["B-LOC", "I-LOC", "O"]},
    {"tokens": [], "ner_tags": []},
    {"tokens": ["ok"], "ner_tags": ["O"]},
]
EXPECTED = ((("New", "York", "!"), ("ok",)), (("B-LOC", "I-LOC", "O"), ("O",)))


def read(folder, name, **settings):
    """Read a table of the folder."""
    return read_table(Source(kind="table", path=name, **settings), folder)


def test_json_jsonl_and_parquet_read_alike(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name in ("a.json", "a.jsonl", "a.parquet"):
        assert read(tmp_path, name) == EXPECTED


def test_columns_can_be_named_and_types_renamed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"w": ["a", "b"], "t": ["I-x", "I-x"]}')
    words, tags = read(tmp_path, "a.jsonl", word_column="w", tag_column="t", tag_map={"x": "LOC"})
    assert (words, tags) == ((("a", "b"),), (("B-LOC", "I-LOC"),))


def test_class_names_of_hugging_face_parquet_are_used(tmp_path):
    import datasets

    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")),
        ner_tags=datasets.List(datasets.ClassLabel(names=["O", "B-LOC", "I-LOC"])),
    )
    rows = {"tokens": [["New", "York", "!"], ["ok"]], "ner_tags": [[1, 2, 0], [0]]}
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path, "a.parquet") == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"tokens": ["a"]}', r"a\.jsonl:1: no column 'ner_tags'; it has 'tokens'"),
        ("a.jsonl", '{"tokens": [}', r"a\.jsonl:1: not JSON"),
        ("a.json", '{"tokens": []}', "expected a list of objects"),
        ("a.json", '{"tokens": []}\n{"tokens": []}', r"a\.json:2: not JSON.*\.jsonl"),
        ("a.json", "[3]", "row 1: a row must be an object"),
        ("a.json", '[{"tokens": ["a", "b"], "ner_tags": ["O"]}]', "row 1: 2 words but 1 tags"),
        ("a.json", '[{"tokens": "a b", "ner_tags": "O O"}]', "row 1: .* must be lists"),
        ("a.json", '[{"tokens": [1], "ner_tags": ["O"]}]', "row 1: the words must be strings"),
        ("a.json", '[{"tokens": ["a"], "ner_tags": [3]}]', "row 1: tag 3 is a number"),
        ("a.json", '[{"tokens": ["a"], "ner_tags": ["LOC"]}]', "row 1: malformed tag 'LOC'"),
        ("a.json", '[{"tokens": [], "ner_tags": []}]', "no sentence"),
        ("a.csv", "x", r"reads \.json"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
    ],
)
def test_bad_input_names_file_and_row(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path, name)


@pytest.mark.parametrize("tag", [-1, 2, True, 0.0, None])
def test_a_class_that_does_not_exist_names_the_row(tag):
    with pytest.raises(UserError, match=f"here: row 2: tag {tag} is not one of the 2 classes"):
        sentences_of_rows([["a"], ["b"]], [[0], [tag]], ["O", "B-X"], {}, "here")


def test_parquet_without_the_column_lists_what_it_has(tmp_path):
    parquet.write_table(pyarrow.table({"a": [1], "b": [2]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column 'tokens'; it has 'a', 'b'"):
        read(tmp_path, "a.parquet")
