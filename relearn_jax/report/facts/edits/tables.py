"""Page tables of an editing run: verdicts, formats, attacks, settings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn_jax.report.facts.edits.reading import EditRun
from relearn_jax.report.facts.edits.words import ORIGINAL, arm_label, format_label
from relearn_jax.report.tables import Column, Table, averaged

ARM = Column("arm", "arm", "text", words=arm_label)
FORGOTTEN = ("forget", "held_out")


def verdicts(run: EditRun) -> Table:
    """Behaviour and inside of every arm by the facts of all seeds, and how many seeds agree."""
    frame = run.edits["verdicts"]
    columns = (
        Column("verdict", "verdict", "text"),
        *((Column("seeds", "seeds that agree", "text"),) if len(run.seeds) > 1 else ()),
        Column("answers_verdict", "reading", "text", "what it answers"),
        Column("answers_reason", "why", "text", "what it answers"),
        Column("inside_verdict", "reading", "text", "what probes read"),
        Column("inside_reason", "why", "text", "what probes read"),
    )
    words = frame.reindex(columns=["arm", *(c.key for c in columns)])
    words["seeds"] = [f"{a} of {n}" for a, n in zip(frame["agree"], frame["seeds"], strict=True)]
    caption = (
        "The verdict on every arm, by what it answers and by what probes read; shares beyond the "
        "oracle, with 95 % intervals over facts"
    )
    return Table("verdicts", caption, words, (ARM,), columns, ("tables/verdicts.csv",))


def calibration(run: EditRun) -> Table:
    """Verdicts on the models whose truth is known."""
    frame = run.edits["verdicts"]
    known = frame[frame["truth"] != ""]
    columns = (
        Column("truth", "it is", "text"),
        Column("verdict", "verdict", "text"),
        Column("right", "right in seeds", "text"),
    )
    arms = run.edits["arms"]
    right = [
        f"{(arms.loc[arms['arm'] == arm, 'verdict'] == truth).sum()} of {seeds}"
        for arm, truth, seeds in zip(known["arm"], known["truth"], known["seeds"], strict=True)
    ]
    words = known[["arm", "truth", "verdict"]].assign(right=right)
    caption = "The rule on models of which it is known what they are"
    return Table("calibration", caption, words, (ARM,), columns, ("tables/verdicts.csv",))


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
    arms, attacked = run.edits["arms"], run.config.get("attack") or {}
    columns = (
        Column("best_accuracy", "held-out facts right", "percent"),
        Column("recovery", "recovery rate", "f2"),
        Column("recovery_low", "low", "f2", "95 % over facts"),
        Column("recovery_high", "high", "f2", "95 % over facts"),
        Column("area", "area", "f2", "curve"),
        Column("steps_to_90", "steps to 90 %", "int", "curve"),
        *(
            (Column("attack_seeds_sd", "deviation over attack seeds", "f2"),)
            if len(attacked.get("seeds", ())) > 1
            else ()
        ),
        Column("best_steps", "steps", "int", "at"),
        Column("best_learning_rate", "learning rate", "text", "at"),
        *((Column("best_layer", "layer", "text", "at"),) if attacked.get("layers") else ()),
        Column("void", "void", "text"),
    )
    numbers = [c.key for c in columns if c.form != "text"]
    values = arms.reindex(columns=["seed", "arm", *numbers])
    table = averaged(
        "attacks", "What relearning half of the facts brings back of the other half", values,
        (ARM,), columns, ("tables/arms.csv", "tables/attacks.csv"),
        plain=("recovery_low", "recovery_high", "best_steps", "steps_to_90", "attack_seeds_sd"),
    )  # fmt: skip
    if table.frame.empty:
        return table
    words = arms.groupby("arm", sort=False).agg(
        best_learning_rate=("best_learning_rate", lambda v: _values(v)),
        best_layer=("best_layer", lambda v: ", ".join("all" if n < 0 else f"{n}" for n in v)),
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
        Column("kept", "kept", "percent", "does"),
        Column("kept_elsewhere", "kept, worst format", "percent", "does"),
        Column("text_rise", "text loss", "signed", "does"),
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


def crossed(run: EditRun) -> Table:
    """Probes of the model before the edit and of the edited one, each on the states of both."""
    frame = run.edits["inside"]
    frame = frame[frame["position"] == "subject"] if len(frame) else frame
    caption = "Forgotten facts that probes read at the subject's end"
    columns = (
        Column("before", "before", "percent", "probe of the model before, reads"),
        Column("original", "after", "percent", "probe of the model before, reads"),
        Column("own", "after", "percent", "probe of the edited model, reads"),
        Column("back", "before", "percent", "probe of the edited model, reads"),
    )
    values = pd.DataFrame()
    if len(frame):
        before = frame[(frame["arm"] == ORIGINAL) & (frame["probe"] == "original")]
        state = int(before.groupby("state")["right"].mean().idxmax())
        caption += f", off state {state}, where the probe of the model before reads most"
        at = frame[frame["state"] == state]
        values = at.pivot_table(
            index=["seed", "arm"], columns="probe", values="right", sort=False
        ).reset_index()
        values["before"] = values["seed"].map(
            before[before["state"] == state].set_index("seed")["right"]
        )
    values = values.reindex(columns=["seed", "arm", *(c.key for c in columns)])
    return averaged("crossed", caption, values, (ARM,), columns, ("tables/inside.csv",))


def lineage(run: EditRun) -> Table:
    """Which neurons carry the facts after the edit and after the attack."""
    columns = (
        Column("same", "carried before", "percent", "carriers"),
        Column("planted", "in planted layers", "percent", "carriers"),
        Column("matched", "correlation", "f2", "match with the original's"),
        Column("shuffled", "of shuffled facts", "f2", "match with the original's"),
    )
    keys = (ARM, Column("stage", "after", "text"))
    values = run.edits["lineage"].reindex(
        columns=["seed", "arm", "stage", *(c.key for c in columns)]
    )
    caption = "The feed-forward neurons with the largest effect, and those that had it before"
    return averaged("lineage", caption, values, keys, columns, ("tables/lineage.csv",))
