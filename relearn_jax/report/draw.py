"""Drawing in two themes: one palette, panels of a figure, and SVG that a page can recolour.

Lines, areas and text have colours of the light theme in `PALETTE` and no others. In the page each
colour becomes a CSS variable, so that one drawing serves both themes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

PALETTE: dict[str, tuple[str, str]] = {
    "fg": ("#1d2024", "#e8e6e1"),
    "muted": ("#5c636b", "#a3a9b0"),
    "rule": ("#d8dbde", "#3a3f45"),
    "faint": ("#eceef0", "#2a2e33"),
    "concept": ("#0b62a8", "#63b3f2"),
    "random": ("#c4500a", "#f59b56"),
    "layer_matched": ("#0c8062", "#3fc79f"),
    "bottom": ("#a4487f", "#e694c4"),
    "oracle": ("#6b5bb0", "#b3a5f0"),
    "before": ("#6f757c", "#9aa1a9"),
    "cut": ("#b5472f", "#ee8a6f"),
    "first": ("#5aa0d6", "#4b88bd"),
    "last": ("#0a4a86", "#8fcbff"),
    "theory": ("#7d6a12", "#d6bf5a"),
    "band": ("#c9ccd0", "#4a5057"),
}
"""Name of a colour: (light theme, dark theme). Arms are told apart by marker and line as well."""

# They hold on a white and on a black page; a value is their opacity, up to FULL.
MORE, FEWER = (0.16, 0.53, 0.80), (0.85, 0.42, 0.24)
FULL = 0.7
FONT = 12
RC = {
    "font.family": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.titlesize": FONT + 1,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT - 1,
    "ytick.labelsize": FONT - 1,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "relearn_jax",
    "legend.frameon": False,
    "figure.dpi": 72,
}


class Key(NamedTuple):
    """One entry of a legend: a line with a marker, or (style "band") a filled area."""

    label: str
    colour: str
    marker: str = ""
    style: str = "-"


class Margins(NamedTuple):
    """Room around the axes of a panel, in points. Fixed, so that panels line up in a column."""

    left: float = 54
    right: float = 8
    bottom: float = 42
    top: float = 27


class Panel(NamedTuple):
    """One pair of axes, drawn by `draw`. `size` is in points, which are CSS pixels in the page."""

    draw: Callable[[Axes], None]
    summary: str
    size: tuple[float, float] = (420, 290)
    margins: Margins = Margins()


class Plot(NamedTuple):
    """A figure: panels that share a legend, `columns` to a row where there is room."""

    name: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...] = ()
    columns: int = 2
    saved: bool = True
    """Whether it is also a file of its own under `figures/`."""


def light(name: str) -> str:
    """The light theme's value of a palette colour, as drawings use it."""
    return PALETTE[name][0]


def theme_css() -> str:
    """The palette as CSS variables, for light and for dark."""
    blocks = [";".join(f"--{name}:{pair[i]}" for name, pair in PALETTE.items()) for i in (0, 1)]
    return f":root{{{blocks[0]}}}@media (prefers-color-scheme:dark){{:root{{{blocks[1]}}}}}"


def panel_svgs(plot: Plot) -> list[str]:
    """Each panel as an inline SVG without colours of its own (CSS variables only)."""
    drawings = []
    for index, panel in enumerate(plot.panels):
        with mpl.rc_context(_rc()):
            figure = Figure(figsize=(panel.size[0] / 72, panel.size[1] / 72))
            _place(figure, panel, 0, 0)
            svg = _svg(figure)
        drawings.append(inline(svg, f"{plot.name}{index}", panel.summary))
    return drawings


def save(plot: Plot, folder: Path) -> None:
    """Write `NAME.svg` and `NAME.png`: all panels in one drawing, on white."""
    with mpl.rc_context(_rc()):
        figure = _composite(plot)
        svg = _svg(figure, facecolor="#ffffff")
        (folder / f"{plot.name}.svg").write_text(svg, encoding="utf-8")
        figure.savefig(
            folder / f"{plot.name}.png", dpi=160, facecolor="#ffffff", metadata={"Software": None}
        )


def _rc() -> dict:
    text = dict.fromkeys(
        ("text.color", "axes.titlecolor", "axes.labelcolor", "axes.edgecolor"), light("fg")
    )
    ticks = dict.fromkeys(
        ("xtick.color", "ytick.color", "xtick.labelcolor", "ytick.labelcolor"), light("muted")
    )
    return RC | text | ticks | {"axes.edgecolor": light("muted"), "grid.color": light("rule")}


def _composite(plot: Plot) -> Figure:
    rows = [
        plot.panels[start : start + plot.columns]
        for start in range(0, len(plot.panels), plot.columns)
    ]
    width = max(sum(panel.size[0] for panel in row) for row in rows)
    heights = [max(panel.size[1] for panel in row) for row in rows]
    columns = _legend_columns(plot.legend, width)
    legend = 16 + 18 * -(-len(plot.legend) // columns) if plot.legend else 0
    figure = Figure(figsize=(width / 72, (sum(heights) + legend) / 72))
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        left = 0.0
        for panel in row:
            _place(figure, panel, left, top)
            left += panel.size[0]
        top += height
    if plot.legend:
        handles = [_handle(key) for key in plot.legend]
        figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.5)
    return figure


def _legend_columns(legend: tuple[Key, ...], width: float) -> int:
    """Columns of a legend within a width in points: all in one row if they fit."""
    sizes = [0.6 * FONT * len(key.label) + 4.5 * FONT for key in legend]
    if sum(sizes) <= width:
        return max(len(sizes), 1)
    return max(int(width // max(sizes)), 1)


def _place(figure: Figure, panel: Panel, left: float, top: float) -> None:
    """Draw a panel with its upper left corner at a place of the figure, in points."""
    (width, height), room = panel.size, panel.margins
    full_width, full_height = figure.get_size_inches() * 72
    corner = ((left + room.left) / full_width, 1 - (top + height - room.bottom) / full_height)
    size = (
        (width - room.left - room.right) / full_width,
        (height - room.top - room.bottom) / full_height,
    )
    panel.draw(figure.add_axes((*corner, *size)))


def _handle(key: Key) -> Patch | Line2D:
    if key.style == "band":
        return Patch(color=light(key.colour), alpha=0.6, label=key.label)
    return Line2D(
        *([], []), color=light(key.colour), marker=key.marker, linestyle=key.style, label=key.label
    )


def _svg(figure: Figure, facecolor: str = "none") -> str:
    out = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(out, format="svg", facecolor=facecolor, metadata=metadata)
    return out.getvalue()


def inline(svg: str, prefix: str, summary: str) -> str:
    """An SVG of matplotlib, changed so that it can stand in a page.

    Ids start with `prefix`, so that each is unique; those that nothing refers to are dropped.
    Colours become CSS variables, fonts are left to the page, and no web address remains.
    """
    svg = re.sub(r"(?s)<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", "", svg)
    svg = re.sub(r"(?s)<defs>\s*<style.*?</style>\s*</defs>", "", svg)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg))
    names = {a or b for a, b in used}
    svg = re.sub(
        r'\sid="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in names else "", svg
    )
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg).replace('href="#', f'href="#{prefix}-')
    svg = re.sub(r"font-family:[^;\"]*;?\s*", "", svg)
    svg = re.sub(r"(?<=[\s\"])font: ([^;\"]*?)([\d.]+)px [^;\"]*", _font, svg)
    back = {pair[0]: f"var(--{name})" for name, pair in PALETTE.items()}
    svg = re.sub(r"(?<![\w&])#[0-9a-f]{6}\b", lambda m: back.get(m[0], m[0]), svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(summary)}" ', 1)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _font(match: re.Match[str]) -> str:
    weight = "; font-weight: 600" if "bold" in match[1] or "700" in match[1] else ""
    return f"font-size: {match[2]}px{weight}"


def line(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    key: Key,
    error: np.ndarray | None = None,
) -> None:
    """A line in the look of a legend entry, with error bars where `error` is given."""
    look = {"color": light(key.colour), "linestyle": key.style}
    ax.plot(x, y, marker=key.marker, markeredgewidth=1.2, **look)
    if error is not None:
        ax.errorbar(x, y, yerr=error, fmt="none", ecolor=light(key.colour), elinewidth=1.1)


def image(ax: Axes, values: np.ndarray, **options) -> None:
    """An image with hard pixel edges that keeps its own resolution in the SVG."""
    ax.imshow(values, interpolation="none", aspect="auto", **options)


def row_ticks(axis: Axis, rows: int) -> None:
    """Whole numbers, thinned out where there are many rows."""
    step = 1 if rows <= 8 else 2 if rows <= 16 else 4
    axis.set_ticks(range(0, rows, step))


def limits(*values: np.ndarray) -> tuple[float, float]:
    """Room on an axis for all values, from 0 if none lies below."""
    numbers = np.concatenate([np.ravel(v) for v in values]) if values else np.empty(0)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return 0.0, 1.0
    low, high = min(float(numbers.min()), 0.0), max(float(numbers.max()), 0.0)
    pad = 0.06 * (high - low or 1)
    return (low - pad if low < 0 else 0.0), high + pad
