"""Maps of a localization: layer by position, layer by head, method by method, method by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report.draw import Key, Margins, Panel, Plot, light, row_ticks
from relearn_jax.report.facts.grids import (
    ROOM,
    grid_panel,
    largest,
    mean_grid,
    runs,
    scale,
    shaded,
    spaced,
)
from relearn_jax.report.facts.methods import PARTS, PLACES, ordered, short, title
from relearn_jax.report.facts.reading import Localized

PART_COLOURS = {"attention": "random", "mlp": "concept"}
FRAME = Key("planted layer (frame)", "fg", "", "-")


WHOLE_STATES = ("tracing", "interchange")
"""Maps of whole states alone; they have a figure of their own."""


def positions(run: Localized) -> Plot | None:
    """Layer by position, mean over seeds: a row of maps for each method, and a row of nulls."""
    frame = run.tables["maps"]
    panels: list[Panel] = []
    for method in ordered(frame.loc[~frame["method"].isin(WHOLE_STATES), "method"]):
        rows = [
            _beside(cells, f"{title(method)}: {PLACES[place]}", "block", 340)
            for place in PLACES
            if len(cells := frame[(frame["method"] == method) & (frame["place"] == place)])
        ]
        for row in zip(*rows, strict=True):
            panels += row
    return Plot("positions", tuple(panels), columns=3) if panels else None


def states(run: Localized) -> Plot | None:
    """Layer by position for whole states: causal tracing, and interchange, with their nulls."""
    frame = run.tables["maps"]
    panels: list[Panel] = []
    for method, name, row in (
        ("tracing", "Tracing: state that enters", "block"),
        ("interchange", "Interchange: answers turned", "state"),
    ):
        cells = frame[(frame["method"] == method) & (frame["place"] == "states")]
        if len(cells):
            panels += _beside(cells, name, row, 420)
    return Plot("states", tuple(panels), columns=2) if panels else None


def heads(run: Localized) -> Plot | None:
    """Layer by head, with nulls."""
    frame = run.tables["heads"]
    panels: list[Panel] = []
    for method in ordered(frame["method"]):
        cells = frame[frame["method"] == method]
        grids = [mean_grid(cells, "head", value) for value in ("share", "null")]
        count = grids[0].shape[1]
        ticks = [(x, str(x)) for x in range(0, count, 1 if count <= 16 else 4)]
        panels += [
            grid_panel(values, name, "block", ticks, "head", 420, largest(*grids))
            for values, name in zip(grids, (title(method), null_of(title(method))), strict=True)
        ]
    return Plot("heads", tuple(panels), columns=2) if panels else None


def null_of(name: str) -> str:
    """Title of a null's panel."""
    return f"Null of {name[:1].lower() + name[1:] if name[1:2].islower() else name}"


def _beside(cells: pd.DataFrame, name: str, row: str, width: float) -> tuple[Panel, Panel]:
    """A map by position and its null, on one scale."""
    grids = [mean_grid(cells, "position", value) for value in ("share", "null")]
    top = largest(*grids)
    return tuple(
        _map(cells, values, text, row, width, top)
        for values, text in zip(grids, (name, null_of(name)), strict=True)
    )


def _map(
    cells: pd.DataFrame, values: np.ndarray, name: str, row: str, width: float, top: float
) -> Panel:
    roles = [
        part.iloc[0] if part.nunique() == 1 else "various"
        for _, part in cells.groupby("position")["role"]
    ]
    spans = runs(roles)
    ticks = spaced(spans, (width - ROOM.left - ROOM.right) / values.shape[1])
    panel = grid_panel(values, name, row, ticks, "", width, top, slanted=True)
    edges = [begin - 0.5 for begin, _, _ in spans[1:]]

    def draw(ax: Axes) -> None:
        panel.draw(ax)
        for edge in edges:
            ax.axvline(edge, color=light("muted"), linewidth=0.6, linestyle=(0, (1, 2)))

    count = values.shape[1]
    about = f"{name}: {row} by position, {len(values)} by {count}"
    return panel._replace(draw=draw, summary=about)


def agreement(run: Localized) -> Plot | None:
    """Method by method: rank correlation, and overlap of what is chosen."""
    frame = run.tables["agreement"]
    names = ordered([*frame["method_a"], *frame["method_b"]])
    if not names:
        return None
    left = 14 + 6.4 * max(len(short(n)) for n in names)
    room = Margins(left=left, right=50, bottom=66, top=27)
    panels = []
    for column, name in (("spearman", "Rank correlation (Spearman)"),
                         ("jaccard", "Shared choice (Jaccard)")):  # fmt: skip
        values = np.full((len(names), len(names)), np.nan)
        for (a, b), cells in frame.groupby(["method_a", "method_b"]):
            i, j = names.index(a), names.index(b)
            values[i, j] = values[j, i] = cells[column].mean()

        def draw(ax: Axes, values=values, name=name) -> None:
            shaded(ax, values, 1.0, least=0.0)
            ticks, words = range(len(names)), [short(n) for n in names]
            ax.set_xticks(ticks, words, rotation=40, ha="right", rotation_mode="anchor")
            ax.set_yticks(ticks, words)
            ax.set_title(name)
            scale(ax, 1.0, values)

        size = (420, room.top + room.bottom + 30 * len(names))
        panels.append(Panel(draw, f"{name} of every two methods", size, room))
    return Plot("agreement", tuple(panels), columns=2)


def selections(run: Localized, planted: Sequence[int]) -> Plot | None:
    """Which components each method chooses: methods by layers, attention and MLP apart."""
    frame = run.tables["selections"]
    names = ordered(frame["method"])
    if not names:
        return None
    left = 14 + 6.3 * max(len(short(n)) for n in names)
    room = Margins(left=left, right=8, bottom=40, top=27)
    share = frame.groupby(["part", "method", "layer"])["share"].mean()
    panels = []
    for part, word in PARTS.items():

        def draw(ax: Axes, part=part, word=word) -> None:
            for layer in planted if part == "mlp" else ():
                ax.axvspan(layer - 0.5, layer + 0.5, edgecolor=light(FRAME.colour), fill=False,
                           linewidth=1.6, zorder=3)  # fmt: skip
            for y, name in enumerate(names):
                ax.broken_barh([(-0.46, run.layers - 0.08)], (y - 0.4, 0.8),
                               color=light("faint"), zorder=1)  # fmt: skip
                for x in range(run.layers):
                    often = float(share.get((part, name, x), 0.0))
                    if often:
                        ax.broken_barh([(x - 0.46, 0.92)], (y - 0.4, 0.8), zorder=2,
                                       color=light(PART_COLOURS[part]), alpha=often)  # fmt: skip
            ax.set_yticks(range(len(names)), [short(n) for n in names])
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.set_xlim(-0.55, run.layers - 0.45)
            row_ticks(ax.xaxis, run.layers)
            ax.set_xlabel("layer")
            ax.grid(False)
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_title(word[:1].upper() + word[1:])

        about = f"{word}: layers chosen by each of {len(names)} methods"
        size = (420, room.top + room.bottom + 19 * len(names))
        panels.append(Panel(draw, about, size, room))
    keys = tuple(
        Key(f"{word} chosen", PART_COLOURS[part], "", "band") for part, word in PARTS.items()
    )
    return Plot("selections", tuple(panels), (*keys, *((FRAME,) if planted else ())), columns=2)
