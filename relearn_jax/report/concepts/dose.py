"""The dose curve: what pruning alone does, by the share of neurons pruned."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from relearn_jax.neurons.ranking import RANKINGS
from relearn_jax.report import html
from relearn_jax.report.concepts import damage
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run
from relearn_jax.report.concepts.task_tables import target_type
from relearn_jax.report.draw import Key, Panel, Plot, light, line
from relearn_jax.report.html import Drawn, details, figure, prose, table
from relearn_jax.report.sentences import say
from relearn_jax.report.tables import Column, Sentence, Table

TICKS = (0.0025, 0.01, 0.03, 0.1, 0.3, 0.6)
CONTROL = "layer_matched"
LINES = (
    ("concept", "target_loss", Key("target, its neurons", "concept", "o", "-")),
    ("concept", "others_loss", Key("others, the same neurons", "before", "", "-")),
    ("random", "target_loss", Key("target, random", "random", "s", "--")),
    (CONTROL, "target_loss", Key("target, random, same layers", CONTROL, "^", "-.")),
)


def named(run: Run) -> str:
    """The entity types whose F1 stands for the target."""
    kind = target_type(run)
    return kind if kind != "all" else "all types"


def share(fraction: float) -> str:
    """A fraction in percent."""
    return f"{100 * fraction:.3g} %"


FRACTION = Column("fraction", "pruned", "text", words=share)
RANKING = Column("ranking", "ranking", "text", words=lambda name: RANKINGS[name].short)
ZEROED = Column("zeroed", "set to 0", "text")


def mean_rows(run: Run) -> pd.DataFrame:
    """The rows of selectivity that are means over seeds."""
    frame = run.tables["selectivity"]
    return frame[frame["seed"].isna()]


def curve(run: Run) -> Table:
    """Losses and selectivity at every share, of the concept's own neurons."""
    frame = mean_rows(run)
    keys = ["zeroed", "ranking", "fraction"]
    own = frame[frame["arm"] == "concept"].copy()
    control = frame[frame["arm"] == CONTROL].set_index(keys)["target_loss"]
    own["control_loss"] = [control.get(key) for key in own[keys].itertuples(index=False, name=None)]
    for name in ("", "against_"):
        bounds = own.reindex(columns=[f"{name}low", f"{name}high"]).itertuples(index=False)
        own[f"{name}interval"] = [damage.interval(*pair) for pair in bounds]
    columns = (
        Column("neurons", "neurons", "int"),
        Column("target_loss", named(run), "percent", "share of F1 lost"),
        Column("others_loss", "others", "percent", "share of F1 lost"),
        Column("control_loss", f"{named(run)}, control", "percent", "share of F1 lost"),
        Column("selectivity", "selectivity", "f2"),
        Column("interval", "95 %", "text"),
        Column("against", "above control", "f2"),
        Column("against_interval", "95 %", "text"),
    )
    shown = own.reindex(columns=[*keys, *(c.key for c in columns)]).reset_index(drop=True)
    caption = f"What pruning neurons of {run.target} takes, by their share"
    key = (ZEROED, RANKING, FRACTION) if own["zeroed"].nunique() > 1 else (RANKING, FRACTION)
    return Table("dose", caption, shown, key, columns, ("tables/selectivity.csv",))


def choices(run: Run) -> Table:
    """The automatic dose of every seed."""
    frame = run.tables["choices"]
    frame = frame[frame["chosen"].astype(bool)] if len(frame) else frame
    columns = (
        Column("fraction", "chosen share", "text"),
        Column("target_loss", run.target, "percent", "lost on the concept text"),
        Column("others_loss", "others", "percent", "lost on the concept text"),
    )
    shown = frame[["ranking", "seed", "fraction", "target_loss", "others_loss"]].copy()
    shown["fraction"] = shown["fraction"].map(share)
    keys = (RANKING, Column("seed", "seed", "text"))
    caption = "The smallest share at which the target had lost 90 % of its F1"
    return Table(
        "choices", caption, shown.reset_index(drop=True), keys, columns, ("tables/choices.csv",)
    )


def plot(run: Run) -> Plot:
    """Share of F1 kept against the share of neurons pruned; a panel for each ranking."""
    arms = set(run.tables["selectivity"]["arm"])
    keys = tuple(key for arm, _, key in LINES if arm in arms)
    return Plot("dose", tuple(panels(run)), keys)


def panels(run: Run, size: tuple[float, float] = (420, 285), name: str = "") -> list[Panel]:
    """The panels of `plot`, with a name before their titles."""
    frame = run.tables["selectivity"]
    several = frame["zeroed"].nunique() > 1
    drawn = []
    for (zeroed, ranking), rows in frame.groupby(["zeroed", "ranking"], sort=False):
        title = RANKINGS[ranking].short + (f", {zeroed}" if several else "")
        heading = f"{name}, by {title}" if name else f"By {title}"
        draw = partial(_panel, rows=rows, title=heading, marks=_pruned(run))
        about = f"{heading}: share of F1 kept by share of neurons pruned"
        drawn.append(Panel(draw, about, size))
    return drawn


def _pruned(run: Run) -> list[float]:
    """The shares that this group prunes."""
    frame = run.tables["damage"]
    names = [n for n in ("fraction_low", "fraction_high") if n in frame]
    return sorted({float(v) for n in names for v in frame[n].dropna()})


def _panel(ax: Axes, rows: pd.DataFrame, title: str, marks: list[float]) -> None:
    for arm, column, key in LINES:
        wide = rows[rows["arm"] == arm].dropna(subset=["seed"])
        wide = 1 - wide.pivot_table(index="fraction", columns="seed", values=column)
        if wide.empty:
            continue
        if wide.shape[1] > 1:
            for seed in wide:
                ax.plot(wide.index, wide[seed], color=light(key.colour), linewidth=0.8, alpha=0.4)
        line(ax, wide.index.to_numpy(), wide.mean(axis=1).to_numpy(), key)
    for mark in marks:
        ax.axvline(mark, color=light("rule"), linewidth=1.2, zorder=0)
    ax.set_xscale("log")
    ticks = [t for t in TICKS if t >= rows["fraction"].min() / 1.5]
    ax.set_xticks(ticks, [f"{100 * t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_ylim(-0.05, 1.15)
    ax.set_xlabel("neurons pruned, %")
    ax.set_ylabel("share kept")
    ax.set_title(title)


def best(run: Run, results: Findings) -> list[Sentence]:
    """For each ranking, the share where the damage is most selective."""
    item = results.tables["dose"]
    said = []
    frame = item.frame.dropna(subset="selectivity")
    for _, rows in frame.groupby([key.key for key in item.keys[:-1]], sort=False):
        at = rows.loc[rows["selectivity"].idxmax()]
        row = item.row(*(at[key.key] for key in item.keys))
        text = (
            "By {ranking}, the damage is most selective at {share}: {target} lost "
            "{target_loss} of its F1 and the other types {others_loss} (selectivity {selectivity}, "
            "95 % interval over sentences {interval})"
        )
        if row.has("control_loss"):
            text += "; with as many random neurons of the same layers {target} lost {control_loss}"
        parts = {
            "ranking": RANKINGS[at["ranking"]].short,
            "share": share(at["fraction"]),
            "target": named(run),
        }
        said.append(say(f"{text}.", row, **parts))
    return said


def section(run: Run, results: Findings) -> Drawn:
    """The dose curve, in figures, sentences and tables."""
    frame = run.tables["selectivity"]
    if not (run.config.get("dose") or {}).get("fractions"):
        return "<p>This run has no dose curve (<code>dose.fractions</code>).</p>", ()
    if frame.empty:
        return html.absent("the dose curve (tables/selectivity.parquet)"), ()
    drawn = plot(run)
    facts = mean_rows(run).iloc[0]
    body = (
        "<p>Before any retraining, the base model was scored with different shares of its neurons "
        f"pruned, on {facts['sentences']} evaluation sentences with {facts['entities']} entities "
        f"of {html.text(named(run))}. Selectivity is the share of F1 that the target lost, less "
        f"the mean of the shares that the others ({html.text(facts['others'])}) lost: 1 is a "
        "perfect removal, 0 damage to all alike.</p>"
    )
    body += figure(
        drawn,
        "Share of its F1 that a type keeps (of accuracy, where words outside entities stand for "
        "other types), by the share of neurons pruned: thick lines are means over seeds, thin "
        "lines single seeds; every share draws its random neurons anew; a vertical rule marks what "
        "was pruned before retraining.",
        html.data(["tables/selectivity.csv", "tables/dose.csv"], "dose"),
    )
    body += table(results.tables["damage"])
    if damage.kind(run, results) == "unlearned":
        body += (
            f"<p>The base model never learned {html.text(run.target)}: its curve means nothing.</p>"
        )
    else:
        body += "".join(f"<p>{prose(text)}</p>" for text in best(run, results))
    if len(results.tables["choices"].frame):
        body += table(results.tables["choices"])
    item = results.tables["dose"]
    return body + details(item.caption, table(item)), (drawn,)
