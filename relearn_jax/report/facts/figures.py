"""Figures over layers: the score of every component by each localizer, and what probes read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report.draw import Key, Margins, Panel, Plot, light, limits, line, row_ticks
from relearn_jax.report.facts.maps import PART_COLOURS
from relearn_jax.report.facts.methods import PARTS, POSITIONS, ordered, title, unit_of
from relearn_jax.report.facts.reading import Localized

BARS = {part: Key(word, PART_COLOURS[part], "", "band") for part, word in PARTS.items()}
NULL = Key("null: the same without a fact", "before", "x", "")
STATE = Key("state between blocks", "concept", "o", "-")
MIDDLE = Key("between attention and MLP", "layer_matched", "^", "")
SHUFFLED = Key("shuffled answers", "random", "s", "--")
CHANCE = Key("most common answer", "before", "", ":")
PLANTED = Key("planted layer", "band", "", "band")
SCORE, BESIDE = ("score", "low", "high"), ("null", "null_low", "null_high")


def components(run: Localized, planted: Sequence[int]) -> Plot | None:
    """A row for each localizer: attention at the left, MLPs at the right, on one scale."""
    frame = run.tables["scores"]
    panels = []
    for method in ordered(frame["method"]):
        rows = frame[frame["method"] == method]
        span = limits(rows[[*SCORE, *BESIDE]].to_numpy(float))
        unit = unit_of(method)
        panels += [
            _bars(run, rows[rows["part"] == part], span, f"{title(method)}: {word}", unit, part,
                  planted if part == "mlp" else ())
            for part, word in PARTS.items()
        ]  # fmt: skip
    legend = (*BARS.values(), NULL)
    legend += (PLANTED,) if planted else ()
    return Plot("components", tuple(panels), legend, columns=2) if panels else None


def _bars(
    run: Localized,
    rows: pd.DataFrame,
    span: tuple[float, float],
    name: str,
    unit: str,
    part: str,
    planted: Sequence[int],
) -> Panel:
    def draw(ax: Axes) -> None:
        for layer in planted:
            ax.axvspan(layer - 0.5, layer + 0.5, color=light("band"), alpha=0.6, linewidth=0)
        ax.axhline(0, color=light("muted"), linewidth=0.8)
        if rows.empty:
            ax.text(0.5, 0.5, "not scored by this method", ha="center", va="center",
                    transform=ax.transAxes, color=light("muted"))  # fmt: skip
        else:
            means = rows.groupby("layer")[[*SCORE, *BESIDE]].mean()
            x = means.index.to_numpy(float)
            ax.bar(x, means["score"], 0.72, color=light(PART_COLOURS[part]), alpha=0.6)
            _interval(ax, x - 0.18, means, SCORE, "fg")
            if rows["seed"].nunique() > 1:
                for _, seed_rows in rows.groupby("seed"):
                    ax.plot(seed_rows["layer"] + 0.02, seed_rows["score"], linestyle="", marker="o",
                            markersize=2.2, color=light("fg"), alpha=0.55)  # fmt: skip
            _interval(ax, x + 0.22, means, BESIDE, NULL.colour)
            ax.plot(x + 0.22, means["null"], linestyle="", marker=NULL.marker, markersize=4.5,
                    markeredgewidth=1.3, color=light(NULL.colour))  # fmt: skip
        ax.set_ylim(span)
        ax.set_xlim(-0.6, run.layers - 0.4)
        row_ticks(ax.xaxis, run.layers)
        ax.set_xlabel("layer")
        ax.set_ylabel(unit)
        ax.set_title(name)

    return Panel(draw, f"{name}: {unit} by layer", (420, 158), Margins(bottom=38))


def _interval(
    ax: Axes, x: np.ndarray, means: pd.DataFrame, columns: Sequence[str], colour: str
) -> None:
    _, low, high = columns
    if means[low].notna().any():
        ax.vlines(x, means[low], means[high], color=light(colour), linewidth=1.2)


def probes(run: Localized, chance: Mapping[str, float]) -> Plot | None:
    """Accuracy along the stream, one panel for each position."""
    frame = run.tables["probes"]
    panels = []
    for position in dict.fromkeys(frame["position"]):
        rows = frame[frame["position"] == position]
        name = POSITIONS.get(position, position)
        panels.append(_readable(run, rows, name[:1].upper() + name[1:], chance.get(position)))
    keys = (STATE, MIDDLE, SHUFFLED, *((CHANCE,) if chance else ()))
    return Plot("probes", tuple(panels), keys, columns=2) if panels else None


def _readable(run: Localized, rows: pd.DataFrame, name: str, chance: float | None) -> Panel:
    def draw(ax: Axes) -> None:
        if chance is not None:
            ax.axhline(chance, color=light(CHANCE.colour), linewidth=1, linestyle=(0, (2, 2)))
        if rows["seed"].nunique() > 1:
            for _, seed_rows in rows.groupby("seed"):
                stream = _stream(seed_rows)
                ax.plot(stream.index, stream, color=light(STATE.colour), linewidth=0.8, alpha=0.35)
                control = seed_rows[seed_rows["kind"] == "shuffled"].set_index("row")["accuracy"]
                ax.plot(control.index, control, color=light(SHUFFLED.colour), linewidth=0.8,
                        alpha=0.35, linestyle="--")  # fmt: skip
        stream = _stream(rows)
        ax.plot(stream.index, stream, color=light(STATE.colour))
        for kind, key, shift in (("states", STATE, 0.0), ("middle", MIDDLE, 0.5)):
            means = rows[rows["kind"] == kind].groupby("row")["accuracy"].mean()
            ax.plot(means.index + shift, means, linestyle="", marker=key.marker,
                    color=light(key.colour))  # fmt: skip
        means = rows[rows["kind"] == "shuffled"].groupby("row")["accuracy"].mean()
        line(ax, means.index.to_numpy(float), means.to_numpy(float), SHUFFLED)
        ax.set_ylim(-0.03, 1.06)
        ax.set_xlim(-0.4, run.layers + 0.4)
        row_ticks(ax.xaxis, run.layers + 1)
        ax.set_xlabel("state (0: embedding)")
        ax.set_ylabel("accuracy")
        ax.set_title(name)

    return Panel(draw, f"{name}: accuracy of probes by state")


def _stream(rows: pd.DataFrame) -> pd.Series:
    """Means over seeds along the stream: after block l at l + 1, after its attention at l + 0.5."""
    rows = rows[rows["kind"].isin(("states", "middle"))]
    at = rows["row"] + 0.5 * (rows["kind"] == "middle")
    return rows.groupby(at)["accuracy"].mean().sort_index()
