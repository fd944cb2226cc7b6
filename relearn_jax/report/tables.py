"""Tables of the page: cells with addresses, and means over seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from relearn_jax.report.reading import finite

ABSENT = "–"
MINUS = "−"


class Column(NamedTuple):
    """A column of a page table.

    `form` says how a value is written: f1, f2, f3, signed, percent, points (of percent), int or
    text. If the frame has a column `KEY_sd`, it is the standard deviation over seeds, and is
    written beside the mean.
    """

    key: str
    header: str
    form: str = "f3"
    group: str = ""
    words: Callable[[Any], str] = str
    """How a row's key is written."""


class Table(NamedTuple):
    """A table of the page: `keys` name a row, `columns` hold its values.

    The frame has the rows of the page and is written to `tables/report_NAME.csv`. `sources` are
    the files of the run that it was computed from. A table of means has `by_seed` too: the numbers
    behind the means, with a row for each seed and row of the page.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    keys: tuple[Column, ...]
    columns: tuple[Column, ...]
    sources: tuple[str, ...]
    by_seed: pd.DataFrame | None = None

    def row(self, *keys: Any) -> Row:
        """The row with these keys; it need not exist."""
        return Row(self, keys)

    def rows(self) -> Iterator[Row]:
        """Every row, from the top."""
        names = [key.key for key in self.keys]
        return (Row(self, keys) for keys in self.frame[names].itertuples(index=False, name=None))


class Row(NamedTuple):
    """A row of a table of the page, from which sentences take their numbers."""

    table: Table
    keys: tuple[Any, ...]

    def raw(self, column: str) -> Any:
        """What the frame holds in a cell; None if the table has no such row or column."""
        values = self._of(self.table.frame, column)
        return values.iloc[0] if len(values) else None

    def value(self, column: str) -> float:
        """The number in a cell; NaN if there is none."""
        value = self.raw(column)
        return float(value) if finite(value) else float("nan")

    def has(self, *columns: str) -> bool:
        """Whether all these cells hold numbers."""
        return all(finite(self.raw(column)) for column in columns)

    def by_seed(self, column: str) -> pd.Series:
        """The numbers whose mean a cell holds, by seed; seeds without one are left out."""
        frame = self.table.by_seed
        if frame is None:
            return pd.Series(dtype=float)
        return self._of(frame.set_index("seed", drop=False), column).astype(float).dropna()

    def _of(self, frame: pd.DataFrame, column: str) -> pd.Series:
        if column not in frame:
            return pd.Series(dtype=float)
        here = np.ones(len(frame), bool)
        for key, part in zip(self.table.keys, self.keys, strict=True):
            here &= (frame[key.key] == part).to_numpy()
        return frame.loc[here, column]

    def cite(self, column: str) -> Number:
        """A cell's number (or text) for a sentence; without an address if there is no cell."""
        form = next(c.form for c in self.table.columns if c.key == column)
        value = self.raw(column)
        cell = "" if value is None else cell_id(self.table.name, self.keys, column)
        return Number(show(value, form), cell, csv_name(self.table))


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
        return f"{_sign(f'{100 * value:.0f}')} %"
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
    """A standard deviation as the page writes it after its mean; nothing if there is none."""
    if not finite(value):
        return ""
    hundred = form in ("percent", "points")
    text = f"{100 * value:.0f}" if hundred else show(value, form).lstrip("+")
    return f"± {text}"


def in_order(frame: pd.DataFrame, **orders: Sequence[Any]) -> pd.DataFrame:
    """The rows whose values stand in the lists, in the order of the lists; the first list leads."""
    places = [frame[name].map({v: i for i, v in enumerate(o)}) for name, o in orders.items()]
    known = np.logical_and.reduce([place.notna() for place in places])
    return frame[known].iloc[np.lexsort([place[known] for place in reversed(places)])]


def averaged(
    name: str,
    caption: str,
    values: pd.DataFrame,
    keys: tuple[Column, ...],
    columns: tuple[Column, ...],
    sources: tuple[str, ...],
    plain: Collection[str] = (),
) -> Table:
    """A table of means and standard deviations (n - 1) over seeds, rows in the order of `values`.

    Args:
      name, caption, keys, sources: as in `Table`.
      values: a row for each seed and row of the table, with `seed`, the keys and the columns.
        Numbers that are not finite are left out.
      columns: those of numbers are averaged. Those of text are left to the caller.
      plain: columns without a deviation, since the spread of a count or of a chance level says
        nothing.
    """
    names = [key.key for key in keys]
    shown = [c.key for c in columns if c.form != "text"]
    by_seed = values.reindex(columns=["seed", *names, *shown])
    numbers = by_seed[shown].apply(pd.to_numeric).replace([np.inf, -np.inf], np.nan)
    by_seed = by_seed.assign(**numbers.astype(float))
    groups = by_seed.groupby(names, sort=False)[shown]
    both = pd.concat([groups.mean(), groups.std().add_suffix("_sd")], axis=1).reset_index()
    written = [n for c in shown for n in ((c,) if c in plain else (c, f"{c}_sd"))]
    return Table(name, caption, both[[*names, *written]], keys, columns, sources, by_seed)
