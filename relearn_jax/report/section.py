"""Sections of a page: each brings its own tables of the page, and may cite those of all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from relearn_jax.report.html import Drawn
from relearn_jax.report.tables import Table


class Section(NamedTuple):
    """A section of a page. To add one, write its functions and a row of the page's `SECTIONS`."""

    anchor: str
    heading: str
    make: Callable[[Any, Any], Drawn]
    """HTML and plots, from what was read and the results of all sections."""
    tables: Callable[..., Iterable[Table]] = lambda *read: ()
    """Its tables of the page, from what was read."""


def tables(sections: Sequence[Section], *read: Any) -> dict[str, Table]:
    """The page tables of all sections, by name."""
    return {table.name: table for section in sections for table in section.tables(*read)}


def made(sections: Sequence[Section], run: Any, results: Any) -> list[tuple[str, str, Drawn]]:
    """Every section as (anchor, heading, HTML and plots)."""
    return [(part.anchor, part.heading, part.make(run, results)) for part in sections]
