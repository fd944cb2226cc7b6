"""A page of the report as its tests see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    def __init__(self, source: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[dict[str, str]] = []
        self.resources: list[str] = []
        self.cells: dict[str, str] = {}
        self.text: list[str] = []
        self._cell = self._link = None
        self._skip = False
        self.source = source
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self._skip = tag in ("style", "script")
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found | {"text": ""})
            self._link = self.links[-1]
        if tag == "td":
            self._cell = found.get("id")
        if tag == "use":
            self.links.append(found)
        self.resources += [v for k, v in found.items() if k in ("src", "srcset", "data", "action")]
        if tag in ("link", "image", "iframe", "object"):
            self.resources.append(found.get("href", ""))

    def handle_endtag(self, tag):
        self._skip = False
        if tag == "td":
            self._cell = None
        if tag == "a":
            self._link = None

    def handle_data(self, data):
        if self._skip:
            return
        self.text.append(data)
        if self._cell:
            self.cells[self._cell] = self.cells.get(self._cell, "") + data
        if self._link is not None:
            self._link["text"] += data


def numbers(page: Page) -> list[dict[str, str]]:
    return [link for link in page.links if link.get("class") == "num"]


def loose_ends(page: Page) -> set[str]:
    """Addresses inside the page that nothing has."""
    inside = {link["href"][1:] for link in page.links if link["href"].startswith("#")}
    assert inside
    return inside - set(page.ids)


def undefined(page: Page) -> list[str]:
    """Words that only a mistake prints."""
    return re.findall(r"\b(nan|None|NaN|inf|undefined)\b", " ".join(page.text))
