"""Reader of JSON, JSON Lines and Parquet: each row has a list of words and a list of tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from relearn_jax import config
from relearn_jax.data.corpus import Sentences
from relearn_jax.data.readers.files import locate, read_lines
from relearn_jax.data.readers.tags import iob2, problem
from relearn_jax.errors import UserError

_DEFAULTS = {"word_column": ("1", "tokens"), "tag_column": ("2", "ner_tags")}


def column_names(source: config.Source) -> tuple[str, str]:
    """Names of the word column and the tag column.

    The schema's defaults are column numbers for CoNLL files. They are replaced by `tokens` and
    `ner_tags`, the names in most Hugging Face datasets.
    """
    return tuple(
        name if getattr(source, key) == default else getattr(source, key)
        for key, (default, name) in _DEFAULTS.items()
    )


def read_table(source: config.Source, base: Path) -> tuple[Sentences, Sentences]:
    """Words and IOB2 tags of a .json (list of objects), .jsonl/.ndjson or .parquet file.

    Integer tags are looked up in the class names of Hugging Face's Parquet files. Raises UserError
    with the row (counted from 1) for a row without a list of words and as many tags.
    """
    path = locate(source.path, base, "path")
    readers = {".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{path}: `kind: table` reads {', '.join(readers)}. For columns of words use "
            "`kind: conll`."
        )
    words, tags, names = readers[path.suffix.lower()](path, *column_names(source))
    return sentences_of_rows(words, tags, names, source.tag_map, str(path))


def sentences_of_rows(
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str | int]],
    names: Sequence[str] | None,
    tag_map: Mapping[str, str],
    where: str,
) -> tuple[Sentences, Sentences]:
    """Checked words and IOB2 tags, from rows of words and of tags (strings, or indices into
    `names`). Rows without words are left out; `where` is the start of every message."""
    out_words, out_tags = [], []
    for number, (row, tag_row) in enumerate(zip(words, tags, strict=True), start=1):
        place = f"{where}: row {number}"
        if not _is_list(row) or not _is_list(tag_row):
            raise UserError(f"{place}: words and tags must be lists, with one item for each word.")
        if len(row) != len(tag_row):
            raise UserError(f"{place}: {len(row)} words but {len(tag_row)} tags.")
        if not all(isinstance(word, str) for word in row):
            raise UserError(f"{place}: the words must be strings.")
        if len(row):
            tag_names = [_tag_name(tag, names, place) for tag in tag_row]
            for tag in tag_names:
                if error := problem(tag, tag_map):
                    raise UserError(f"{place}: {error}")
            out_words.append(tuple(row))
            out_tags.append(iob2(tag_names, tag_map))
    if not out_words:
        raise UserError(f"{where}: there is no sentence in it.")
    return tuple(out_words), tuple(out_tags)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _tag_name(tag: str | int, names: Sequence[str] | None, place: str) -> str:
    if isinstance(tag, str):
        return tag
    if names is None:
        raise UserError(
            f"{place}: tag {tag!r} is a number, and the data does not say what it stands for. Use "
            "strings (B-LOC), or Parquet written by Hugging Face `datasets` with a ClassLabel."
        )
    if isinstance(tag, bool) or not isinstance(tag, int) or not 0 <= tag < len(names):
        raise UserError(f"{place}: tag {tag!r} is not one of the {len(names)} classes {names}.")
    return names[tag]


def _columns_of(rows: Sequence[tuple[str, object]], word_column: str, tag_column: str):
    """The two columns of rows given as (place, object); class names are None."""
    out = [], []
    for place, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{place}: a row must be an object with columns, got {str(row)[:60]}")
        for column, values in zip((word_column, tag_column), out, strict=True):
            if column not in row:
                raise UserError(
                    f"{place}: no column {column!r}; it has {', '.join(map(repr, row))}. Set "
                    "`word_column` and `tag_column`."
                )
            values.append(row[column])
    return *out, None


def _json(path: Path, word_column: str, tag_column: str):
    try:
        rows = json.loads("\n".join(read_lines(path)))
    except json.JSONDecodeError as error:
        hint = " For one object a line, name the file .jsonl." if error.msg == "Extra data" else ""
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}.{hint}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of objects, one for each sentence.")
    placed = [(f"{path}: row {number}", row) for number, row in enumerate(rows, start=1)]
    return _columns_of(placed, word_column, tag_column)


def _jsonl(path: Path, word_column: str, tag_column: str):
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            try:
                rows.append((f"{path}:{number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not JSON: {error.msg}.") from error
    return _columns_of(rows, word_column, tag_column)


def _parquet(path: Path, word_column: str, tag_column: str):
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        for column in (word_column, tag_column):
            if column not in schema.names:
                raise UserError(
                    f"{path}: no column {column!r}; it has {', '.join(map(repr, schema.names))}. "
                    "Set `word_column` and `tag_column`."
                )
        table = parquet.read_table(path, columns=[word_column, tag_column])
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    names = _class_names(schema.metadata or {}, tag_column)
    return table[word_column].to_pylist(), table[tag_column].to_pylist(), names


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str] | None:
    """Class names in a Parquet file's schema, as stored by Hugging Face `datasets`."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature
        return feature.get("feature", feature).get("names")
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
