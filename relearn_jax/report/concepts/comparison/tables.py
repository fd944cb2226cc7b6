"""Page tables that compare groups; a row's first key is the group's label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from relearn_jax.report.concepts import damage, task_tables
from relearn_jax.report.concepts.arms import ARM, ARM_NAMES
from relearn_jax.report.concepts.comparison.reading import CHANCE, Sets, size
from relearn_jax.report.concepts.layer_tables import EVERY, ROW
from relearn_jax.report.concepts.reading import main_arm, stage_name
from relearn_jax.report.concepts.task_tables import target_type
from relearn_jax.report.tables import Column, Table, averaged, in_order

MEASURE = "saliency_standardized"
ABOVE, AT, BELOW, MIXED = "above chance", "at chance", "below chance", "differs by seed"
GROUP = Column("group", "group", "text")
CONCEPT = Column("concept", "first for", "text")
PAIR = (Column("concept_a", "concept", "text"), Column("concept_b", "and", "text"))


def groups(sets: Sets) -> Table:
    """What each group pruned, and how many of its sets are finished."""
    planned, records = len(sets.run.seeds) * len(sets.run.arms), []
    for group in sets.groups:
        run = sets.runs.get(group.name)
        lacking = {(gap.seed, gap.arm) for gap in run.missing if gap.arm != "base"} if run else ()
        records.append(
            {"group": sets.labels[group.name], "target": group.target, "size": size(group)}
            | {name: getattr(group, name) for name in ("regrowth", "ranking", "text")}
            | {name: group.prune.get(name) for name in ("pruned", "of", "parameters")}
            | {"done": f"{planned - len(lacking) if run else 0} of {planned}", "name": group.name}
        )
    columns = (
        Column("target", "concept", "text"),
        Column("size", "share", "text"),
        Column("regrowth", "regrowth", "text"),
        Column("ranking", "ranking", "text"),
        Column("text", "retraining text", "text"),
        Column("pruned", "neurons pruned", "int"),
        Column("of", "of", "int"),
        Column("parameters", "parameters", "int"),
        Column("done", "sets finished", "text"),
        Column("name", "name in the tables", "text"),
    )
    caption = "Groups: sets that differ in seed and arm only"
    frame = pd.DataFrame(records)
    columns = tuple(c for c in columns if frame[c.key].notna().any())
    return Table("groups", caption, frame, (GROUP,), columns, ("manifest.json",))


def recovery(sets: Sets) -> Table:
    """F1 on the target concept at every stage, and how much of the loss was regained, by arm."""
    parts = []
    for name, run in sets.runs.items():
        f1, regained = task_tables.task(run).by_seed, task_tables.recovery(run).by_seed
        when = ["epochs_to_90", *task_tables.STEPS]
        regained = regained.reindex(columns=["seed", "type", "arm", sets.last, *when])
        regained = regained.assign(recovered=True).rename(columns={sets.last: "regained"})
        both = f1.merge(regained, how="outer", on=["seed", "type", "arm"], sort=False)
        both = both[both["type"] == target_type(run)].assign(group=sets.labels[name])
        parts.append(in_order(both, arm=run.arms))
    values = pd.concat(parts)
    columns = (
        *(Column(s, stage_name(s), "f3", "F1 on the target concept") for s in sets.run.stages),
        Column("regained", "share regained", "percent"),
        Column("epochs_to_90", "epochs to 90 %", "f1"),
        Column("reached", "seeds at 90 %", "text"),
        *(Column(n, head, "int", "steps until regained") for n, head in task_tables.STEPS.items()),
    )
    caption = "The target concept after pruning and retraining"
    sources = ("tables/scores.csv", "tables/recovery.csv")
    table = averaged("sets", caption, values, (GROUP, ARM), columns, sources)
    counts = task_tables.reached(values[values["recovered"].notna()], ["group", "arm"])
    table.frame["reached"] = [counts.get(row.keys) for row in table.rows()]
    return table


def damage_by_group(sets: Sets) -> Table:
    """What pruning did to every group, by arm."""
    parts = {sets.labels[name]: damage.table(run) for name, run in sets.runs.items()}
    first = next(iter(parts.values()))
    frame, by_seed = (
        pd.concat([getattr(part, name).assign(group=label) for label, part in parts.items()])
        for name in ("frame", "by_seed")
    )
    heads = {first.columns[0].group: "F1 on the concept"}
    columns = tuple(c._replace(group=heads.get(c.group, c.group)) for c in first.columns)
    keys = (GROUP, ARM)
    return Table(
        "damage_sets", first.caption, frame, keys, columns, ("tables/damage.csv",), by_seed
    )


def layers(sets: Sets) -> tuple[Table, Table]:
    """Scale-free saliency of the target concept by layer, main arm; and its mean layer, by arm."""
    values, centres = [], []
    stages = tuple(dict.fromkeys(("base", "pruned", sets.last)))
    for name, run in sets.runs.items():
        frame = run.tables["layers"]
        frame = frame[(frame["measure"] == MEASURE) & (frame["concept"] == run.target)]
        frame = frame.assign(total=frame["mean"].fillna(0.0) * frame["neurons"])
        for (seed, arm), part in frame.groupby(["seed", "arm"], sort=False):
            cells = part.pivot(index="layer", columns=["stage", "pruned"])[["total", "neurons"]]
            cells = cells.fillna(0.0)
            by_row = {row: _layer(cell, stages) for row, cell in cells.iterrows()}
            at = {"seed": seed, "group": sets.labels[name], "arm": arm}
            centre = {s: _centre({row: cell[s] for row, cell in by_row.items()}) for s in stages}
            centres.append(at | centre | {"shift": centre[stages[-1]] - centre["base"]})
            if arm == main_arm(run):
                by_row = {EVERY: _layer(cells.sum(), stages)} | by_row
                values += [at | {"layer": row} | cell for row, cell in by_row.items()]
    mean, share, last = "mean scale-free saliency", "pruned neurons' share of", stages[-1]
    by_layer = (
        *(Column(s, stage_name(s), "f3", mean) for s in stages),
        Column("neurons", "the neurons", "percent", share),
        Column("share_base", "saliency, base", "percent", share),
        Column("share_last", f"saliency, {stage_name(last)}", "percent", share),
    )
    where = (*(Column(s, stage_name(s), "f2") for s in stages), Column("shift", "shift", "signed"))
    files = ("tables/layers.csv",)
    shown = ARM_NAMES[main_arm(sets.run)]
    first = f"Scale-free saliency of the target concept by layer, {shown} arm"
    second = "Mean layer of the target concept's scale-free saliency (0 is the first row)"
    return (
        averaged("by_layer", first, pd.DataFrame(values), (GROUP, ROW), by_layer, files),
        averaged("centre", second, pd.DataFrame(centres), (GROUP, ARM), where, files),
    )


def _layer(cells: pd.Series, stages: Sequence[str]) -> dict[str, float]:
    """Means and shares; cells are named (`total` or `neurons`, stage, `all` or `pruned`)."""

    def ratio(part: tuple[str, str, str], total: tuple[str, str, str]) -> float:
        size = cells.get(total, 0.0)
        return float(cells.get(part, 0.0) / size) if size > 0 else np.nan

    def share(of: str, stage: str) -> float:
        return ratio((of, stage, "pruned"), (of, stage, "all"))

    means = {s: ratio(("total", s, "all"), ("neurons", s, "all")) for s in stages}
    shares = {"share_base": share("total", "base"), "share_last": share("total", stages[-1])}
    return means | shares | {"neurons": share("neurons", "base")}


def _centre(means: Mapping[int, float]) -> float:
    total = sum(means.values())
    return sum(row * mean for row, mean in means.items()) / total if total > 0 else np.nan


def takeover(sets: Sets) -> Table:
    """Concepts that the pruned neurons stand for, before pruning and at the end, beside chance.

    `beyond` columns are the count minus chance as a share of `top`.
    """
    frame = sets.takeover[sets.takeover["group"].isin(list(sets.runs))]
    values = frame.assign(
        group=frame["group"].map(sets.labels),
        was_beyond=(frame["was"] - frame["expected"]) / frame["top"],
        beyond=(frame["neurons"] - frame["expected"]) / frame["top"],
    )
    base, end = "base model", stage_name(sets.last)
    columns = (
        Column("top", "of the first", "int"),
        Column("was", "neurons", "f1", base),
        Column("was_beyond", "beyond chance", "points", base),
        Column("neurons", "neurons", "f1", end),
        Column("beyond", "beyond chance", "points", end),
        *_range(CHANCE, "chance", "int"),
        Column("verdict", "at the end", "text"),
    )
    caption = "Pruned neurons among the first neurons of each concept"
    keys, files = (GROUP, ARM, CONCEPT), ("tables/takeover.csv",)
    table = averaged("takeover", caption, values, keys, columns, files, ("top", *CHANCE))
    return with_verdict(table, "verdict", "neurons", *CHANCE[1:])


def overlap(sets: Sets) -> Table:
    """How many neurons of the base model are among the first for two concepts, and chance."""
    values = sets.overlap.assign(share=sets.overlap["shared"] / sets.overlap["top"])
    layered = tuple(f"{k}_layers" for k in CHANCE)
    pooled, within = "chance, all layers as one", "chance, layers as they are"
    columns = (
        Column("shared", "shared", "f1"),
        Column("share", "share", "percent"),
        *_range(CHANCE, pooled, "int"),
        Column("verdict", "verdict", "text", pooled),
        *_range(layered, within, "f1"),
        Column("verdict_layers", "verdict", "text", within),
    )
    caption = "Neurons among the first of two concepts, base model"
    keys, files = (*PAIR, Column("top", "of the first", "int")), ("tables/overlap.csv",)
    table = averaged("overlap", caption, values, keys, columns, files, (*CHANCE, *layered))
    table = with_verdict(table, "verdict", "shared", *CHANCE[1:])
    return with_verdict(table, "verdict_layers", "shared", *layered[1:])


def _range(names: Sequence[str], group: str, form: str) -> tuple[Column, ...]:
    heads = zip(names, CHANCE, ("f1", form, form), strict=True)
    return tuple(Column(name, head, how, group) for name, head, how in heads)


def with_verdict(table: Table, name: str, count: str, low: str, high: str) -> Table:
    """A table with one more column: the verdict on a count beside its range of chance."""
    groups = table.by_seed.groupby([k.key for k in table.keys], sort=False)
    table.frame[name] = [verdict(seeds[count], seeds[low], seeds[high]) for _, seeds in groups]
    return table


def verdict(counts: Iterable[float], low: Iterable[float], high: Iterable[float]) -> str:
    """Whether counts, one for each seed, lie above, in or below the range of their seed."""
    sides = {
        ABOVE if n > most else BELOW if n < least else AT
        for n, least, most in zip(counts, low, high, strict=True)
    }
    return sides.pop() if len(sides) == 1 else MIXED
