"""Tables as rows of named cells, each row with its place in the file for messages."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from relearn_jax.data.readers.files import read_lines
from relearn_jax.errors import UserError

Row = tuple[str, dict[str, object]]
"""The place of a row in its file, and its cells by column."""

_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def read_rows(path: Path, needed: Sequence[str]) -> list[Row]:
    """Rows of a .csv, .jsonl/.ndjson or .parquet file with the columns `needed`.

    Cells of CSV files are strings, cells of other files keep their types. Raises UserError with
    file and line (row in Parquet, counted from 1).
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: facts are read from {', '.join(readers)} files.")
    rows = reader(path)
    for place, row in rows:
        for column in needed:
            if column not in row:
                raise UserError(
                    f"{place}: no column {column!r}; it has {', '.join(repr(c) for c in row if c)}."
                )
    if not rows:
        raise UserError(f"{path}: there is no fact in it.")
    return rows


def text(row: Row, column: str) -> str:
    """A text cell without surrounding blanks; UserError if it is empty or not text."""
    place, cells = row
    value = cells[column]
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{place}: `{column}` should be text, not {value!r}.")
    return value.strip()


def number(row: Row, column: str) -> float:
    """A number cell; UserError for other cells."""
    place, cells = row
    try:
        return float(cells[column])
    except (TypeError, ValueError):
        raise UserError(f"{place}: `{column}` should be a number, not {cells[column]!r}.") from None


def strings(row: Row, column: str) -> tuple[str, ...]:
    """A cell with several texts; empty texts are left out, and missing cells have none.

    It is a list, or a list written by Python or NumPy (quoted strings in brackets, separated by
    blanks or commas; read string by string, as NumPy writes no commas), or texts separated by `|`.
    """
    place, cells = row
    value = cells.get(column)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = _parsed(value, place, column)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise UserError(f"{place}: `{column}` should be a list of texts, not {str(value)[:60]!r}.")
    return tuple(v.strip() for v in value if v.strip())


def _parsed(value: str, place: str, column: str) -> Sequence[str]:
    inner = value.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        return inner.split("|")
    if rest := _STRING.sub("", inner[1:-1]).replace(",", "").strip():
        raise UserError(
            f"{place}: `{column}` should be quoted strings in brackets; outside of "
            f"strings is: {rest[:60]!r}"
        )
    return [ast.literal_eval(quoted) for quoted in _STRING.findall(inner)]


def _csv(path: Path) -> list[Row]:
    reader = csv.DictReader(f"{line}\n" for line in read_lines(path))
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{path}:{reader.line_num}: has another number of cells than the header's "
                    f"{len(reader.fieldnames)}. Cells with commas or line breaks need quotes."
                )
            rows.append((f"{path}:{reader.line_num}", row))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}.") from error
    return rows


def _jsonl(path: Path) -> list[Row]:
    rows = []
    for line, source in enumerate(read_lines(path), start=1):
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{line}: not JSON: {error.msg}.") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{line}: a row must be an object with columns.")
        rows.append((f"{path}:{line}", row))
    return rows


def _parquet(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    return _placed(path, table.to_pylist())


def _placed(path: Path, rows: Iterable[dict]) -> list[Row]:
    return [(f"{path}: row {number}", row) for number, row in enumerate(rows, start=1)]
