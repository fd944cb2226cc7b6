"""CoNLL files: a word and its columns on each line, a blank line after each sentence.

Columns are separated by tabs if a line has a tab, else by blanks. Lines that start with `# ` are
comments; `-DOCSTART-` lines separate documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relearn_jax import config
from relearn_jax.data.corpus import Sentences
from relearn_jax.data.readers.files import BLANK, locate, read_lines, words_of
from relearn_jax.data.readers.tags import iob2, problem
from relearn_jax.errors import UserError


def read_conll(source: config.Source, base: Path) -> tuple[Sentences, Sentences]:
    """Words and IOB2 tags of `source.path`; tags may be IO, IOB1 (BIO) or IOB2.

    `source.tag_map` renames entity types (see `tags.iob2`). Raises UserError with file and line
    for a missing column, a malformed tag, bytes that are not UTF-8, or a file without a word.
    """
    path = locate(source.path, base, "path")
    columns = _number(source, "word_column"), _number(source, "tag_column")
    lines = read_lines(path)
    width = _width(lines)
    words: list[tuple[str, ...]] = []
    tags: list[tuple[str, ...]] = []
    sentence: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip(BLANK) or line.startswith("-DOCSTART-"):
            if sentence:
                words.append(tuple(word for word, _ in sentence))
                tags.append(iob2([tag for _, tag in sentence], source.tag_map))
                sentence = []
            continue
        cells = _cells(line)
        if line.startswith("# ") and not _is_hash_word(line, cells, columns, width):
            continue
        word, tag = (
            _cell(cells, column, name, path, number)
            for column, name in zip(columns, ("word_column", "tag_column"), strict=True)
        )
        if wrong := problem(tag, source.tag_map):
            raise UserError(f"{path}:{number}: {wrong}")
        sentence.append((word, tag))
    if not words:
        raise UserError(f"{path}: there is no word in it, only blank lines and comments.")
    return tuple(words), tuple(tags)


def _number(source: config.Source, key: str) -> int:
    value = getattr(source, key)
    try:
        return int(value)
    except ValueError:
        raise UserError(
            f"`{key}: {value}`: for `kind: conll` give the number of the column, counted from 0 "
            "(negative: from the right)."
        ) from None


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else words_of(line)


def _cell(cells: Sequence[str], column: int, key: str, path: Path, number: int) -> str:
    """A cell without surrounding blanks; UserError if the line does not have it."""
    if not -len(cells) <= column < len(cells):
        raise UserError(
            f"{path}:{number}: has {len(cells)} columns, but `{key}` is {column} (counted from 0). "
            f"Set `word_column` and `tag_column`; the line reads: {' | '.join(cells)[:80]}"
        )
    if not (value := cells[column].strip(BLANK)):
        raise UserError(f"{path}:{number}: `{key}` {column} is empty in this line.")
    return value


def _width(lines: Sequence[str]) -> int:
    """Number of columns of the first line that is certainly a word."""
    for line in lines:
        if line.strip(BLANK) and not line.startswith(("# ", "-DOCSTART-")):
            return len(_cells(line))
    return 0


def _is_hash_word(line: str, cells: Sequence[str], columns: tuple[int, int], width: int) -> bool:
    """Whether a line that starts with `# ` is the word `#`: if blanks separate columns, their
    number is that of word lines, and the tag column has a tag."""
    if "\t" in line or len(cells) != width:
        return False
    in_range = all(-width <= column < width for column in columns)
    return in_range and (cells[columns[1]] == "O" or cells[columns[1]].startswith(("B-", "I-")))
