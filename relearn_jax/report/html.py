"""HTML of pages, tables, sentences, legends and figures. Text is escaped here and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import jinja2

from relearn_jax.report.draw import Key, Plot, panel_svgs, theme_css
from relearn_jax.report.tables import (
    Number,
    Sentence,
    Table,
    cell_id,
    csv_name,
    show,
    show_spread,
)

MARKERS = {
    "o": '<circle cx="18" cy="7" r="3.4"/>',
    "s": '<rect x="14.9" y="3.9" width="6.2" height="6.2"/>',
    "^": '<path d="M18 3 21.8 10.4H14.2Z"/>',
    "D": '<path d="M18 2.6 22.4 7 18 11.4 13.6 7Z"/>',
    "x": '<path d="M15 4 21 10M21 4 15 10" stroke-width="1.6"/>',
    "": "",
}
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("relearn_jax.report", ""), undefined=jinja2.StrictUndefined
)
NUMBER = re.compile(r"<!--number (\w+)-->")
PANEL = re.compile(r"<!--panel (\w+) (\d+)-->")
DASHES = {"-": "", "--": "7 3.4", "-.": "8 2.6 2 2.6", ":": "2 2.6", "": ""}


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
    return html.escape(str(value))


def prose(sentence: Sentence) -> str:
    """A sentence whose numbers are links to their cells; the file is in the link's title."""
    parts = []
    for piece in sentence:
        if isinstance(piece, Number) and piece.cell:
            value = text(piece.text).replace(" ", "&nbsp;")
            link = f'<a class="num" href="#{piece.cell}" title="{text(piece.file)}">{value}</a>'
            parts.append(link)
        else:
            parts.append(text(piece.text if isinstance(piece, Number) else piece))
    return "".join(parts)


def sources(sentence: Sentence) -> str:
    """Links to the files that a sentence's numbers stand in."""
    return files(dict.fromkeys(p.file for p in sentence if isinstance(p, Number)))


def files(names: Sequence[str] | dict[str, None]) -> str:
    """Links to files of the run."""
    return ", ".join(
        f'<a class="file" href="{text(n)}">{text(n.rsplit("/", 1)[-1])}</a>' for n in names
    )


def table(item: Table, main: str = "", note: str = "") -> str:
    """A page table in its own scrolling frame; rows of one first key form a group.

    If `main` is one of several arms with many rows each, the other arms go into a fold.
    """
    if item.frame.empty:
        return absent(item.caption)
    records = item.frame.to_dict("records")
    own = [r for r in records if r.get("arm") == main]
    others = [r for r in records if r.get("arm") != main]
    extra = f'<span class="note">{note}</span>' if note else ""
    caption = f'{text(item.caption)} {extra}<span class="data">{_origin(item)}</span>'
    if len(own) < 2 or not others:
        return _grid(item, records, caption, f"t-{item.name}")
    fold = _grid(item, others, text(f"{item.caption}: the other arms"), f"t-{item.name}-others")
    return _grid(item, own, caption, f"t-{item.name}") + details(
        f"{item.caption}: the other arms", fold
    )


def _grid(item: Table, records: list[dict[str, Any]], caption: str, anchor: str) -> str:
    body = []
    for _, members in groupby(records, key=lambda record: record[item.keys[0].key]):
        rows = list(members)
        inner = "".join(_row(item, r, i, len(rows)) for i, r in enumerate(rows))
        body.append(f"<tbody>{inner}</tbody>" if len(item.keys) > 1 else inner)
    grid = "".join(body) if len(item.keys) > 1 else f"<tbody>{''.join(body)}</tbody>"
    return scroller(
        f'<table id="{anchor}"><caption><div>{caption}</div></caption><thead>{_head(item)}</thead>'
        f"{grid}</table>",
        item.caption,
    )


def _origin(item: Table) -> str:
    return f"{files([csv_name(item)])}, from {files(item.sources)}"


def _head(item: Table) -> str:
    columns = item.columns
    if not any(c.group for c in columns):
        cells = "".join(f'<th scope="col">{text(c.header)}</th>' for c in (*item.keys, *columns))
        return f"<tr>{cells}</tr>"
    top = "".join(f'<th scope="col" rowspan="2">{text(k.header)}</th>' for k in item.keys)
    place = 0
    for group, members in groupby(columns, key=lambda c: c.group):
        members = list(members)
        if group:
            look = 'class="group edge"' if place else 'class="group"'
            top += f'<th scope="colgroup" colspan="{len(members)}" {look}>'
            top += f"<span>{text(group)}</span></th>"
        else:
            top += "".join(
                f'<th scope="col" rowspan="2"{_edge(item, place + i)}>{text(c.header)}</th>'
                for i, c in enumerate(members)
            )
        place += len(members)
    low = "".join(
        f'<th scope="col"{_edge(item, place)}>{text(c.header)}</th>'
        for place, c in enumerate(columns)
        if c.group
    )
    return f"<tr>{top}</tr><tr>{low}</tr>"


def _edge(item: Table, place: int) -> str:
    """Marks the first column of a group."""
    before = item.columns[place - 1].group if place else ""
    return ' class="edge"' if place and item.columns[place].group != before else ""


def _row(item: Table, record: dict[str, Any], index: int, count: int) -> str:
    cells = []
    for place, key in enumerate(item.keys):
        label = text(key.words(record[key.key]))
        if place == 0 and count > 1 and len(item.keys) > 1:
            if index == 0:
                cells.append(f'<th scope="rowgroup" rowspan="{count}">{label}</th>')
            continue
        cells.append(f'<th scope="row">{label}</th>')
    row = [record[k.key] for k in item.keys]
    for place, column in enumerate(item.columns):
        value = show(record[column.key], column.form)
        spread = show_spread(record.get(f"{column.key}_sd"), column.form)
        extra = f' <span class="sd">{text(spread)}</span>' if spread else ""
        at = cell_id(item.name, row, column.key)
        cells.append(f'<td id="{at}"{_edge(item, place)}>{text(value)}{extra}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def answers(rows: Sequence[tuple[str, Sentence]]) -> str:
    """Paragraphs under headings; the files behind the numbers are named after each."""
    items = "".join(
        f'<dt>{text(head)}</dt><dd>{prose(said)} <span class="data">{sources(said)}</span></dd>'
        for head, said in rows
    )
    return (
        "<p>Every number is a link to the table cell it comes from; the file behind the cell is "
        f'named after each paragraph.</p><dl class="facts">{items}</dl>'
    )


def absent(what: str) -> str:
    """A notice in place of something the run has not produced yet."""
    return f'<p class="absent">Not available yet: {text(what)}.</p>'


def scroller(inner: str, label: str) -> str:
    """A region that scrolls sideways on its own and can be reached by keyboard."""
    about = f'role="region" aria-label="{text(label)}" tabindex="0"'
    return f'<div class="scroll" {about}>{inner}</div>'


def details(summary: str, inner: str) -> str:
    """A fold."""
    return f"<details><summary>{text(summary)}</summary>{inner}</details>"


def legend(keys: Sequence[Key]) -> str:
    """Legend entries with the line, the marker or the band of each."""
    return f'<ul class="legend">{"".join(_entry(key) for key in keys)}</ul>' if keys else ""


def _entry(key: Key) -> str:
    colour = f"var(--{key.colour})"
    if key.style == "band":
        mark = f'<rect x="2" y="2" width="32" height="10" fill="{colour}" opacity=".75"/>'
    else:
        dash = DASHES[key.style] if isinstance(key.style, str) else "2 2.4"
        mark = (
            f'<path d="M2 7H34" stroke-width="2" stroke-dasharray="{dash}"/>' if key.style else ""
        )
        mark += f'<g fill="{colour}" stroke-dasharray="none">{MARKERS[key.marker]}</g>'
    look = f'viewBox="0 0 36 14" width="36" height="14" stroke="{colour}" fill="none"'
    return f'<li><svg {look} aria-hidden="true">{mark}</svg>{text(key.label)}</li>'


def figure(plot: Plot, caption: str, data: str, wide: bool = False, above: str = "") -> str:
    """A figure: legend, panels in a grid, and a caption that says how to read it.

    `wide` panels keep their width and scroll where the page is narrower.
    """
    number = f"Figure <!--number {plot.name}-->"
    panels = [f'<div class="panel">{panel(plot, i)}</div>' for i in range(len(plot.panels))]
    grid = f'<div class="panels cols{plot.columns}">{"".join(panels)}</div>'
    if wide:
        grid = scroller(f'<div class="wide">{grid}</div>', plot.name.replace("_", " "))
    links = f"{data} · {files([f'figures/{plot.name}.svg', f'figures/{plot.name}.png'])}"
    return (
        f'<figure id="f-{plot.name}">{above}{legend(plot.legend)}{grid}<figcaption>'
        f'<b>{number}.</b> {caption} <span class="data">Data: {links}</span>'
        "</figcaption></figure>"
    )


def pairs(rows: Sequence[tuple[str, str, str]], name: str, file: str, caption: str) -> str:
    """A listing of (key, text) with addresses, for the config and the manifest."""
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
    origin = f' <span class="data">{files([file])}</span>' if file else ""
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    head = f"<thead><tr>{head}</tr></thead>" if heads else ""
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(row[1:])}</tr>' for row in rows)
    name = f' id="{anchor}"' if anchor else ""
    return scroller(
        f'<table class="{kind}"{name}><caption><div>{text(caption)}{origin}</div></caption>{head}'
        f"<tbody>{body}</tbody></table>",
        caption,
    )


def data(names: Sequence[str], tables: str | Mapping[str, str] = "") -> str:
    """Links to files, and to tables of the page by name: a name, or names with their words."""
    words = {tables: "table"} if isinstance(tables, str) and tables else tables or {}
    return ", ".join([files(names), *(f'<a href="#t-{t}">{w}</a>' for t, w in words.items())])
