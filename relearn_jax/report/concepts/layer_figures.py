"""Figures by layer: measures at the main stages, change in every arm, similarity over its null.

The panels of one measure share their vertical scale, so that pruned and unpruned compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.figures import ARM_KEYS, arm_keys, row_word
from relearn_jax.report.concepts.layer_tables import EVERY, GROUPS, shown_stages
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm, stage_name, tracked_arms
from relearn_jax.report.draw import Key, Panel, Plot, light, limits, line, row_ticks
from relearn_jax.report.tables import Table

THEORY = Key("rank arithmetic alone", "theory", "", ":")
BAND = Key("null, 95 %", "band", "", "band")


class Curve(NamedTuple):
    """One line over the layers; `error` is the half width of its bars."""

    key: Key
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray | None = None


class Measure(NamedTuple):
    """A page table, its measure's name in the layers table, and what axes and titles call it."""

    table: Table
    measure: str
    label: str
    title: str


def stage_keys(stages: Sequence[str]) -> dict[str, Key]:
    """The look of base, pruned, first round and last stage."""
    looks = {
        "base": Key("base", "before", "o", ":"),
        "pruned": Key("pruned", "cut", "x", "-."),
        "round1": Key("round 1", "first", "s", "--"),
    }
    last = Key(stage_name(stages[-1]), "last", "o", "-")
    return {s: looks[s] if s in looks and s != stages[-1] else last for s in stages}


def by_layer(run: Run, measures: Sequence[Measure], name: str) -> Plot:
    """Measures by layer at the main stages in the main arm, pruned and unpruned apart.

    Bars are the 95 % interval of the mean over neurons, averaged over seeds. Pruned neurons whose
    scores are all equal are not drawn by rank: their order is that of their ids.
    """
    arm = main_arm(run)
    keys = stage_keys(shown_stages(run, arm, "layers"))
    panels: list[Panel] = []
    legend = tuple(keys.values())
    for item in measures:
        rows = table_rows(item.table, arm)
        parts = {g: _stage_curves(run, item, arm, g, keys, measures) for g in GROUPS}
        if "arithmetic_unpruned" in rows:
            parts["unpruned"].append(_curve(THEORY, rows, "arithmetic_unpruned"))
            legend = (*keys.values(), THEORY)
        span = limits_of([c for curves in parts.values() for c in curves])
        panels += [layer_panel(run, parts[g], span, item.label, f"{g.capitalize()}{item.title}")
                   for g in GROUPS]  # fmt: skip
    return Plot(name, tuple(panels), legend)


def change_by_arm(run: Run, measures: Sequence[Measure], name: str) -> Plot:
    """What relearning did to each layer, in every arm: last stage minus base."""
    panels: list[Panel] = []
    for item in measures:
        parts: dict[str, list[Curve]] = {g: [] for g in GROUPS}
        for arm in tracked_arms(run):
            rows, last = table_rows(item.table, arm), last_stage(run, arm, "layers")
            for group in GROUPS:
                if f"{last}_{group}" in rows and f"base_{group}" in rows:
                    change = rows[f"{last}_{group}"] - rows[f"base_{group}"]
                    curve = Curve(ARM_KEYS[arm], _x(rows), change.to_numpy(float))
                    parts[group].append(curve)
        span = limits_of([c for curves in parts.values() for c in curves])
        panels += [
            layer_panel(
                *(run, parts[g], span, f"change in {item.label}"),
                *(f"{g.capitalize()}{item.title}", None, True),
            )
            for g in GROUPS
        ]
    return Plot(name, tuple(panels), arm_keys(run))


def similarity(run: Run, table: Table, arms: Sequence[str]) -> Plot:
    """Similarity to the base model by layer, over the band of its null."""
    stages = shown_stages(run, main_arm(run), "layers")
    stages = tuple(s for s in stages if s.startswith("round")) or stages[-1:]
    keys = stage_keys(stages)
    item = Measure(table, "similarity", "similarity to base", "")
    parts, bands = {}, {}
    for arm in arms:
        rows = table_rows(table, arm)
        for group in GROUPS:
            curves = []
            for place, (stage, key) in enumerate(keys.items()):
                final = place == len(keys) - 1
                error = _error(run, item.measure, arm, stage, group, rows) if final else None
                curves.append(_curve(key, rows, f"{'last' if final else 'first'}_{group}", error))
            parts[arm, group] = curves
            bands[arm, group] = [_values(rows, f"{end}_{group}") for end in ("low", "high")]
    edges = [Curve(BAND, b, b) for pair in bands.values() for b in pair]
    span = limits_of([*edges, *(c for curves in parts.values() for c in curves)])
    panels = [
        layer_panel(run, curves, span, item.label, f"{ARM_NAMES[arm].capitalize()} arm, {group}",
               bands[arm, group])
        for (arm, group), curves in parts.items()
    ]  # fmt: skip
    return Plot("similarity", tuple(panels), (*keys.values(), BAND))


def _stage_curves(
    run: Run,
    item: Measure,
    arm: str,
    group: str,
    keys: dict[str, Key],
    measures: Sequence[Measure],
) -> list[Curve]:
    rows = table_rows(item.table, arm)
    free = next((m.table for m in measures if m.measure == "saliency_standardized"), None)
    curves = []
    for stage, key in keys.items():
        column = f"{stage}_{group}"
        tied = (
            item.measure == "saliency_rank"
            and free is not None
            and column in free.frame
            and table_rows(free, arm)[column].abs().max() < 1e-9
        )
        if column in rows and not tied:
            error = _error(run, item.measure, arm, stage, group, rows)
            curves.append(_curve(key, rows, column, error))
    return curves


def table_rows(table: Table, arm: str):
    """The rows of one arm, layers in order, without the row for all of them."""
    frame = table.frame
    frame = frame[(frame["arm"] == arm) & (frame["layer"] != EVERY)]
    return frame.sort_values("layer", key=lambda x: x.astype(int))


def _x(rows) -> np.ndarray:
    return rows["layer"].to_numpy(float)


def _curve(key: Key, rows, column: str, error: np.ndarray | None = None) -> Curve:
    return Curve(key, _x(rows), _values(rows, column), error)


def _values(rows, column: str) -> np.ndarray:
    return rows[column].to_numpy(float) if column in rows else np.full(len(rows), np.nan)


def _error(run: Run, measure: str, arm: str, stage: str, group: str, rows) -> np.ndarray:
    frame = run.tables["layers"]
    use = (frame["arm"] == arm) & (frame["stage"] == stage) & (frame["pruned"] == group)
    frame = frame[use & (frame["measure"] == measure) & (frame["concept"] == run.target)]
    return frame.groupby("layer")["ci95"].mean().reindex(list(rows["layer"])).to_numpy(float)


def limits_of(curves: Iterable[Curve]) -> tuple[float, float]:
    """Room for all curves with their bars, from 0 if none goes below."""
    ends = [
        c.y + sign * np.nan_to_num(c.error if c.error is not None else np.zeros_like(c.y))
        for c in curves
        for sign in (-1, 1)
    ]
    return limits(*ends)


def layer_panel(
    run: Run,
    curves: list[Curve],
    span: tuple[float, float],
    label: str,
    title: str,
    band: list[np.ndarray] | None = None,
    zero: bool = False,
) -> Panel:
    """Curves over the layers, above the band of a null, with a rule at 0 if asked for."""
    rows = int(run.manifest["neurons"]["rows"])

    def draw(ax: Axes) -> None:
        if zero or span[0] < 0:
            ax.axhline(0, color=light("muted"), linewidth=0.8)
        if band is not None and curves:
            ax.fill_between(curves[0].x, *band, color=light("band"), alpha=0.75, linewidth=0)
        for curve in curves:
            line(ax, curve.x, curve.y, curve.key, curve.error)
        ax.set_ylim(span)
        ax.set_xlim(-0.4, rows - 0.6)
        row_ticks(ax.xaxis, rows)
        ax.set_xlabel("state (0: embedding)" if row_word(run) == "state" else "block")
        ax.set_ylabel(label)
        ax.set_title(title)

    return Panel(draw, f"{title}: {label} by {row_word(run)}")
