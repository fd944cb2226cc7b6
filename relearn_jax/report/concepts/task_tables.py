"""Page tables about the task: F1 by stage, what was lost and regained, precision."""

from __future__ import annotations

import pandas as pd

from relearn_jax.evaluation.seeds import half_width
from relearn_jax.report.concepts.arms import ARM, STAGE, TYPE
from relearn_jax.report.concepts.reading import Run, stage_name
from relearn_jax.report.tables import Column, Table, averaged, in_order

STEPS = {"steps_to_50": "50 %", "steps_to_90": "90 %"}
"""Columns of steps in the table `recovery`, and their heads; older runs lack them."""


def types(run: Run) -> list[str]:
    """`all`, the target's type if it is scored, then the other entity types."""
    scored = list(dict.fromkeys(run.tables["scores"]["type"]))
    first = [t for t in ("all", run.target) if t in scored]
    return first + [t for t in scored if t not in first]


def target_type(run: Run) -> str:
    """The entity type that stands for the target in the task, `all` if none does."""
    return run.target if run.target in types(run) else "all"


def task(run: Run, variant: str = "word") -> Table:
    """F1 by entity type, arm and stage, mean over seeds."""
    label = "words" if variant == "word" else "sub-words"
    return averaged(
        "task" if variant == "word" else "task_subword",
        f"Entity-level F1, scored on {label}",
        by_stage(run, variant).reset_index(),
        (TYPE, ARM),
        tuple(Column(s, stage_name(s)) for s in run.stages),
        ("tables/scores.csv",),
    )


def by_stage(run: Run, variant: str = "word") -> pd.DataFrame:
    """F1 with a row for each type, arm and seed, and a column for each stage.

    The arms of a seed have the same base model, so its F1 stands in the rows of all of them.
    """
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == variant) & scores["stage"].isin(run.stages)]
    base = scores[scores["arm"] == "base"].drop(columns="arm")
    rows = pd.concat([base.merge(pd.Series(run.arms, name="arm"), how="cross"), scores])
    rows = in_order(rows, type=types(run), arm=run.arms)
    wide = rows.pivot(index=["seed", "type", "arm"], columns="stage", values="f1")
    return wide.loc[rows.set_index(["seed", "type", "arm"]).index.unique()]


def recovery(run: Run) -> Table:
    """F1 lost by pruning, and the share of it regained after each round."""
    frame, keys = run.tables["recovery"], ["seed", "type", "arm"]
    frame = in_order(
        frame[frame["variant"] == "word"], type=types(run), arm=run.arms, seed=run.seeds
    )
    rounds = [s for s in run.stages if s.startswith("round")]
    values = frame.assign(round="round" + frame["round"].astype(str))
    values = values.pivot(index=keys, columns="round", values="recovery")
    f1 = by_stage(run).reindex(columns=["base", "pruned"])
    values["lost"] = f1["base"] - f1["pruned"]
    values["epochs_to_90"] = frame.groupby(keys)["epochs_to_90"].min().astype(float)
    steps = [name for name in STEPS if name in frame]
    for name in steps:
        values[name] = frame.groupby(keys)[name].min().astype(float)
    columns = (
        Column("lost", "F1 lost"),
        *(Column(r, stage_name(r), "percent", "share regained after") for r in rounds),
        Column("epochs_to_90", "epochs to 90 %", "f1"),
        Column("reached", "seeds that reach it", "text"),
        *(
            column
            for name in steps
            for column in (
                Column(name, STEPS[name], "int", "steps until regained"),
                Column(f"{name}_interval", "95 %", "text", "steps until regained"),
            )
        ),
    )
    table = averaged(
        "recovery",
        "F1 lost by pruning and share of the loss regained",
        values.loc[frame.set_index(keys).index.unique()].reset_index(),
        (TYPE, ARM),
        columns,
        ("tables/recovery.csv", "tables/scores.csv"),
    )
    table.frame["reached"] = reached(table.by_seed, ["type", "arm"]).to_numpy()
    for name in steps:
        by_row = table.by_seed.groupby(["type", "arm"], sort=False)[name]
        table.frame[f"{name}_interval"] = by_row.apply(over_seeds).to_numpy()
    return table


def over_seeds(values: pd.Series) -> str | None:
    """Student's 95 % interval of a mean in words; None if a seed has no value, or there is one."""
    if len(values) < 2 or values.isna().any():
        return None
    half = half_width(values)
    return f"{max(values.mean() - half, 0):.0f} to {values.mean() + half:.0f}"


def reached(by_seed: pd.DataFrame, keys: list[str]) -> pd.Series:
    """For each row of the page, how many seeds regained 90 %: `2 of 3`."""
    counts = by_seed.groupby(keys, sort=False)["epochs_to_90"].agg(["count", "size"]).astype(str)
    return counts["count"] + " of " + counts["size"]


def detail(run: Run) -> Table:
    """Precision, recall, F1 and token accuracy over all entity types."""
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == "word") & (scores["type"] == "all")]
    measures = ("precision", "recall", "f1", "accuracy")
    heads = ("precision", "recall", "F1", "token accuracy")
    return averaged(
        "detail",
        "Precision, recall, F1 and token accuracy, all entity types, words",
        in_order(scores, arm=("base", *run.arms), stage=run.stages),
        (ARM, STAGE),
        tuple(Column(m, head) for m, head in zip(measures, heads, strict=True)),
        ("tables/scores.csv",),
    )
