"""Column files: real ones against the counts of their SOURCE.md, and every kind of bad line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from relearn_jax.config import Source
from relearn_jax.data.readers.conll import read_conll
from relearn_jax.errors import UserError

EWT = "data/ner-uner-ewt/en_ewt-ud-"
WNUT = "data/ner-wnut17/"


def spans(tags):
    """How many entities of each type IOB2 tags hold."""
    return Counter(tag[2:] for sentence in tags for tag in sentence if tag[0] == "B")


def read_text(folder: Path, text: str | bytes, **settings):
    """Read a file with this text."""
    path = folder / "a.conll"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    settings = {"word_column": "0", "tag_column": "-1"} | settings
    return read_conll(Source(kind="conll", path="a.conll", **settings), folder)


@pytest.mark.parametrize(
    ("file", "sentences", "tokens", "expected"),
    [
        ("train.prelim-0c7ce0d", 12543, 204579, {"PER": 2873, "LOC": 2698, "ORG": 1434}),
        ("dev", 2001, 25149, {"PER": 343, "LOC": 399, "ORG": 224}),
        ("test", 2077, 25097, {"PER": 449, "LOC": 317, "ORG": 322}),
    ],
)
def test_ewt_has_the_counts_of_its_source_page(shared, file, sentences, tokens, expected):
    source = Source(kind="conll", path=f"{EWT}{file}.iob2", tag_map={"OTH": "O", "O": "O"})
    words, tags = read_conll(source, shared)
    assert len(words) == sentences
    assert sum(map(len, words)) == sum(map(len, tags)) == tokens
    assert spans(tags) == expected


def test_ewt_train_has_1713_sentences_with_a_location(shared):
    source = Source(
        kind="conll", path=f"{EWT}train.prelim-0c7ce0d.iob2", tag_map={"OTH": "O", "O": "O"}
    )
    _, tags = read_conll(source, shared)
    assert sum(any(tag.endswith("-LOC") for tag in sentence) for sentence in tags) == 1713


def test_ewt_train_without_a_map_names_the_first_type_called_o(shared):
    source = Source(kind="conll", path=f"{EWT}train.prelim-0c7ce0d.iob2")
    lines = (shared / source.path).read_text("utf-8").split("\n")
    first = next(i for i, line in enumerate(lines, start=1) if "\tB-O\t" in line)
    with pytest.raises(UserError, match=rf":{first}: .*tag_map"):
        read_conll(source, shared)


@pytest.mark.parametrize(
    ("file", "sentences", "tokens", "locations"),
    [
        ("wnut17train.conll", 3394, 62730, 548),
        ("emerging.dev.conll", 1009, 15733, 74),
        ("emerging.test.annotated", 1287, 23394, 150),
    ],
)
def test_wnut_has_the_counts_of_its_source_page(shared, file, sentences, tokens, locations):
    source = Source(
        kind="conll", path=WNUT + file, word_column="0", tag_column="1",
        tag_map={"location": "LOC", "creative-work": "O"},
    )  # fmt: skip
    words, tags = read_conll(source, shared)
    assert (len(words), sum(map(len, words))) == (sentences, tokens)
    assert spans(tags)["LOC"] == locations
    assert set(spans(tags)) == {"LOC", "person", "group", "corporation", "product"}


def test_conll2003_columns_docstart_and_iob1(tmp_path):
    text = (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\n\n"
        "-DOCSTART- -X- O O\n\nPeter NNP B-NP I-PER\nBlackburn NNP I-NP I-PER"
    )
    for tag_column in ("3", "-1"):
        words, tags = read_text(tmp_path, text, tag_column=tag_column)
        assert words == (("EU", "rejects"), ("Peter", "Blackburn"))
        assert tags == (("B-ORG", "O"), ("B-PER", "I-PER"))


def test_tabs_blanks_windows_line_ends_and_a_byte_order_mark_read_alike(tmp_path):
    plain = read_text(tmp_path, "Qaim B-LOC\nis O\n\nso O\n")
    assert plain == ((("Qaim", "is"), ("so",)), (("B-LOC", "O"), ("O",)))
    assert read_text(tmp_path, "Qaim\tB-LOC\nis\tO\n\t\nso\tO") == plain
    assert read_text(tmp_path, "\ufeffQaim B-LOC\r\nis   O\r\n\r\nso O\r\n") == plain


def test_hash_is_a_word_where_the_line_is_one_and_a_comment_otherwise(tmp_path):
    text = "# text = so what O\n# id = 1\nso what O\n# what O\n#\twhat\tO\n# a longer line B-LOC\n"
    words, _ = read_text(tmp_path, text)
    assert words == (("so", "#", "#"),)


def test_unusual_blanks_and_control_characters_are_words(tmp_path):
    words, _ = read_text(tmp_path, "\x80 O\n\xa0 O\n\x85 O\n\x1c O\n\u2028 O\nNew York\tO\n")
    assert words == (("\x80", "\xa0", "\x85", "\x1c", "\u2028", "New York"),)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a O\nb\tc\tO\nd O\n", {"tag_column": "1"}, r"a\.conll:2: malformed tag 'c'.*tag_column"),
        ("a O\nb O\n", {"tag_column": "2"}, r"a\.conll:1: has 2 columns, but `tag_column` is 2"),
        ("a O\nb\n", {"word_column": "-2"}, r"a\.conll:2: has 1 columns, but `word_column` is -2"),
        ("a\tO\n\tO\n", {}, r"a\.conll:2: `word_column` 0 is empty"),
        ("a LOC\n", {}, r"a\.conll:1: malformed tag 'LOC'"),
        ("a S-LOC\n", {}, r"a\.conll:1: malformed tag 'S-LOC'"),
        ("", {}, r"a\.conll: the file is empty"),
        (" \n\t\n", {}, r"a\.conll: the file is empty"),
        ("# only a comment\n-DOCSTART- O\n", {}, r"a\.conll: there is no word in it"),
        (b"a O\n\nM\xfcnchen B-LOC\n", {}, r"a\.conll:3: not UTF-8 \(byte 0xfc\).*iconv"),
        ("a O\n", {"word_column": "tokens"}, r"`word_column: tokens`.*number"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path, text, settings, message):
    with pytest.raises(UserError, match=message):
        read_text(tmp_path, text, **settings)


def test_missing_files_and_folders_are_told_apart(tmp_path):
    with pytest.raises(UserError, match=r"does not exist.*config's folder"):
        read_conll(Source(kind="conll", path="nowhere.conll"), tmp_path)
    with pytest.raises(UserError, match="is a folder"):
        read_conll(Source(kind="conll", path="."), tmp_path)
    with pytest.raises(UserError, match="is empty"):
        read_conll(Source(kind="conll"), tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_line_end_and_mark_reads_alike(tmp_path, end, encoding):
    text = "Zoë B-PER\nsaw O\n\nOslo B-LOC\n"
    found = read_text(tmp_path, text.replace("\n", end).encode(encoding))
    assert found == read_text(tmp_path, text)


def test_a_cut_utf16_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.conll: begins as UTF-16, and is not"):
        read_text(tmp_path, "Oslo B-LOC\n".encode("utf-16")[:-1])
