"""Page tables about the task: F1 by stage, what was lost and regained, precision."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn_jax.report.concepts.arms import ARM, STAGE, TYPE
from relearn_jax.report.concepts.reading import Run, stage_name
from relearn_jax.report.tables import Column, Table, averaged


def types(run: Run) -> list[str]:
    """`all`, the target's type if it is scored, then the other entity types."""
    found = list(dict.fromkeys(run.tables["scores"]["type"]))
    first = [t for t in ("all", run.target) if t in found]
    return first + [t for t in found if t not in first]


def target_type(run: Run) -> str:
    """The entity type that stands for the target in the task, `all` if none does."""
    return run.target if run.target in types(run) else "all"


def task(run: Run, variant: str = "word") -> Table:
    """F1 by entity type, arm and stage, mean over seeds."""
    scores = run.tables["scores"]
    scores = scores[(scores["variant"] == variant) & (scores["stage"] != "")]
    values: dict[tuple, dict[str, float]] = {}
    for kind in types(run):
        for arm in run.arms:
            part = scores[(scores["type"] == kind) & scores["arm"].isin([arm, "base"])]
            for row in part.itertuples():
                values.setdefault((row.seed, kind, arm), {})[row.stage] = row.f1
    label = "words" if variant == "word" else "sub-words"
    return averaged(
        "task" if variant == "word" else "task_subword",
        f"Entity-level F1, scored on {label}",
        values,
        (TYPE, ARM),
        tuple(Column(s, stage_name(s)) for s in run.stages),
        ("tables/scores.csv",),
    )


def recovery(run: Run) -> Table:
    """F1 lost by pruning, and the share of it regained after each round."""
    frame, scores = run.tables["recovery"], run.tables["scores"]
    frame = frame[frame["variant"] == "word"]
    rounds = [s for s in run.stages if s.startswith("round")]
    values: dict[tuple, dict[str, float]] = {}
    reached: dict[tuple, list[bool]] = {}
    for kind in types(run):
        for arm in run.arms:
            part = frame[(frame["type"] == kind) & (frame["arm"] == arm)]
            for seed, some in part.groupby("seed"):
                epochs = pd.to_numeric(some["epochs_to_90"]).min()
                regained = zip(some["round"], some["recovery"], strict=True)
                values[(seed, kind, arm)] = {
                    "lost": lost(scores, seed, arm, kind),
                    "epochs_to_90": epochs,
                    **{f"round{r}": share for r, share in regained},
                }
                reached.setdefault((kind, arm), []).append(bool(np.isfinite(epochs)))
    columns = (
        Column("lost", "F1 lost"),
        *(Column(r, stage_name(r), "percent", "share regained after") for r in rounds),
        Column("epochs_to_90", "epochs to 90 %", "f1"),
        Column("reached", "seeds that reach it", "text"),
    )
    caption = "F1 lost by pruning and share of the loss regained"
    files = ("tables/recovery.csv", "tables/scores.csv")
    table = averaged("recovery", caption, values, (TYPE, ARM), columns, files)
    counts = [reached[key] for key in zip(table.frame["type"], table.frame["arm"], strict=True)]
    table.frame["reached"] = [f"{sum(c)} of {len(c)}" for c in counts]
    return table


def lost(scores: pd.DataFrame, seed: int, arm: str, kind: str) -> float:
    """F1 (words) of the base model minus that of the pruned one, for one seed."""
    some = scores[
        (scores["seed"] == seed) & (scores["type"] == kind) & (scores["variant"] == "word")
    ]
    before = some.loc[some["stage"] == "base", "f1"]
    after = some.loc[(some["arm"] == arm) & (some["stage"] == "pruned"), "f1"]
    return float(before.iloc[0] - after.iloc[0]) if len(before) and len(after) else np.nan


def detail(run: Run) -> Table:
    """Precision, recall, F1 and token accuracy over all entity types."""
    scores = run.tables["scores"]
    part = scores[
        (scores["variant"] == "word") & (scores["type"] == "all") & (scores["stage"] != "")
    ]
    measures = ("precision", "recall", "f1", "accuracy")
    found = {
        (row.seed, row.arm, row.stage): {m: getattr(row, m) for m in measures}
        for row in part.itertuples()
    }
    order = [("base", "base"), *((a, s) for a in run.arms for s in run.stages[1:])]
    values = {
        (seed, *place): found[(seed, *place)]
        for place in order
        for seed in run.seeds
        if (seed, *place) in found
    }
    heads = ("precision", "recall", "F1", "token accuracy")
    return averaged(
        "detail",
        "Precision, recall, F1 and token accuracy, all entity types, words",
        values,
        (ARM, STAGE),
        tuple(Column(m, head) for m, head in zip(measures, heads, strict=True)),
        ("tables/scores.csv",),
    )
