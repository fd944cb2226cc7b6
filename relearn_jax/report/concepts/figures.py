"""Figures of the task and of single neurons, one function each.

Axes: S rows (states or blocks), D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.reading import Run, stage_name
from relearn_jax.report.draw import Key, Margins, Panel, Plot, image, light, line, row_ticks

LOOKS = {
    "concept": ("o", "-"),
    "random": ("s", "--"),
    "layer_matched": ("^", "-."),
    "bottom": ("D", ":"),
    "oracle": ("v", "-"),
}
# Greys that hold on a white and on a black page.
MARKED, UNMARKED = (0.45, 0.47, 0.5, 1.0), (0.5, 0.5, 0.5, 0.14)
BASE = Key("base model", "before", "", ":")
ARM_KEYS = {arm: Key(ARM_NAMES[arm], arm, *look) for arm, look in LOOKS.items()}


def arm_keys(run: Run) -> tuple[Key, ...]:
    """Legend entries of the arms of this run."""
    return tuple(ARM_KEYS[arm] for arm in run.arms)


def task(run: Run, kinds: tuple[str, ...], name: str, size: tuple[float, float]) -> Plot:
    """F1 against retraining epochs for every arm, one panel for each entity type."""
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == "word") & scores["type"].isin(kinds)]
    top = f1_top(scores)
    panels = []
    for kind in kinds:
        title = "All entity types" if kind == "all" else kind
        label = "all entity types" if kind == "all" else kind
        draw = partial(curves, run=run, kind=kind, top=top, title=title)
        panels.append(Panel(draw, f"F1 on {label} against retraining epochs, by arm", size))
    return Plot(name, tuple(panels), (*arm_keys(run), BASE), columns=min(len(panels), 3))


def f1_top(scores: pd.DataFrame) -> float:
    """The end of an axis that has room for these scores."""
    return min(1.0, float(scores["f1"].max()) * 1.08 + 0.02)


def curves(ax: Axes, run: Run, kind: str, top: float, title: str) -> None:
    """F1 on one entity type against retraining epochs, for every arm; the axis ends at `top`."""
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == "word") & (scores["type"] == kind)]
    base = scores.loc[scores["stage"] == "base", "f1"]
    ax.axhline(base.mean(), color=light("before"), linewidth=1, linestyle=(0, (2, 2)))
    for place, arm in enumerate(run.arms):
        # Side by side, since arms that recover alike would hide each other.
        beside = 0.09 * (place - (len(run.arms) - 1) / 2)
        _curve(ax, scores[scores["arm"] == arm], ARM_KEYS[arm], beside)
    _epochs(ax, run, scores)
    ax.set_ylim(-0.02 * top, top)
    ax.set_ylabel("F1")
    ax.set_title(title)


def stepwise(run: Run) -> bool:
    """Whether the first round was scored within its epochs."""
    scores = run.tables["scores"]
    return "step" in scores and bool((scores["epoch"] % 1 > 0).any())


def first_steps(run: Run, kind: str) -> Plot:
    """F1 on one entity type against the steps of the first round, for every arm."""
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == "word") & (scores["type"] == kind)]

    def draw(ax: Axes) -> None:
        base = scores.loc[scores["stage"] == "base", "f1"]
        ax.axhline(base.mean(), color=light("before"), linewidth=1, linestyle=(0, (2, 2)))
        first = scores[(scores["arm"] != "base") & (scores["round"] <= 1)]
        for arm in run.arms:
            _curve(ax, first[first["arm"] == arm], ARM_KEYS[arm], 0, "step")
        steps = sorted(first["step"].unique())
        ax.set_xscale("symlog", linthresh=5, linscale=0.6)
        ax.set_xticks(steps, [f"{step:g}" for step in steps])
        ax.minorticks_off()
        ax.set_ylim(-0.02, f1_top(scores))
        ax.set_xlabel("steps of the first round")
        ax.set_ylabel("F1")
        ax.set_title(kind if kind != "all" else "All entity types")

    panel = Panel(draw, f"F1 on {kind} against steps of the first round, by arm", (620, 300))
    return Plot("first_steps", (panel,), (*arm_keys(run), BASE), columns=1)


def _curve(ax: Axes, scores, key: Key, beside: float, along: str = "epoch") -> None:
    scores = scores[(scores["stage"] == "pruned") | (scores["epoch"] > 0)]
    wide = scores.pivot_table(index=along, columns="seed", values="f1")
    if wide.empty:
        return
    if wide.shape[1] > 1:
        for seed in wide:
            x = wide.index + beside
            ax.plot(x, wide[seed], color=light(key.colour), linewidth=0.8, alpha=0.4)
    line(ax, wide.index.to_numpy() + beside, wide.mean(axis=1).to_numpy(), key)


def _epochs(ax: Axes, run: Run, scores) -> None:
    retrain = run.config.get("retrain") or {}
    done = scores.loc[scores["arm"] != "base", "epoch"]
    step, last = int(retrain.get("epochs", 1)), int(done.max()) if len(done) else 0
    spacing = max(1, -(-last // 8))
    ticks = [0, *range(spacing, last + 1, spacing)]
    ax.set_xticks(ticks, ["pruned", *map(str, ticks[1:])])
    for end in range(step, last, step):
        ax.axvline(end, color=light("rule"), linewidth=0.7, zorder=0)
    ax.set_xlim(-0.35, max(last, 1) + 0.35)
    ax.set_xlabel("retraining epochs")


def heat_maps(
    run: Run, maps: Mapping[str, np.ndarray], cut: np.ndarray | None, name: str, top: float
) -> Plot:
    """Saliency of every neuron, one [S, D] map to a stage, and the mask of the pruned ones.

    `top` is the value of the brightest colour.
    """
    panels = []
    stack = [("pruned neurons (filled)", cut.astype(float))] if cut is not None else []
    stages = [(stage_name(s), m) for s, m in maps.items()]
    images = [*stages[:1], *stack, *stages[1:]]
    for index, (title, values) in enumerate(images):
        binary = values is cut or title.startswith("pruned neurons")
        final = index == len(images) - 1

        def draw(ax: Axes, values=values, title=title, binary=binary, final=final) -> None:
            if binary:
                image(ax, np.where(values[..., None] > 0, MARKED, UNMARKED))
            else:
                image(ax, values, cmap="viridis", vmin=0, vmax=top)
            ax.grid(False)
            row_ticks(ax.yaxis, len(values))
            ax.set_ylabel(row_word(run))
            ax.set_title(title)
            if not final:
                ax.set_xticklabels([])
            else:
                ax.set_xlabel("channel")

        room = Margins(left=48, right=4, top=23, bottom=38 if final else 7)
        height = room.top + room.bottom + (11 if len(values) <= 8 else 8) * len(values)
        summary = f"{title}: {row_word(run)} by channel, {values.shape[0]} by {values.shape[1]}"
        panels.append(Panel(draw, summary, (1000, height), room))
    return Plot(name, tuple(panels), columns=1)


def scale_top(maps: Mapping[str, np.ndarray], top: float | None) -> float:
    """The value of the brightest colour: `top`, or a high quantile, which leaves outliers out."""
    values = np.concatenate([m[np.isfinite(m)] for m in maps.values()])
    if top is not None or not values.size:
        return top or 1.0
    return float(np.quantile(values, 0.995)) or 1.0


def colour_bar(name: str, top: float, label: str) -> Plot:
    """The scale of the heat maps."""

    def draw(ax: Axes) -> None:
        image(ax, np.linspace(0, 1, 128)[None], cmap="viridis", extent=(0, top, 0, 1))
        ax.set_yticks([])
        ax.grid(False)
        ax.spines["left"].set_visible(False)
        ax.set_title(label, fontweight="normal", fontsize=12)

    room = Margins(left=8, right=8, top=20, bottom=26)
    return Plot(
        name, (Panel(draw, f"Colour scale: {label}, 0 to {top:.2g}", (300, 62), room),), saved=False
    )


def row_word(run: Run) -> str:
    """What a row is: a hidden state, or a block whose feed-forward units are followed."""
    return "block" if run.manifest["neurons"].get("site") == "mlp" else "state"


def density(points: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Plot:
    """Saliency against similarity of all neurons of the main arm, as a density."""
    panels = []
    for group, (x, y) in points.items():

        def draw(ax: Axes, x=x, y=y, group=group) -> None:
            low = min(-0.2, float(x.min())) if x.size else -0.2
            counts, _, _ = np.histogram2d(y, x, bins=(36, 48), range=((0, 1), (low, 1)))
            # One colour that holds on either background; the density is its opacity.
            rgba = np.empty((*counts.shape, 4))
            rgba[..., :3] = (0.16, 0.53, 0.80) if group == "unpruned" else (0.85, 0.42, 0.24)
            rgba[..., 3] = np.sqrt(counts / max(counts.max(), 1))
            image(ax, rgba, origin="lower", extent=(low, 1, 0, 1))
            ax.set_xlabel("similarity to base")
            ax.set_ylabel("saliency by rank")
            ax.set_title(f"{group.capitalize()} neurons (n = {x.size})")

        panels.append(Panel(draw, f"Saliency against similarity, {group} neurons"))
    return Plot("relation", tuple(panels))
