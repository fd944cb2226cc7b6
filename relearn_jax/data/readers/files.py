"""Reading of text files, with errors that name the file and the line."""

from __future__ import annotations

import codecs
from pathlib import Path

from relearn_jax.errors import UserError

BLANK = " \t\r"
"""Separators of cells. Other Unicode blanks (no-break space, \\x85, \\x1c ...) may be words, so
`str.split()` and `str.splitlines()`, which split at them, are not used on data."""


def locate(path: str, base: Path, key: str) -> Path:
    """The file that a config names; relative paths start at `base`, the config's folder.

    Raises UserError for a missing file; `key` is the config key of the path, for its message.
    """
    if not path:
        raise UserError(f"`{key}` is empty: name the file to read.")
    file = placed(path, base)
    if not file.is_file():
        kind = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise UserError(
            f"`{key}`: {file} {kind}. Relative paths start at the config's folder ({base})."
        )
    return file


def placed(path: str, base: Path) -> Path:
    """A path that a config names; relative paths start at `base`."""
    file = Path(path).expanduser()
    return file if file.is_absolute() else base / file


def read_lines(path: Path) -> list[str]:
    """The lines of a file without line ends and byte order mark.

    The file is UTF-8, or UTF-16 with a mark. Lines end by LF or CRLF or, in a file without any LF,
    by CR. Raises UserError, with the line number, for other bytes, and for a file of blanks only.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise UserError(f"{path}: begins as UTF-16, and is not: {error.reason}.") from error
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}). Convert the file first, "
            f"for example: iconv -f LATIN1 -t UTF-8 {path.name} > converted.txt"
        ) from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty.")
    if "\n" not in text:
        return text.split("\r")
    return [line.rstrip("\r") for line in text.split("\n")]


def words_of(line: str) -> list[str]:
    """The words of a line, separated by blanks or tabs only (see BLANK)."""
    return [word for word in line.replace("\t", " ").strip(BLANK).split(" ") if word]
