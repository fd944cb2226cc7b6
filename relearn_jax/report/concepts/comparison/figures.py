"""Figures that compare groups: small multiples, one panel a group, and who stands for what."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.comparison.reading import Sets, size
from relearn_jax.report.concepts.figures import BASE, arm_keys, curves, f1_top
from relearn_jax.report.concepts.layer_figures import Curve, layer_panel, limits_of, stage_keys
from relearn_jax.report.concepts.layer_tables import EVERY
from relearn_jax.report.concepts.reading import main_arm, stage_name
from relearn_jax.report.concepts.task_tables import target_type
from relearn_jax.report.draw import FEWER, FULL, MORE, Margins, Panel, Plot, image, light
from relearn_jax.report.tables import Table, show


def ordered(sets: Sets) -> list[str]:
    """Names of groups, sorted by size and regrowth, so that each column of panels is a concept."""
    kinds = {g.name: (size(g), g.regrowth) for g in sets.groups}
    order = list(dict.fromkeys(kinds.values()))
    return sorted(sets.runs, key=lambda name: order.index(kinds[name]))


def _columns(sets: Sets) -> int:
    concepts = len({g.target for g in sets.groups})
    wide = concepts if concepts > 1 else len(sets.groups)
    return wide if wide <= 3 else 2 if wide == 4 else 3


def _size(sets: Sets) -> tuple[float, float]:
    return (340, 250) if _columns(sets) == 3 else (420, 270)


def recovery(sets: Sets) -> Plot:
    """F1 on the target concept against retraining epochs."""
    kinds = {name: target_type(run) for name, run in sets.runs.items()}
    top = f1_top(pd.concat([run.tables["scores"] for run in sets.runs.values()]))
    panels = []
    for name in ordered(sets):
        title = sets.labels[name]
        draw = partial(curves, run=sets.runs[name], kind=kinds[name], top=top, title=title)
        about = f"{title}: F1 on {kinds[name]} against retraining epochs, by arm"
        panels.append(Panel(draw, about, _size(sets)))
    legend = (*arm_keys(sets.run), BASE)
    return Plot("sets_recovery", tuple(panels), legend, _columns(sets))


def by_layer(sets: Sets, table: Table) -> Plot:
    """Scale-free saliency of the target concept by layer, with the deviation over seeds."""
    stages = tuple(dict.fromkeys(("base", "pruned", sets.last)))
    keys = stage_keys(stages)
    parts = {}
    for name in ordered(sets):
        frame = table.frame[table.frame["layer"] != EVERY]
        frame = frame[frame["group"] == sets.labels[name]]
        frame = frame.sort_values("layer", key=lambda x: x.astype(int))
        x = frame["layer"].to_numpy(float)
        parts[name] = [
            Curve(key, x, frame[s].to_numpy(float), frame[f"{s}_sd"].to_numpy(float))
            for s, key in keys.items()
        ]
    limits = limits_of([c for curves in parts.values() for c in curves])
    panels = tuple(
        layer_panel(sets.run, lines, limits, "scale-free saliency", sets.labels[name])
        for name, lines in parts.items()
    )
    panels = tuple(panel._replace(size=_size(sets)) for panel in panels)
    return Plot("sets_layers", panels, tuple(keys.values()), _columns(sets))


def takeover(sets: Sets, table: Table) -> Plot:
    """Which concepts the pruned neurons stand for, minus chance, before pruning and at the end."""
    arm = main_arm(sets.run)
    shown = [(arm, "was_beyond", "base"), (arm, "beyond", stage_name(sets.last))]
    if "random" in sets.run.arms and arm != "random":
        shown.append(("random", "beyond", stage_name(sets.last)))
    frame = table.frame
    concepts, rows = (list(dict.fromkeys(frame[key])) for key in ("concept", "group"))
    grids = [
        frame[frame["arm"] == name]
        .pivot(index="group", columns="concept", values=column)
        .reindex(index=rows, columns=concepts)
        .to_numpy(float)
        for name, column, _ in shown
    ]
    most = max((np.nanmax(np.abs(g)) for g in grids if np.isfinite(g).any()), default=1.0) or 1.0
    room = Margins(left=14 + 7 * max(map(len, rows)), right=4, bottom=26, top=27)
    area = (room.left + max(58 * len(concepts), 200), 53 + 30 * len(rows))
    panels = []
    for (name, _, when), grid in zip(shown, grids, strict=True):
        title = f"{ARM_NAMES[name].capitalize()} arm, {when}"
        draw = partial(_squares, grid=grid, most=most, rows=rows, columns=concepts, title=title)
        about = f"{title}: pruned neurons among the first of each concept, minus chance"
        panels.append(Panel(draw, about, area, room))
    return Plot("sets_takeover", tuple(panels), columns=len(panels))


def _squares(
    ax: Axes, grid: np.ndarray, most: float, rows: list[str], columns: list[str], title: str
) -> None:
    rgba = np.zeros((*grid.shape, 4))
    rgba[..., :3] = np.where((grid > 0)[..., None], MORE, FEWER)
    rgba[..., 3] = FULL * np.nan_to_num(np.abs(grid)) / most
    image(ax, rgba)
    for (y, x), value in np.ndenumerate(grid):
        written = show(value, "points")
        ax.text(x, y, written, ha="center", va="center", color=light("fg"), fontsize=11)
    ax.grid(False)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
