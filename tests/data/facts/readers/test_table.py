"""Facts in a table of one's own."""

from __future__ import annotations

import json

import pytest

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.table import table
from relearn_jax.errors import UserError

ROW = {
    "subject": "Peru",
    "prompt": "The capital of Peru is",
    "target": "Lima",
    "alternatives": ["Oslo", "Rome"],
    "relation": "capital",
    "paraphrase": ["Peru is governed from"],
    "neighborhood": ["The capital of Chile is"],
}
FACT = Fact(
    "Peru", "capital", "Lima", ("Oslo", "Rome"),
    {"standard": ("The capital of Peru is",), "paraphrase": ("Peru is governed from",),
     "neighborhood": ("The capital of Chile is",)},
)  # fmt: skip


def jsonl(folder, **changes):
    path = folder / "own.jsonl"
    path.write_text(json.dumps({k: v for k, v in (ROW | changes).items() if v is not None}))
    return path


def test_jsonl_and_csv_read_alike(tmp_path):
    assert table(jsonl(tmp_path)) == (FACT,)
    path = tmp_path / "own.csv"
    path.write_text(
        "subject,prompt,target,alternatives,relation,paraphrase,neighborhood\n"
        'Peru,The capital of Peru is,Lima,Oslo|Rome,capital,"[""Peru is governed from""]",'
        "The capital of Chile is\n"
    )
    assert table(path) == (FACT,)


def test_only_subject_and_target_are_needed(tmp_path):
    (tmp_path / "own.csv").write_text("subject,target\nPeru,Lima\n")
    assert table(tmp_path / "own.csv") == (Fact("Peru", "", "Lima", ()),)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"target": None}, "1: no column 'target'"),
        ({"target": ""}, "1: `target` should be text"),
        ({"alternatives": ["Lima"]}, "1: 'Lima' is the target and among the alternatives"),
        ({"prompt": "The capital is"}, "1: the text .* does not hold the subject 'Peru'"),
        ({"paraphrase": ["peru's seat"]}, "1: the text .* does not hold the subject 'Peru'"),
        ({"alternatives": [1]}, "1: `alternatives` should be a list of texts"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, changes, match):
    with pytest.raises(UserError, match=rf"own\.jsonl:{match}"):
        table(jsonl(tmp_path, **changes))
