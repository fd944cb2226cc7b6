"""The section on weight masks: how few weights hold the facts, and what else they hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.report import html
from relearn_jax.report.draw import Key, Panel, Plot, light, line
from relearn_jax.report.facts.edits.reading import EditRun
from relearn_jax.report.facts.edits.words import arm_label
from relearn_jax.report.html import Drawn, details, table
from relearn_jax.report.tables import Column, Table

LOOKS = (
    ("layer_matched", "o"), ("random", "D"), ("concept", "^"), ("bottom", "x"), ("oracle", "s"),
)  # fmt: skip
"""Colour and marker of each choice, in the order of the run."""
LINES = {"trained": "-", "random": ":"}


def section(run: EditRun, results: dict[str, Table]) -> Drawn:
    """The figure, and the numbers behind a fold."""
    plot = figure(run)
    if plot is None:
        return html.absent("weight masks (tables/weight_masks.parquet)"), ()
    caption = (
        "The weights of a choice with the smallest trained masks are set to 0 (lines), or as many "
        "random ones (dotted). Shares of what is answered right before. Left: of forgotten facts, "
        "beyond the oracle; below 0 the model does worse than one that guesses. Right: of retained "
        "facts. Bars are 95 % intervals of a bootstrap over facts and seeds."
    )
    body = html.figure(plot, caption, html.data(["tables/weight_masks.csv"], "weight_masks"))
    return body + details("As a table", table(results["weight_masks"])), (plot,)


def figure(run: EditRun) -> Plot | None:
    """Forgotten and retained facts by the number of weights that are 0."""
    frame = run.edits["weight_masks"]
    if frame.empty:
        return None
    arms = list(dict.fromkeys(frame["arm"]))
    looks = {arm: LOOKS[number % len(LOOKS)] for number, arm in enumerate(arms)}
    panels = (
        _panel(frame, looks, "still", "Forgotten facts"),
        _panel(frame, looks, "kept", "Retained facts"),
    )
    legend = [Key(arm_label(arm), *look, "-") for arm, look in looks.items()]
    return Plot("weight_masks", panels, (*legend, Key("random weights", "muted", "", ":")))


def _panel(
    frame: pd.DataFrame, looks: dict[str, tuple[str, str]], column: str, title: str
) -> Panel:
    def draw(ax: Axes) -> None:
        for (arm, chosen_by), rows in frame.groupby(["arm", "chosen_by"], sort=False):
            colour, marker = looks[arm]
            x, y = (rows[c].to_numpy(float) for c in ("zeroed", column))
            line(ax, x, y, Key("", colour, marker, LINES[chosen_by]))
            if chosen_by == "trained":
                ends = (rows[f"{column}_{end}"].to_numpy(float) for end in ("low", "high"))
                ax.vlines(x, *ends, color=light(colour), linewidth=1, alpha=0.6)
        counts = sorted(set(frame["zeroed"]))
        ax.set_xscale("log")
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.set_xticks([], minor=True)
        ax.set_ylim(min(0.0, frame[column].min()) - 0.03, 1.06)
        ax.set_xlabel("weights set to 0")
        ax.set_ylabel("share still answered right")
        ax.set_title(title)

    return Panel(draw, f"{title}: share answered right by number of weights set to 0")


def rows(run: EditRun) -> Table:
    """Every number of weights, with intervals in words."""
    frame = run.edits["weight_masks"]
    columns = (
        Column("still", "still right", "text", "forgotten facts"),
        Column("leak", "in the worst format", "text", "forgotten facts"),
        Column("kept", "kept", "text", "retained facts"),
        Column("kept_elsewhere", "in the worst format", "text", "retained facts"),
        Column("text_rise", "text loss", "signed"),
        Column("planted", "in planted layers", "percent", "weights"),
    )
    keys = (
        Column("arm", "choice", "text", words=arm_label),
        Column("chosen_by", "weights by", "text"),
        Column("zeroed", "set to 0", "int"),
    )
    shown = frame.reindex(columns=[c.key for c in (*keys, *columns)])
    for name in ("still", "leak", "kept", "kept_elsewhere"):
        ends = (frame.get(f"{name}{end}", pd.Series(dtype=float)) for end in ("", "_low", "_high"))
        shown[name] = [_share(*values) for values in zip(*ends, strict=True)]
    caption = (
        "What is left after N weights are set to 0; shares of what the model answers before, "
        "forgotten facts beyond chance, with 95 % intervals"
    )
    return Table("weight_masks", caption, shown, keys, columns, ("tables/weight_masks.csv",))


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(value) else "not known"
