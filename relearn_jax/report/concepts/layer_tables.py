"""Page tables by layer: saliency, redistribution, similarity with its null, and their relation.

Pruned and unpruned neurons are kept apart everywhere (protocol 8.5).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from relearn_jax.neurons import saliency
from relearn_jax.report.concepts.arms import ARM
from relearn_jax.report.concepts.reading import Run, last_stage, stage_name
from relearn_jax.report.concepts.snapshots import Place, Snapshot, Tokens, after, shape
from relearn_jax.report.tables import Column, Table, averaged, over_seeds

GROUPS = ("unpruned", "pruned")
ROW = Column("layer", "state", "text")
MEASURES = {
    "saliency_rank": "Mean saliency by rank",
    "saliency_standardized": "Mean scale-free saliency (standardized mean difference)",
    "token_jaccard": "Overlap of top tokens with the base model (Jaccard)",
    "target_share": "Share of top tokens that occur as the target",
}
EVERY = "all"
"""The row key that stands for all layers together."""


def shown_stages(run: Run, arm: str, table: str) -> tuple[str, ...]:
    """Base, pruned, the first round and the last one, as far as they are there."""
    frame = run.tables[table]
    have = set(frame.loc[frame["arm"] == arm, "stage"].unique())
    wanted = ("base", "pruned", "round1", last_stage(run, arm, table))
    return tuple(dict.fromkeys(s for s in wanted if s in have or s == "base"))


def layers(run: Run, measure: str, found: Mapping[Place, Snapshot]) -> Table:
    """One measure by arm and layer at the main stages, mean over seeds.

    For `saliency_rank`, the column `arithmetic_unpruned` holds what the unpruned neurons would
    have if both groups kept their base order and the pruned ones merely went to the end.
    """
    frame = run.tables["layers"]
    frame = frame[(frame["measure"] == measure) & (frame["concept"] == run.target)]
    frame = frame[frame["pruned"].isin(GROUPS)]
    stages = tuple(
        s for s in run.stages if any(s in shown_stages(run, a, "layers") for a in run.arms)
    )
    values: dict[tuple, dict[str, float]] = {}
    for arm in run.arms:
        part = frame[frame["arm"] == arm]
        by_row = [(EVERY, part), *((int(row), some) for row, some in part.groupby("layer"))]
        for row, some in by_row:
            for (seed, stage, group), cells in some.groupby(["seed", "stage", "pruned"]):
                value = _weighted(cells["mean"], cells["neurons"])
                values.setdefault((seed, arm, row), {})[f"{stage}_{group}"] = value
        if measure == "saliency_rank":
            for (seed, row), value in arithmetic(arm, found).items():
                values.setdefault((seed, arm, row), {})["arithmetic_unpruned"] = value
    groups = [Column(f"{s}_{g}", stage_name(s), "f3", g) for g in GROUPS for s in stages]
    if measure == "saliency_rank":
        extra = Column("arithmetic_unpruned", "rank arithmetic", "f3", "unpruned")
        groups.insert(len(stages), extra)
    files = ("tables/layers.csv",)
    files += ("tables/concepts.parquet",) if measure == "saliency_rank" else ()
    name = measure.replace("saliency_", "layers_")
    return averaged(name, MEASURES[measure], values, (ARM, ROW), tuple(groups), files)


def _weighted(values: pd.Series, weights: pd.Series) -> float:
    number, weight = values.to_numpy(float), weights.to_numpy(float)
    use = np.isfinite(number) & (weight > 0)
    return float(np.average(number[use], weights=weight[use])) if use.any() else np.nan


def arithmetic(arm: str, found: Mapping[Place, Snapshot]) -> dict[tuple[int, int | str], float]:
    """Mean rank saliency of unpruned neurons, by (seed, layer), if nothing but order mattered.

    The unpruned neurons keep their base order and take the first places; what is measured beyond
    this is not explained by the pruned neurons having left the upper ranks.
    """
    values: dict[tuple[int, int | str], float] = {}
    for seed, place in after(found, arm, "pruned").items():
        base, kept = found[(seed, "base", "base")].rank, ~found[place].pruned
        anew = np.full(base.shape, -1)
        anew[kept] = np.argsort(np.argsort(base[kept]))
        expected = np.where(kept, saliency.rank(anew, base.size), np.nan)
        values[seed, EVERY] = float(np.nanmean(expected)) if kept.any() else np.nan
        for row in range(len(base)):
            some = expected[row][kept[row]]
            values[seed, row] = float(some.mean()) if some.size else np.nan
    return values


def redistribution(run: Run, found: Mapping[Place, Snapshot]) -> Table:
    """Share of the high-saliency neurons in each layer, pruned ones by the true mask.

    The published table (protocol 8.3) takes another set for unpruned: see `centres`.
    """
    values: dict[tuple, dict[str, float]] = {}
    for arm in run.arms:
        stage = last_stage(run, arm, "concepts")
        for seed, place in after(found, arm, stage).items():
            base, last = found[(seed, "base", "base")].rank, found[place]
            shares = {
                "base": saliency.redistribution(base).share,
                "arithmetic": saliency.redistribution(base, kept=~last.pruned).share,
                "last": saliency.redistribution(last.rank, kept=~last.pruned).share,
                "last_all": saliency.redistribution(last.rank).share,
            }
            for row in range(len(base)):
                values[(seed, arm, row)] = {k: float(v[row]) for k, v in shares.items()}
    frame = over_seeds(values, ("arm", "layer"), ("base", "arithmetic", "last", "last_all"))
    return Table(
        name="redistribution",
        caption="Share of the high-saliency neurons (upper half of the ranks) by layer",
        frame=frame,
        keys=(ARM, ROW),
        columns=(
            Column("base", "base, all neurons", "f3"),
            Column("last", "last stage, unpruned", "f3"),
            Column("arithmetic", "rank arithmetic, unpruned", "f3"),
            Column("last_all", "last stage, all neurons", "f3"),
        ),
        sources=("tables/concepts.parquet",),
    )


def centres(run: Run, found: Mapping[Place, Snapshot], words: Mapping[Place, Tokens]) -> Table:
    """Where the concept sits: mean layer of the high-saliency neurons, and of scale-free saliency.

    High-saliency neurons are counted in the published way (`_published`) and, beside what rank
    arithmetic gives, with the true mask and all neurons. The scale-free mean weights each layer by
    the mean standardized saliency of all its neurons. The `shift` columns are differences within a
    seed; the published one needs the neurons table for its null neurons.
    """
    values: dict[tuple, dict[str, float]] = {}
    for arm in run.arms:
        stage = last_stage(run, arm, "concepts")
        for seed, place in after(found, arm, stage).items():
            first = (seed, "base", "base")
            base, last = found[first], found[place]
            kept, every = ~last.pruned, np.ones_like(last.pruned)
            cell = {
                "high_base": _mean_row(saliency.redistribution(base.rank).share),
                "high_arithmetic": _mean_row(saliency.redistribution(base.rank, kept=kept).share),
                "high_last": _mean_row(saliency.redistribution(last.rank, kept=kept).share),
                "free_base": _centre(base.standardized, every),
                "free_last": _centre(last.standardized, every),
            }
            if first in words and place in words:
                cell |= _published(base, last, words[first].null, words[place].null)
            cell["shift_beyond"] = cell["high_last"] - cell["high_arithmetic"]
            cell["shift_free"] = cell["free_last"] - cell["free_base"]
            values[(seed, arm)] = cell
    high, free, shift = "high-saliency, true mask", "scale-free saliency", "shift"
    way = "high-saliency, published way"
    columns = (
        Column("published_base", "base", "f2", way),
        Column("published_last", "last stage", "f2", way),
        Column("high_base", "base, all", "f2", high),
        Column("high_last", "last stage, unpruned", "f2", high),
        Column("high_arithmetic", "rank arithmetic, unpruned", "f2", high),
        Column("free_base", "base, all", "f2", free),
        Column("free_last", "last stage, all", "f2", free),
        Column("shift_published", "published way", "signed", shift),
        Column("shift_beyond", "beyond arithmetic", "signed", shift),
        Column("shift_free", "scale-free", "signed", shift),
    )
    return averaged(
        "centres",
        "Mean layer of the concept's neurons (0 is the first row); in the published way "
        "unpruned means the lower half of the base ranking, and null neurons are dropped",
        values,
        (ARM,),
        columns,
        ("tables/concepts.parquet", *(("tables/neurons.parquet",) if words else ())),
    )


def _published(
    base: Snapshot, last: Snapshot, null_base: np.ndarray, null_last: np.ndarray
) -> dict[str, float]:
    """Mean layers by the published recipe (protocol 6.2).

    There, unpruned means the lower half of the base ranking whatever was pruned, and no null neuron
    is high.
    """
    grid = base.rank.shape
    lower = base.rank >= base.rank.size // 2
    before = saliency.redistribution(base.rank, null=null_base.reshape(grid))
    later = saliency.redistribution(last.rank, kept=lower, null=null_last.reshape(grid))
    start, end = _mean_row(before.share), _mean_row(later.share)
    return {"published_base": start, "published_last": end, "shift_published": end - start}


def _mean_row(share: np.ndarray) -> float:
    return float(share @ np.arange(len(share)))


def _centre(values: np.ndarray, members: np.ndarray) -> float:
    use = members & np.isfinite(values)
    total = np.where(use, values, 0).sum(axis=1) / np.maximum(use.sum(axis=1), 1)
    return float(total @ np.arange(len(total)) / total.sum()) if total.sum() > 0 else np.nan


def similarity(run: Run) -> Table:
    """Similarity to the base model by layer, beside the null from random pairs of neurons."""
    frame, null = run.tables["layers"], run.tables["similarity_null"]
    frame = frame[(frame["measure"] == "similarity") & (frame["concept"] == run.target)]
    values: dict[tuple, dict[str, float]] = {}
    for arm in run.arms:
        last = last_stage(run, arm, "layers")
        for row in frame[(frame["arm"] == arm) & frame["pruned"].isin(GROUPS)].itertuples():
            cell = values.setdefault((row.seed, arm, int(row.layer)), {})
            if row.stage == "round1" != last:
                cell[f"first_{row.pruned}"] = row.mean
            if row.stage == last:
                cell[f"last_{row.pruned}"] = row.mean
        part = null[(null["arm"] == arm) & (null["stage"] == last) & null["pruned"].isin(GROUPS)]
        for row in part.itertuples():
            cell = values.setdefault((row.seed, arm, int(row.layer)), {})
            cell |= {f"low_{row.pruned}": row.low, f"high_{row.pruned}": row.high}
    columns = tuple(
        Column(f"{part}_{group}", header, "f3", group)
        for group in GROUPS
        for part, header in (
            *(("first", "round 1"), ("last", "last stage")),
            *(("low", "null, low"), ("high", "null, high")),
        )
        if any(f"{part}_{group}" in cell for cell in values.values())
    )
    caption = "Similarity of a neuron's top tokens to those it had in the base model"
    files = ("tables/layers.csv", "tables/similarity_null.csv")
    ends = [c.key for c in columns if c.key.startswith(("low_", "high_"))]
    return averaged("similarity", caption, values, (ARM, ROW), columns, files, ends)


def relation(run: Run, found: Mapping[Place, Snapshot], words: Mapping[Place, Tokens]) -> Table:
    """Rank correlation of saliency with similarity at the last stage, pooled and by layer."""
    values: dict[tuple, dict[str, float]] = {}
    for arm in run.arms:
        stage = last_stage(run, arm, "neurons")
        for seed, place in after(words, arm, stage).items():
            if place not in found:
                continue
            now = found[place]
            near = words[place].similarity.reshape(shape(run))
            result = saliency.association(near, now.saliency, now.pruned)
            defined = saliency.groups(now.pruned) & np.isfinite(near)
            counts = np.column_stack([result.neurons, defined.sum(axis=2)])
            rhos = np.column_stack([result.spearman, result.spearman_by_layer])
            for at, row in enumerate((EVERY, *range(len(near)))):
                cell = {}
                for group, rho, n in zip(saliency.GROUPS, rhos[:, at], counts[:, at], strict=True):
                    cell |= {group: rho, f"n_{group}": n}
                    cell[f"chance_{group}"] = 1.96 / np.sqrt(n - 1) if n > 2 else np.nan
                values[(seed, arm, row)] = cell
    groups = ("all", *GROUPS)
    columns = tuple(
        Column(f"{part}{group}", header, form, group)
        for group in groups
        for part, header, form in (
            *(("", "correlation", "signed"), ("chance_", "chance ±", "f2")),
            ("n_", "neurons", "int"),
        )
    )
    caption = "Spearman correlation of saliency with similarity"
    files = ("tables/concepts.parquet", "tables/neurons.parquet")
    levels = [c.key for c in columns if c.key.startswith(("n_", "chance_"))]
    return averaged("relation", caption, values, (ARM, ROW), columns, files, levels)
