"""Grids whose colours are values, with numbers where cells are few and a scale of their own.

A colour's opacity is the size of a value, so that one drawing serves light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report.draw import FEWER, FULL, MORE, Margins, Panel, image, light, row_ticks
from relearn_jax.report.tables import show

WRITTEN = 12
"""Grids with more rows or columns than this carry no numbers."""
ROOM = Margins(left=40, right=50, bottom=42, top=27)
LINE = 17
"""Least distance of two slanted labels, in points."""


def mean_grid(frame: pd.DataFrame, column: str, value: str = "share") -> np.ndarray:
    """[layer, column] means over seeds; NaN where there is none."""
    grid = frame.groupby(["layer", column])[value].mean().unstack()
    return grid.reindex(index=range(int(grid.index.max()) + 1),
                        columns=range(int(grid.columns.max()) + 1)).to_numpy(float)  # fmt: skip


def runs(roles: Sequence[str]) -> list[tuple[int, int, str]]:
    """Neighbours with the same role, as (first, last, role)."""
    spans: list[tuple[int, int, str]] = []
    for place, role in enumerate(roles):
        if spans and spans[-1][2] == role:
            spans[-1] = (spans[-1][0], place, role)
        else:
            spans.append((place, place, role))
    return spans


def spaced(spans: Sequence[tuple[int, int, str]], step: float) -> list[tuple[float, str]]:
    """Ticks at the middle of runs of positions, where there is room for their labels.

    If two labels would meet, the subject's end and the last position keep theirs, then longer runs.
    The label of a run of various roles says its positions.
    """
    first = {"last": 3, "subject end": 2, "subject": 1}
    order = sorted(spans, key=lambda s: (-first.get(s[2], 0), s[0] - s[1]))
    kept: list[tuple[float, str]] = []
    for begin, end, role in order:
        middle = (begin + end) / 2
        if all(abs(middle - other) * step >= LINE for other, _ in kept):
            where = f" {begin}" if begin == end else f" {begin}–{end}"
            kept.append((middle, role + (where if role == "various" else "")))
    return sorted(kept)


def grid_panel(
    values: np.ndarray,
    name: str,
    row: str,
    ticks: Sequence[tuple[float, str]],
    label: str,
    width: float,
    top: float,
    slanted: bool = False,
) -> Panel:
    """A grid over layers, with its scale up to `top` at the right.

    A grid of few cells has its numbers in them.
    """
    rows = len(values)
    height = min(max(230 / rows, 6.5), 30) * rows
    room = ROOM._replace(bottom=66) if slanted else ROOM

    def draw(ax: Axes) -> None:
        shaded(ax, values, top)
        ax.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
        if slanted:
            ax.tick_params(axis="x", labelrotation=40)
            for text in ax.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        row_ticks(ax.yaxis, rows)
        ax.set_xlabel(label)
        ax.set_ylabel(row)
        ax.set_title(name)
        scale(ax, top, values)

    size = (width, room.top + room.bottom + height)
    return Panel(draw, f"{name}: {row} by {label}, {rows} by {values.shape[1]}", size, room)


def largest(*grids: np.ndarray) -> float:
    """The largest size of any value, for a scale that grids share."""
    return max((float(np.nanmax(np.abs(g))) for g in grids if np.isfinite(g).any()), default=0.0)


def shaded(ax: Axes, values: np.ndarray, top: float, least: float = 0.005) -> None:
    """Blue above 0, orange below; opacity is size over `top`.

    Sizes below `least` are not written as numbers.
    """
    rgba = np.zeros((*values.shape, 4))
    rgba[..., :3] = np.where((values >= 0)[..., None], MORE, FEWER)
    rgba[..., 3] = FULL * np.nan_to_num(np.abs(values)) / (top or 1)
    image(ax, rgba)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set(visible=True, color=light("rule"))
    if max(values.shape) > WRITTEN:
        return
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value) and abs(value) >= least:
            text = show(value, "f2")
            text = text.replace("0.", ".", 1)
            ax.text(x, y, text, ha="center", va="center", color=light("fg"), fontsize=9.5)


def scale(ax: Axes, top: float, values: np.ndarray) -> None:
    """The scale of a grid, at its right; down to `-top` if any value is below 0."""
    both = bool(np.nanmin(values, initial=0) < -0.005)
    bar = ax.inset_axes([1.03, 0, 0.035, 1])
    steps = np.linspace(top, -top if both else 0.0, 64)[:, None]
    shaded(bar, steps, top)
    ends = [top, 0.0, -top] if both else [top, 0.0]
    bar.set_xticks([])
    bar.set_yticks(np.linspace(0, 63, len(ends)), [show(v, "f2") for v in ends])
    bar.yaxis.tick_right()
    bar.tick_params(labelsize=10, pad=2)
