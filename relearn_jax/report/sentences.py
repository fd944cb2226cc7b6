"""Sentences whose numbers link to cells.

A sentence takes its numbers only from a table of the page, the config or the manifest. So every
number has the text of its cell and a link to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import Formatter

from relearn_jax.report.reading import Directory
from relearn_jax.report.tables import Number, Piece, Row, Sentence, cell_id, show


def say(template: str, row: Row | None = None, **parts: Piece | Sentence | Row) -> Sentence:
    """A sentence from a template.

    `{column}` is a cell of `row`, `{name}` a part, and `{name.column}` a cell of a part that is a
    row: `say("It fell from {base} to {pruned}, at random to {random.pruned}.", row, random=other)`.
    """
    pieces: list[Piece] = []
    for text, field, _, _ in Formatter().parse(template):
        pieces.append(text)
        if field is None:
            continue
        name, _, column = field.partition(".")
        part = parts[name] if name in parts else row.cite(name)
        if isinstance(part, Row):
            part = part.cite(column)
        pieces += (part,) if isinstance(part, str | Number) else part
    return tuple(pieces)


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
    """A word with an s, unless there is one of what it counts."""
    return word if number.text == "1" else f"{word}s"


def listed(names: Iterable[str], most: int | None = None) -> str:
    """`A`, `A and B`, `A, B and C`. If there are over `most`, the last are `others`."""
    names = list(names)
    if most is not None and len(names) > most:
        names = [*names[: most - 1], "others"]
    return "".join(joined([(name,) for name in names]))


def joined(items: Sequence[Sequence[Piece]], word: str = " and ", between: str = ", ") -> Sentence:
    """Fragments of a sentence as a list: commas between them, a word before the last."""
    pieces: list[Piece] = []
    for place, item in enumerate(items):
        last = place == len(items) - 1
        pieces += ["" if not place else word if last else between, *item]
    return tuple(pieces)


def over_seeds(seeds: Sequence[int], alone: str = "One seed. ") -> str:
    """How the numbers of a table came from the seeds."""
    return f"Mean ± standard deviation over {len(seeds)} seeds. " if len(seeds) > 1 else alone
