"""Page tables of an editing run: verdicts, formats, attacks, settings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn_jax.report.facts.edits.reading import EditRun
from relearn_jax.report.facts.edits.words import (
    ORIGINAL,
    VERDICTS,
    arm_label,
    format_label,
)
from relearn_jax.report.tables import Column, Table, averaged

ARM = Column("arm", "arm", "text", words=arm_label)
FORGOTTEN = ("forget", "held_out")


def verdicts(run: EditRun) -> Table:
    """Behaviour and inside of every arm: the verdict, and in how many seeds."""
    arms, records = run.edits["arms"], []
    for arm in run.arms:
        own = arms[arms["arm"] == arm]
        if arm == ORIGINAL:
            continue
        records.append(
            {
                "arm": arm,
                "verdict": _in_seeds(own["verdict"]),
                "reason": own["reason"].iloc[0],
                "inside": _in_seeds(own["inside"]),
                "inside_reason": own["inside_reason"].iloc[0],
            }
        )
    columns = (
        Column("verdict", "verdict", "text", "what it answers"),
        Column("reason", "why", "text", "what it answers"),
        Column("inside", "verdict", "text", "what probes read"),
        Column("inside_reason", "why", "text", "what probes read"),
    )
    caption = "The verdict on every arm, by what it answers and by what probes read"
    frame = pd.DataFrame(records, columns=["arm", *(c.key for c in columns)])
    return Table("verdicts", caption, frame, (ARM,), columns, ("tables/arms.csv",))


def _in_seeds(values: pd.Series) -> str:
    """One verdict, or each with its number of seeds."""
    counts = {verdict: int((values == verdict).sum()) for verdict in VERDICTS}
    found = {verdict: count for verdict, count in counts.items() if count}
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{verdict} {count} of {len(values)}" for verdict, count in found.items())


def formats(run: EditRun) -> Table:
    """Answers to forgotten and retained facts by arm and format."""
    frame = run.edits["answers"]
    parts = []
    for group, names in (("forgotten", FORGOTTEN), ("retained", ("retain_test",))):
        rows = frame[frame["group"].isin(names)].groupby(["arm", "format", "seed"], sort=False)
        parts.append(rows[["right", "says_injected"]].mean().add_prefix(f"{group}_"))
    values = pd.concat(parts, axis=1).reset_index() if len(frame) else pd.DataFrame()
    columns = (
        Column("forgotten_right", "right", "percent", "forgotten facts"),
        Column("forgotten_says_injected", "injected", "percent", "forgotten facts"),
        Column("retained_right", "right", "percent", "retained facts"),
    )
    keys = (ARM, Column("format", "format", "text", words=format_label))
    values = values.reindex(columns=["seed", "arm", "format", *(c.key for c in columns)])
    values["arm"] = pd.Categorical(values["arm"], run.arms)
    values = values.sort_values("arm", kind="stable").astype({"arm": str})
    caption = "What every arm answers in every format; each fact is asked once"
    return averaged("formats", caption, values, keys, columns, ("tables/answers.csv",))


def attacks(run: EditRun) -> Table:
    """The attacker's best against every arm."""
    arms = run.edits["arms"]
    columns = (
        Column("best_accuracy", "held-out facts right", "percent"),
        Column("rate", "recovery rate", "f2"),
        Column("rate_low", "low", "f2", "95 % over facts"),
        Column("rate_high", "high", "f2", "95 % over facts"),
        Column("best_steps", "steps", "int", "at"),
        Column("best_learning_rate", "learning rate", "text", "at"),
        Column("void", "void", "text"),
    )
    numbers = [c.key for c in columns if c.form != "text"]
    values = arms.reindex(columns=["seed", "arm", *numbers])
    table = averaged(
        "attacks", "What relearning half of the facts brings back of the other half", values,
        (ARM,), columns, ("tables/arms.csv", "tables/attacks.csv"),
        plain=("rate_low", "rate_high", "best_steps"),
    )  # fmt: skip
    if table.frame.empty:
        return table
    words = arms.groupby("arm", sort=False).agg(
        best_learning_rate=("best_learning_rate", lambda v: _values(v)),
        void=("void", lambda v: f"{int(v.sum())} of {len(v)}" if v.any() else ""),
    )
    return table._replace(frame=table.frame.merge(words, on="arm"))


def _values(values: pd.Series) -> str:
    found = dict.fromkeys(f"{value:g}" for value in values if np.isfinite(value))
    return ", ".join(found)


def settings(run: EditRun) -> Table:
    """What each arm changes, the setting that it took, and what that did to other things."""
    arms = run.edits["arms"]
    columns = (
        Column("same", "computed as", "text"),
        Column("layers", "MLPs", "text", "changes"),
        Column("parameters", "parameters", "int", "changes"),
        Column("overlap", "overlap with planted", "f2", "changes"),
        Column("rates", "learning rate", "text", "takes"),
        Column("weights", "forget weight", "text", "takes"),
        Column("edited", "edited", "percent", "takes"),
        Column("behaviour_kept", "kept", "percent", "does"),
        Column("behaviour_kept_elsewhere", "kept, worst format", "percent", "does"),
        Column("behaviour_text", "text loss", "signed", "does"),
        Column("questions", "other questions", "percent", "does"),
    )
    numbers = [c.key for c in columns if c.form != "text"]
    values = arms.reindex(columns=["seed", "arm", *numbers])
    table = averaged(
        "settings", "What every arm changes, and the setting that it takes", values, (ARM,),
        columns, ("tables/arms.csv", "tables/grid.csv"), plain=("parameters",),
    )  # fmt: skip
    if table.frame.empty:
        return table
    words = pd.DataFrame(
        {
            "arm": arm,
            "same": ", ".join(dict.fromkeys(arm_label(a) for a in own["same_as"] if a != arm)),
            "layers": " | ".join(
                dict.fromkeys(", ".join(map(str, layers)) for layers in own["mlps"])
            ),
            "rates": _values(own["learning_rate"]),
            "weights": _values(own["forget_weight"]),
        }
        for arm, own in arms.groupby("arm", sort=False)
    )
    return table._replace(frame=table.frame.merge(words, on="arm"))
