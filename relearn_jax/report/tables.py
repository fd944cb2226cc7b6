"""Tables of the page: cells with addresses, and numbers in sentences that point at them.

A sentence of the report takes its numbers from such a table only, by `cite`, so every number has
the cell's own text and a link to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from relearn_jax.report.reading import finite

ABSENT = "–"
MINUS = "−"


class Column(NamedTuple):
    """A column of a page table.

    `form` says how a value is written: f1, f2, f3, signed, percent, points (of
    percent), int, text. If the frame has a
    column `KEY_sd`, the standard deviation over seeds is written beside the mean.
    """

    key: str
    header: str
    form: str = "f3"
    group: str = ""
    words: Callable[[Any], str] = str
    """How a row's key is written."""


class Table(NamedTuple):
    """A table of the page: `keys` name a row, `columns` hold its values.

    The frame has one row per row of the page and is written to `tables/report_NAME.csv`; `sources`
    are the run's files it was computed from. `by_seed` holds the numbers behind the means, as
    `over_seeds` takes them, in tables whose means are compared.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    keys: tuple[Column, ...]
    columns: tuple[Column, ...]
    sources: tuple[str, ...]
    by_seed: Mapping[tuple, Mapping[str, float]] = MappingProxyType({})


class Number(NamedTuple):
    """A number in a sentence: its text, the cell it stands in and the file that holds it."""

    text: str
    cell: str
    file: str


Piece = str | Number
Sentence = tuple[Piece, ...]


def csv_name(table: Table) -> str:
    """The file a page table is written to, relative to the run directory."""
    return f"tables/report_{table.name}.csv"


def cell_id(table: str, row: Sequence[Any], column: str) -> str:
    """Address of a cell in the page."""
    return "-".join(["c", _slug(table), *(_slug(str(part)) for part in row), _slug(column)])


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", ".", text).strip(".") or "x"


def show(value: Any, form: str = "f3") -> str:
    """A value as the page writes it; an en dash where there is none."""
    if form == "text":
        return ABSENT if value is None or value != value else str(value)
    if not finite(value):
        return ABSENT
    if form == "percent":
        return f"{100 * value:.0f} %".replace("-", MINUS)
    if form == "int":
        return f"{round(value):,}".replace("-", MINUS)
    if form == "points":
        return _sign(f"{100 * value:+.0f}")
    if form == "signed":
        return _sign(f"{value:+.2f}")
    digits = {"f1": 1, "f2": 2, "f3": 3}[form]
    return _sign(f"{value:.{digits}f}")


def _sign(text: str) -> str:
    # A rounded zero has no sign.
    text = text.lstrip("+-") if not text.strip("+-0.") else text
    return text.replace("-", MINUS)


def show_spread(value: Any, form: str) -> str:
    """The standard deviation that goes with a value, or nothing."""
    if not finite(value):
        return ""
    hundred = form in ("percent", "points")
    text = f"{100 * value:.0f}" if hundred else show(value, form).lstrip("+")
    return f"± {text}"


def raw(table: Table, row: Sequence[Any], column: str) -> Any:
    """What the frame holds in a cell; None if the table has no such row or column."""
    frame = table.frame
    if column not in frame or frame.empty:
        return None
    match = np.ones(len(frame), bool)
    for key, part in zip(table.keys, row, strict=True):
        match &= (frame[key.key] == part).to_numpy()
    values = frame.loc[match, column]
    return values.iloc[0] if len(values) else None


def value_of(table: Table, row: Sequence[Any], column: str) -> float:
    """The number in a cell; NaN if there is none."""
    value = raw(table, row, column)
    return float(value) if finite(value) else float("nan")


def values_by_seed(table: Table, row: Sequence[Any], column: str) -> dict[int, float]:
    """The numbers whose mean a cell holds, by seed; seeds without one are left out."""
    return {
        seed: float(cell[column])
        for (seed, *place), cell in table.by_seed.items()
        if tuple(place) == tuple(row) and finite(cell.get(column))
    }


def cite(table: Table, row: Sequence[Any], column: str) -> Number:
    """A cell's number (or text) for use in a sentence; without an address if there is no cell."""
    form = next(c.form for c in table.columns if c.key == column)
    value = raw(table, row, column)
    cell = "" if value is None else cell_id(table.name, row, column)
    return Number(show(value, form), cell, csv_name(table))


def over_seeds(
    values: Mapping[tuple, Mapping[str, float]], keys: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over seeds.

    Args:
        values: `{(seed, *row keys): {column: value}}`; missing and NaN values are left out.
        keys: names of the row keys, without the seed.
        columns: the value columns, in order.
    """
    rows: dict[tuple, list[Mapping[str, float]]] = {}
    for (_, *row), value in values.items():
        rows.setdefault(tuple(row), []).append(value)
    records = []
    for row, found in rows.items():
        record = dict(zip(keys, row, strict=True))
        for column in columns:
            numbers = [v[column] for v in found if column in v and finite(v[column])]
            record[column] = float(np.mean(numbers)) if numbers else np.nan
            record[f"{column}_sd"] = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else np.nan
        records.append(record)
    wanted = [*keys, *(name for c in columns for name in (c, f"{c}_sd"))]
    return pd.DataFrame(records, columns=wanted)


def averaged(
    name: str,
    caption: str,
    values: Mapping[tuple, Mapping[str, float]],
    keys: tuple[Column, ...],
    columns: tuple[Column, ...],
    sources: tuple[str, ...],
    plain: Collection[str] = (),
) -> Table:
    """A table of means over seeds, from `{(seed, *row keys): {column: value}}`; see `over_seeds`.

    `plain` columns get no deviation: the spread of a count or of a chance level is of no use to a
    reader. Text columns are left to the caller.
    """
    shown = [c.key for c in columns if c.form != "text"]
    frame = over_seeds(values, [k.key for k in keys], shown)
    frame = frame.drop(columns=[f"{name}_sd" for name in plain])
    return Table(name, caption, frame, keys, columns, sources, values)
