"""Sentences whose numbers link to cells: how they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relearn_jax.report.reading import Directory
from relearn_jax.report.tables import Number, Piece, Sentence, Table, cell_id, show, value_of


def fact(run: Directory, key: str, table: str = "config") -> Number:
    """A number of the config or the manifest, linked to the page's listing of it.

    `key` is dotted: `retrain.epochs`.
    """
    value = dict(run.config if table == "config" else run.manifest)
    for part in key.split("."):
        value = (value or {}).get(part)
    file = "config.yaml" if table == "config" else "manifest.json"
    cell = "" if value is None else cell_id(table, (key,), "value")
    return Number(show(value, "int"), cell, file)


def plural(number: Number, word: str) -> str:
    """A word in the number of a number."""
    return word if number.text == "1" else f"{word}s"


def listed(names: Iterable[str], most: int | None = None) -> str:
    """`A`, `A and B`, `A, B and C`; of more than `most` the last ones become `others`."""
    names = list(names)
    if most is not None and len(names) > most:
        names = [*names[: most - 1], "others"]
    return "".join(joined([(name,) for name in names]))


def joined(items: Sequence[Sequence[Piece]], word: str = " and ") -> Sentence:
    """Fragments of a sentence as a list: commas between them, a word before the last."""
    pieces: list[Piece] = []
    for place, item in enumerate(items):
        last = place == len(items) - 1
        pieces += ["" if not place else word if last else ", ", *item]
    return tuple(pieces)


def complete(table: Table, row: Sequence, columns: Iterable[str]) -> bool:
    """Whether all these cells hold numbers."""
    return all(value_of(table, row, c) == value_of(table, row, c) for c in columns)
