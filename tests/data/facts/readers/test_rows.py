"""Rows of tables, and lists that are written as text."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from relearn_jax.data.facts.readers.rows import number, read_rows, strings, text
from relearn_jax.errors import UserError

ODD = ["plain", "it's", 'say "x"', "both ' and \"", "back\\slash", "no\xa0break, comma", "[a]", "é"]


def row(value):
    return "here", {"c": value}


@pytest.mark.parametrize("write", [lambda x: str(np.array(x, dtype=object)), str, list, "|".join])
def test_lists_are_read_as_they_were_whoever_wrote_them(write):
    words = ODD if write != "|".join else ["a", "b c", "[d] e"]
    assert strings(row(write(words)), "c") == tuple(words)
    many = [f"{i} some longer text to break lines" for i in range(30)]
    assert strings(row(write(many)), "c") == tuple(many)


@pytest.mark.parametrize("value", [None, "", "[]", []])
def test_nothing_is_no_text(value):
    assert strings(row(value), "c") == ()
    assert strings(("here", {}), "c") == ()


@pytest.mark.parametrize("value", ["['a' b]", "['a']['b']", 3, ["a", 3], {"a": 1}])
def test_what_is_no_list_of_texts_is_refused(value):
    with pytest.raises(UserError, match="here: `c` should be"):
        strings(row(value), "c")


def test_csv_jsonl_and_parquet_read_alike(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\r\n"one\r\ntwo",é\r\n')
    (tmp_path / "a.jsonl").write_text('{"x": "one\\ntwo", "y": "é"}\n\n')
    parquet.write_table(pyarrow.table({"x": ["one\ntwo"], "y": ["é"]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        [(_, cells)] = read_rows(tmp_path / name, ("x", "y"))
        assert cells == {"x": "one\ntwo", "y": "é"}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", "x\n1\n", r"a\.csv:2: no column 'y'; it has 'x'"),
        ("a.csv", "x,y\n1,2\n1\n", r"a\.csv:3: has another number of cells"),
        ("a.csv", "x,y\n1,2,3\n", r"a\.csv:2: has another number of cells"),
        ("a.csv", "x,y\n", "no fact in it"),
        ("a.jsonl", '{"x": 1}\n', r"a\.jsonl:1: no column 'y'"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: a row must be an object"),
        ("a.jsonl", '{"x": 1, "y": 2}\n{x\n', r"a\.jsonl:2: not JSON"),
        ("a.parquet", "none", "cannot be read as Parquet"),
        ("a.txt", "x", r"are read from \.csv, \.jsonl"),
    ],
)
def test_bad_tables_name_the_line(tmp_path, name, content, match):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=match):
        read_rows(tmp_path / name, ("x", "y"))


def test_cells_of_the_wrong_kind_are_refused():
    assert text(row(" a "), "c") == "a"
    assert number(row("0.5"), "c") == 0.5
    for value in ("", "  ", 3, None):
        with pytest.raises(UserError, match="`c` should be text"):
            text(row(value), "c")
    for value in ("x", None):
        with pytest.raises(UserError, match="`c` should be a number"):
            number(row(value), "c")
