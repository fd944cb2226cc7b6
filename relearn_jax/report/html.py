"""HTML of pages, tables, sentences, legends and figures; the HTML itself stands in `parts.html`.

Both escape text by the same function. What a function here takes as HTML is not escaped again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import jinja2
from markupsafe import escape

from relearn_jax.report.draw import Plot, panel_svgs, theme_css
from relearn_jax.report.tables import (
    Number,
    Sentence,
    Table,
    cell_id,
    csv_name,
    show,
    show_spread,
)

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("relearn_jax.report", ""),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
PARTS = TEMPLATES.get_template("parts.html").module
NUMBER = re.compile(r"<!--number (\w+)-->")
PANEL = re.compile(r"<!--panel (\w+) (\d+)-->")

Drawn = tuple[str, tuple[Plot, ...]]
"""A section's HTML and the plots in it, which are written to `figures/` as well."""


def document(
    title: str, header: str, sections: Sequence[tuple[str, str, Drawn]], footer: str
) -> Drawn:
    """A whole page from (anchor, heading, section), and the plots of all sections.

    Figures are numbered as they stand in the page. Their drawings are left out: see `drawn`.
    """
    page = TEMPLATES.get_template("template.html").render(
        title=title,
        style=theme_css() + TEMPLATES.get_template("style.css").render(),
        header=header,
        sections=[(name, head, inner) for name, head, (inner, _) in sections],
        footer=footer,
    )
    names = dict.fromkeys(NUMBER.findall(page))
    numbers = {name: str(place) for place, name in enumerate(names, start=1)}
    page = NUMBER.sub(lambda match: numbers[match[1]], page)
    return page.replace(" %", "\u00a0%"), tuple(p for _, _, (_, plots) in sections for p in plots)


def drawn(page: str, plots: Iterable[Plot]) -> str:
    """A page with its drawings in it: an SVG for every panel."""
    by_name = {plot.name: plot for plot in plots}
    svgs = {name: panel_svgs(by_name[name]) for name in {name for name, _ in PANEL.findall(page)}}
    return PANEL.sub(lambda match: svgs[match[1]][int(match[2])], page)


def panel(plot: Plot, index: int) -> str:
    """The place of a panel's drawing."""
    return f"<!--panel {plot.name} {index}-->"


def text(value: Any) -> str:
    """Escaped text."""
    return str(escape(value))


def prose(sentence: Sentence) -> str:
    """A sentence whose numbers are links to their cells; the file is in the link's title."""
    return str(PARTS.prose(sentence))


def _files_of(sentence: Sentence) -> dict[str, None]:
    return dict.fromkeys(piece.file for piece in sentence if isinstance(piece, Number))


def sources(sentence: Sentence) -> str:
    """Links to the files that a sentence's numbers stand in."""
    return files(_files_of(sentence))


def files(names: Iterable[str]) -> str:
    """Links to files of the run."""
    return str(PARTS.files(names))


def data(names: Sequence[str], tables: str | Mapping[str, str] = "") -> str:
    """Links to files, and to tables of the page by name: a name, or names with their words."""
    words = {tables: "table"} if isinstance(tables, str) and tables else tables or {}
    return str(PARTS.data(names, words))


class _Span(NamedTuple):
    """Neighbouring columns of one group (or of none)."""

    group: str
    columns: list[_Head]


class _Head(NamedTuple):
    """The head of a column; an `edge` parts it from the group before."""

    header: str
    edge: bool


class _Cell(NamedTuple):
    """A value with its address, and its deviation over seeds if there is one."""

    anchor: str
    edge: bool
    value: str
    spread: str


class _Line(NamedTuple):
    """A row: the words of its keys, and its cells."""

    labels: list[str]
    cells: list[_Cell]


def table(item: Table, main: str = "", note: str = "") -> str:
    """A page table in its own scrolling frame; rows of one first key form a group.

    If `main` is one of several arms with many rows each, the other arms go into a fold.
    """
    if item.frame.empty:
        return absent(item.caption)
    records = item.frame.to_dict("records")
    own = [r for r in records if r.get("arm") == main]
    others = [r for r in records if r.get("arm") != main]
    extra = f'<span class="note">{text(note)}</span>' if note else ""
    caption = f"{text(item.caption)} {extra}{PARTS.origin(csv_name(item), item.sources)}"
    if len(own) < 2 or not others:
        return _grid(item, records, caption, f"t-{item.name}")
    rest = f"{item.caption}: the other arms"
    fold = _grid(item, others, text(rest), f"t-{item.name}-others")
    return _grid(item, own, caption, f"t-{item.name}") + details(rest, fold)


def _grid(item: Table, records: list[dict[str, Any]], caption: str, anchor: str) -> str:
    groups = [column.group for column in item.columns]
    edges = [place > 0 and group != groups[place - 1] for place, group in enumerate(groups)]
    heads = [_Head(c.header, edge) for c, edge in zip(item.columns, edges, strict=True)]
    spans = [
        _Span(group, [head for _, head in members])
        for group, members in groupby(zip(groups, heads, strict=True), key=lambda pair: pair[0])
    ]
    first = item.keys[0].key if len(item.keys) > 1 else None
    bodies = [
        [_line(item, record, edges) for record in members]
        for _, members in groupby(records, key=lambda record: first and record[first])
    ]
    keys = [key.header for key in item.keys]
    return str(PARTS.table(anchor, item.caption, caption, keys, spans, bodies))


def _line(item: Table, record: dict[str, Any], edges: Sequence[bool]) -> _Line:
    at = [record[key.key] for key in item.keys]
    cells = [
        _Cell(
            cell_id(item.name, at, column.key),
            edge,
            show(record[column.key], column.form),
            show_spread(record.get(f"{column.key}_sd"), column.form),
        )
        for column, edge in zip(item.columns, edges, strict=True)
    ]
    return _Line([key.words(part) for key, part in zip(item.keys, at, strict=True)], cells)


def answers(rows: Sequence[tuple[str, Sentence]]) -> str:
    """Paragraphs under headings; the files behind the numbers are named after each."""
    return str(PARTS.answers([(heading, said, _files_of(said)) for heading, said in rows]))


def absent(what: str) -> str:
    """A notice in place of something the run has not produced yet."""
    return str(PARTS.absent(what))


def details(summary: str, inner: str) -> str:
    """A fold around HTML."""
    return str(PARTS.details(summary, inner))


def figure(plot: Plot, caption: str, data: str, wide: bool = False, above: str = "") -> str:
    """A figure: legend, panels in a grid, and a caption that says how to read it.

    Caption, `data` and what stands `above` are HTML. `wide` panels keep their width and scroll
    where the page is narrower. The drawings are left out: see `drawn`.
    """
    return str(PARTS.figure(plot, caption, data, wide, above))


def pairs(rows: Sequence[tuple[str, str, str]], name: str, file: str, caption: str) -> str:
    """A listing of (key, shown key, text) with addresses, for the config and the manifest."""
    cells = (
        (text(shown), f'<td id="{cell_id(name, (key,), "value")}">{text(value)}</td>')
        for key, shown, value in rows
    )
    return listing("pairs", caption, (), cells, file)


def listing(
    kind: str,
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    file: str = "",
    anchor: str = "",
) -> str:
    """A table of HTML cells, whose numbers nothing cites.

    The first cell of a row is the inside of its head, the others are whole `td` elements.
    """
    return str(PARTS.listing(kind, caption, heads, rows, file, anchor))
