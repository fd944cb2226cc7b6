"""Figures of an editing run: arms by format, recovery under attack, and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.evaluation.shares import Items, Share, share
from relearn_jax.report.draw import (
    Key,
    Margins,
    Panel,
    Plot,
    image,
    light,
    line,
    row_ticks,
)
from relearn_jax.report.facts.edits.reading import EditRun
from relearn_jax.report.facts.edits.words import ORIGINAL, arm_short, format_label

RIGHT = Key("right answer", "concept", "o", "")
INJECTED = Key("injected answer", "random", "^", "")
CURVES = {
    ORIGINAL: Key("before the edit", "before", "", "-"),
    "oracle": Key("oracle: never taught", "oracle", "s", "--"),
    "planted": Key("planted layers", "layer_matched", "o", "-"),
    "probes": Key("probes", "concept", "^", "-"),
    "nonlocalized": Key("everything", "random", "D", "-"),
    "sham": Key("sham: random update", "bottom", "x", ":"),
}
"""Arms with a look of their own in the figure of recovery; the others are thin lines."""
OTHER = Key("other arms", "band", "", "-")
ROW = 17
"""Height of an arm's row, in points."""
FORGOTTEN = ("forget", "held_out")


def formats(run: EditRun) -> Plot | None:
    """Forgotten facts by arm and format: right and injected answers, with intervals."""
    frame = run.edits["answers"]
    frame = frame[frame["group"].isin(FORGOTTEN)]
    names = [run.format, *(f for f in dict.fromkeys(frame["format"]) if f != run.format)]
    names = [name for name in names if (frame["format"] == name).any()]
    panels = tuple(_format_panel(run, frame[frame["format"] == name], name) for name in names)
    return Plot("formats", panels, (RIGHT, INJECTED), columns=3) if panels else None


def _format_panel(run: EditRun, rows: pd.DataFrame, name: str) -> Panel:
    arms = run.arms
    title = format_label(name) + (" (edited)" if name == run.format else "")
    means = {
        column: [_interval(rows.loc[rows["arm"] == arm, ["seed", "fact", column]]) for arm in arms]
        for column in ("right", "says_injected")
    }

    def draw(ax: Axes) -> None:
        for (column, key), shift in zip(
            (("right", RIGHT), ("says_injected", INJECTED)), (-0.14, 0.14), strict=True
        ):
            values = np.array(means[column])
            at = np.arange(len(arms)) + shift
            ax.hlines(at, values[:, 1], values[:, 2], color=light(key.colour), linewidth=1.2)
            ax.plot(
                *(values[:, 0], at), linestyle="", marker=key.marker, color=light(key.colour),
                markersize=4.5,
            )  # fmt: skip
        _arm_axis(ax, arms)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("share of forgotten facts")
        ax.set_title(title)

    return Panel(draw, f"{title}: answers to forgotten facts by arm", _size(arms), _room())


def _arm_axis(ax: Axes, arms: Sequence[str]) -> None:
    ax.set_yticks(range(len(arms)), [arm_short(arm) for arm in arms])
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.grid(axis="y", alpha=0.5)


def _size(arms: Sequence[str], width: float = 400) -> tuple[float, float]:
    return width, 27 + 44 + ROW * len(arms)


def _room() -> Margins:
    return Margins(left=150, bottom=42)


def _interval(rows: pd.DataFrame) -> Share:
    """Mean over facts of all seeds, with its interval; `rows` are seed, fact and a value."""
    return share(
        [
            Items(values, np.ones(len(values)), np.zeros(len(values)))
            for _, own in rows.groupby("seed")
            for values in (own.iloc[:, 2].to_numpy(float),)
        ]
    )


def recovery(run: EditRun) -> Plot | None:
    """Held-out facts under attack: curves at the attacker's best learning rate, and the rates."""
    curves, arms = run.edits["attacks"], run.edits["arms"]
    if curves.empty:
        return None
    attacked = [arm for arm in run.arms if (curves["arm"] == arm).any()]
    known = tuple(CURVES[arm] for arm in CURVES if arm in attacked)
    others = (OTHER,) if set(attacked) - set(CURVES) else ()
    panels = (
        _curve_panel(run, curves, arms, attacked),
        _rate_panel(run.edits["verdicts"], arms, [a for a in attacked if a != ORIGINAL]),
    )
    return Plot("recovery", panels, (*known, *others), columns=2)


def at_best(run: EditRun, arm: str) -> pd.DataFrame:
    """The curve of an arm in the attacker's best way, a mean over seeds, by step."""
    curves, arms = run.edits["attacks"], run.edits["arms"]
    names = {"best_learning_rate": "learning_rate", "best_layer": "layer"}
    best = arms.loc[arms["arm"] == arm, ["seed", *names]].rename(columns=names)
    own = curves[curves["arm"] == arm].merge(best, on=["seed", *names.values()])
    return own.groupby("step")[["held_out", "shown", "retained"]].mean()


def _curve_panel(
    run: EditRun, curves: pd.DataFrame, arms: pd.DataFrame, attacked: Sequence[str]
) -> Panel:
    def draw(ax: Axes) -> None:
        for arm in sorted(attacked, key=lambda arm: arm in CURVES):
            means = at_best(run, arm)["held_out"]
            x, y = means.index.to_numpy(float), means.to_numpy(float)
            if arm in CURVES:
                line(ax, x, y, CURVES[arm])
            else:
                ax.plot(x, y, color=light(OTHER.colour), linewidth=1)
        ax.set_ylim(-0.03, 1.06)
        ax.set_xlabel("steps of the attack")
        ax.set_ylabel("held-out facts answered right")
        ax.set_title("Under attack")

    height = max(_size(run.arms)[1], 290)
    return Panel(draw, "held-out facts answered right by steps of the attack", (400, height))


def _rate_panel(verdicts: pd.DataFrame, arms: pd.DataFrame, attacked: Sequence[str]) -> Panel:
    def draw(ax: Axes) -> None:
        for place, arm in enumerate(attacked):
            (own,) = verdicts[verdicts["arm"] == arm].to_dict("records")
            if not np.isfinite(own["recovery"]):
                ax.text(0.02, place, "void", va="center", color=light("muted"))
                continue
            low, high = own["recovery_low"], own["recovery_high"]
            ax.hlines(place, low, high, color=light("concept"), linewidth=1.4)
            ax.plot(own["recovery"], place, marker="o", color=light("concept"), markersize=5)
            of_seeds = arms.loc[arms["arm"] == arm, "recovery"]
            if len(of_seeds) > 1:
                ax.plot(of_seeds, [place] * len(of_seeds), linestyle="", marker="|",
                        color=light("fg"), alpha=0.6)  # fmt: skip
        ax.axvline(0, color=light("muted"), linewidth=0.9)
        ax.axvline(1, color=light("muted"), linewidth=0.9, linestyle=":")
        _arm_axis(ax, attacked)
        ax.set_xlabel("recovery rate")
        ax.set_title("What relearning brings back")

    return Panel(draw, "recovery rate by arm", _size(attacked), _room())


def through_layers(run: EditRun) -> Plot | None:
    """Arms by layer: held-out facts that come back if only one layer is relearned."""
    frame = run.edits["layers_attacked"]
    if frame.empty:
        return None
    panel = _depth_panel(run, frame.rename(columns={"layer": "state"}), "held_out", "Held out")
    return Plot("layers_attacked", (panel,), columns=1)


def lens(run: EditRun) -> Plot | None:
    """Arms by depth: the answers' probabilities by the logit lens."""
    frame = run.edits["lens"]
    if frame.empty:
        return None
    panels = tuple(
        _depth_panel(run, frame, column, title)
        for column, title in (("p_target", "Right answer"), ("p_injected", "Injected answer"))
    )
    return Plot("lens", panels, columns=2)


def inside(run: EditRun, position: str) -> Plot | None:
    """Arms by depth: what the original's probe reads at a position, right and injected."""
    frame = run.edits["inside"]
    frame = frame[(frame["probe"] == "original") & (frame["position"] == position)]
    if frame.empty:
        return None
    panels = tuple(
        _depth_panel(run, frame, column, title)
        for column, title in (("right", "Right answer"), ("injected", "Injected answer"))
    )
    return Plot(f"inside_{position}", panels, columns=2)


def over_time(run: EditRun) -> Plot | None:
    """For every arm with a choice of its own: states by stage, and what the original's probe reads
    at the subject's end."""
    read, timed = run.edits["inside"], run.edits["inside_over_time"]
    read = read[(read["probe"] == "original") & (read["position"] == "subject")]
    timed = timed[timed["position"] == "subject"]
    rows = run.edits["arms"]
    own = set(rows.loc[rows["same_as"] == rows["arm"], "arm"])
    arms = [a for a in run.arms if a in own - {ORIGINAL} and (timed["arm"] == a).any()]
    if not arms:
        return None
    panels = []
    for arm in arms:
        mine = timed[timed["arm"] == arm]
        stages = {"before": read[read["arm"] == ORIGINAL]}
        stages |= _by_step(mine[mine["stage"] == "edit"], "edit")
        stages |= {"edited": read[read["arm"] == arm]}
        stages |= _by_step(mine[mine["stage"] == "attack"], "attack")
        grid = np.stack([rows.groupby("state")["right"].mean() for rows in stages.values()])
        panels.append(_heat_panel(grid, list(stages), arm_short(arm), "state (0: embedding)"))
    return Plot("over_time", tuple(panels), columns=3)


def _by_step(rows: pd.DataFrame, stage: str) -> dict[str, pd.DataFrame]:
    return {f"{stage} {step}": rows[rows["step"] == step] for step in sorted(set(rows["step"]))}


def carriers(run: EditRun) -> Plot | None:
    """Arms by layer: the effect of feed-forward layers after the edit and after the attack."""
    frame = run.edits["carriers"]
    if frame.empty:
        return None
    before = frame[(frame["arm"] == ORIGINAL) & (frame["stage"] == "edit")]
    total = before.groupby("layer")["effect"].mean().sum()
    panels = []
    for stage, title in (("edit", "After the edit"), ("attack", "After the attack")):
        own = frame[frame["stage"] == stage]
        arms = [arm for arm in run.arms if (own["arm"] == arm).any()]
        if arms:
            means = own.groupby(["arm", "layer"])["effect"].mean().unstack().loc[arms]
            names = [arm_short(arm) for arm in arms]
            panels.append(_heat_panel(means.to_numpy(float) / total, names, title, "layer"))
    return Plot("carriers", tuple(panels), columns=2)


def _heat_panel(grid: np.ndarray, names: Sequence[str], title: str, axis: str) -> Panel:
    """Rows of values from -1 (orange) to 1 (blue), with the values where there is room."""

    def draw(ax: Axes) -> None:
        colour = np.zeros((*grid.shape, 4))
        colour[..., :3] = np.where(grid[..., None] < 0, (0.85, 0.42, 0.24), (0.16, 0.53, 0.80))
        colour[..., 3] = 0.75 * np.clip(np.abs(grid), 0, 1)
        image(ax, colour)
        if grid.shape[1] <= 12:
            for (row, column), value in np.ndenumerate(grid):
                words = f"{value:.2f}".replace("0.", ".", 1)
                ax.text(column, row, words, ha="center", va="center", fontsize=9,
                        color=light("fg"))  # fmt: skip
        ax.grid(False)
        ax.set_yticks(range(len(names)), names)
        row_ticks(ax.xaxis, grid.shape[1])
        ax.set_xlabel(axis)
        ax.set_title(title)

    return Panel(draw, f"{title}: values by row and {axis}", _size(names), _room())


def _depth_panel(run: EditRun, frame: pd.DataFrame, column: str, title: str) -> Panel:
    arms = [arm for arm in run.arms if (frame["arm"] == arm).any()]
    grid = frame.groupby(["arm", "state"])[column].mean().unstack().loc[arms].to_numpy(float)
    axis = "layer" if column == "held_out" else "state (0: embedding)"
    return _heat_panel(grid, [arm_short(arm) for arm in arms], title, axis)
