"""Page tables by layer: saliency, redistribution, similarity with its null, and their relation.

Pruned and unpruned neurons are kept apart everywhere (specs: relearning 8.5).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from relearn_jax.neurons import saliency
from relearn_jax.report.concepts.arms import ARM
from relearn_jax.report.concepts.reading import Run, last_stage, stage_name, tracked_arms
from relearn_jax.report.concepts.snapshots import At, Snapshot, Tokens, after, ends, shape
from relearn_jax.report.tables import Column, Table, averaged, in_order

GROUPS = ("unpruned", "pruned")
ROW = Column("layer", "state", "text")
TOKENS = {
    "token_jaccard": "Overlap of top tokens with the base model (Jaccard)",
    "target_share": "Share of top tokens that occur as the target",
}
"""Measures of top tokens, with their captions."""
CAPTIONS = {saliency.column(name): words.caption for name, words in saliency.SHOWN.items()} | TOKENS
EVERY = "all"
"""The row key that stands for all layers together."""
KEYS = ["seed", "arm", "layer"]


def shown_stages(run: Run, arm: str, table: str) -> tuple[str, ...]:
    """Base, pruned, the first round and the last one, as far as they are there."""
    frame = run.tables[table]
    have = set(frame.loc[frame["arm"] == arm, "stage"].unique())
    shown = ("base", "pruned", "round1", last_stage(run, arm, table))
    return tuple(dict.fromkeys(s for s in shown if s in have or s == "base"))


def measured(run: Run, measure: str) -> pd.DataFrame:
    """The rows of the layers table for one measure of the target, pruned and unpruned apart."""
    frame = run.tables["layers"]
    frame = frame[(frame["measure"] == measure) & (frame["concept"] == run.target)]
    return in_order(frame, arm=tracked_arms(run), pruned=GROUPS)


def layers(run: Run, measure: str, neurons: Mapping[At, Snapshot]) -> Table:
    """One measure by arm and layer at the main stages, mean over seeds.

    For `saliency_rank`, the column `arithmetic_unpruned` holds what the unpruned neurons would
    have if both groups kept their base order and the pruned ones merely went to the end.
    """
    frame = measured(run, measure)
    stages = tuple(
        s for s in run.stages if any(s in shown_stages(run, a, "layers") for a in tracked_arms(run))
    )
    frame = frame.assign(cell=frame["stage"] + "_" + frame["pruned"])
    rows = pd.concat([frame.assign(layer=EVERY), frame.astype({"layer": object})])
    values = _weighted(rows).reset_index()
    groups = [Column(f"{s}_{g}", stage_name(s), "f3", g) for g in GROUPS for s in stages]
    files = ("tables/layers.csv",)
    if measure == "saliency_rank":
        values = values.merge(arithmetic(run, neurons), how="outer", on=KEYS)
        extra = Column("arithmetic_unpruned", "rank arithmetic", "f3", "unpruned")
        groups.insert(len(stages), extra)
        files += ("tables/concepts.parquet",)
    values = in_order(values, arm=tracked_arms(run), layer=(EVERY, *range(shape(run)[0])))
    name = measure.replace("saliency_", "layers_")
    return averaged(name, CAPTIONS[measure], values, (ARM, ROW), tuple(groups), files)


def _weighted(frame: pd.DataFrame) -> pd.DataFrame:
    """Means weighted by numbers of neurons, a column for each `cell`."""
    frame = frame[frame["mean"].notna() & (frame["neurons"] > 0)]
    frame = frame.assign(total=frame["mean"] * frame["neurons"])
    total, weight = (
        frame.pivot_table(index=KEYS, columns="cell", values=v, aggfunc="sum", sort=False)
        for v in ("total", "neurons")
    )
    return total / weight


def arithmetic(run: Run, neurons: Mapping[At, Snapshot]) -> pd.DataFrame:
    """Mean rank saliency of unpruned neurons by seed, arm and layer, if only order mattered.

    The unpruned neurons keep their base order and take the first places; what is measured beyond
    this is not explained by the pruned neurons having left the upper ranks.
    """
    records = []
    for arm in tracked_arms(run):
        for seed, place in after(neurons, arm, "pruned").items():
            base, kept = neurons[(seed, "base", "base")].rank, ~neurons[place].pruned
            anew = np.full(base.shape, -1)
            anew[kept] = np.argsort(np.argsort(base[kept]))
            expected = saliency.rank(anew, base.size)
            rows = {EVERY: expected[kept]} | {r: e[kept[r]] for r, e in enumerate(expected)}
            records += [(seed, arm, r, e.mean() if e.size else np.nan) for r, e in rows.items()]
    return pd.DataFrame(records, columns=[*KEYS, "arithmetic_unpruned"])


def redistribution(run: Run, neurons: Mapping[At, Snapshot]) -> Table:
    """Share of the high-saliency neurons in each layer, pruned ones by the true mask.

    The published table (specs: relearning 8.3) takes another set for unpruned: see `centres`.
    """
    parts = []
    for arm, seed, base, last in ends(run, neurons, "concepts"):
        kept = ~neurons[last].pruned
        before, now = neurons[base].rank, neurons[last].rank
        shares = {
            "base": saliency.redistribution(before).share,
            "arithmetic": saliency.redistribution(before, kept=kept).share,
            "last": saliency.redistribution(now, kept=kept).share,
            "last_all": saliency.redistribution(now).share,
        }
        part = {"seed": seed, "arm": arm, "layer": range(len(before))}
        parts.append(pd.DataFrame(part | shares))
    columns = (
        Column("base", "base, all neurons"),
        Column("last", "last stage, unpruned"),
        Column("arithmetic", "rank arithmetic, unpruned"),
        Column("last_all", "last stage, all neurons"),
    )
    caption = "Share of the high-saliency neurons (upper half of the ranks) by layer"
    values = pd.concat(parts) if parts else pd.DataFrame()
    files = ("tables/concepts.parquet",)
    return averaged("redistribution", caption, values, (ARM, ROW), columns, files)


def centres(run: Run, neurons: Mapping[At, Snapshot], words: Mapping[At, Tokens]) -> Table:
    """Where the concept sits: mean layer of the high-saliency neurons, and of scale-free saliency.

    High-saliency neurons are counted in the published way (`_published`) and, beside what rank
    arithmetic gives, with the true mask and all neurons. The scale-free mean weights each layer by
    the mean standardized saliency of all its neurons. The `shift` columns are differences within a
    seed; the published one needs the neurons table for its null neurons.
    """
    records = []
    for arm, seed, first, place in ends(run, neurons, "concepts"):
        base, last = neurons[first], neurons[place]
        kept = ~last.pruned
        cell = {
            "high_base": _mean_row(saliency.redistribution(base.rank).share),
            "high_arithmetic": _mean_row(saliency.redistribution(base.rank, kept=kept).share),
            "high_last": _mean_row(saliency.redistribution(last.rank, kept=kept).share),
            "free_base": _centre(base.saliency["standardized"]),
            "free_last": _centre(last.saliency["standardized"]),
        }
        if first in words and place in words:
            cell |= _published(base, last, words[first].null, words[place].null)
        cell["shift_beyond"] = cell["high_last"] - cell["high_arithmetic"]
        cell["shift_free"] = cell["free_last"] - cell["free_base"]
        records.append({"seed": seed, "arm": arm} | cell)
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
    caption = (
        "Mean layer of the concept's neurons (0 is the first row); in the published way "
        "unpruned means the lower half of the base ranking, and null neurons are dropped"
    )
    files = ("tables/concepts.parquet", *(("tables/neurons.parquet",) if words else ()))
    return averaged("centres", caption, pd.DataFrame(records), (ARM,), columns, files)


def _published(
    base: Snapshot, last: Snapshot, null_base: np.ndarray, null_last: np.ndarray
) -> dict[str, float]:
    """Mean layers by the published recipe (specs: relearning 6.2).

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


def _centre(values: np.ndarray) -> float:
    use = np.isfinite(values)
    total = np.where(use, values, 0).sum(axis=1) / np.maximum(use.sum(axis=1), 1)
    return _mean_row(total) / total.sum() if total.sum() > 0 else np.nan


def similarity(run: Run) -> Table:
    """Similarity to the base model by layer, beside the null from random pairs of neurons."""
    lasts = {arm: last_stage(run, arm, "layers") for arm in tracked_arms(run)}
    null = in_order(run.tables["similarity_null"], arm=tracked_arms(run), pruned=GROUPS)
    means = measured(run, "similarity").rename(columns={"mean": "last"})
    values = pd.DataFrame(columns=KEYS)
    for frame, measures in ((means, ["last"]), (null, ["low", "high"])):
        at_end = frame["stage"] == frame["arm"].map(lasts)
        kinds = [(frame[at_end], measures)]
        if measures == ["last"]:
            early = frame[~at_end & (frame["stage"] == "round1")]
            kinds.append((early.rename(columns={"last": "first"}), ["first"]))
        for part, names in kinds:
            wide = part.pivot(index=KEYS, columns="pruned", values=names)
            wide.columns = [f"{name}_{group}" for name, group in wide.columns]
            values = values.merge(wide.reset_index(), how="outer", on=KEYS)
    columns = tuple(
        Column(f"{part}_{group}", header, "f3", group)
        for group in GROUPS
        for part, header in (
            *(("first", "round 1"), ("last", "last stage")),
            *(("low", "null, low"), ("high", "null, high")),
        )
        if f"{part}_{group}" in values
    )
    values = in_order(values, arm=tracked_arms(run), layer=range(shape(run)[0]))
    caption = "Similarity of a neuron's top tokens to those it had in the base model"
    files = ("tables/layers.csv", "tables/similarity_null.csv")
    ends = [c.key for c in columns if c.key.startswith(("low_", "high_"))]
    return averaged("similarity", caption, values, (ARM, ROW), columns, files, ends)


def relation(run: Run, neurons: Mapping[At, Snapshot], words: Mapping[At, Tokens]) -> Table:
    """Rank correlation of saliency with similarity at the last stage, pooled and by layer."""
    groups, parts = ("all", *GROUPS), []
    for arm, seed, _, place in ends(run, words, "neurons"):
        if place not in neurons:
            continue
        now = neurons[place]
        near = words[place].similarity.reshape(shape(run))
        result = saliency.association(near, now.saliency["rank"], now.pruned)
        defined = saliency.groups(now.pruned) & np.isfinite(near)
        counts = np.column_stack([result.neurons, defined.sum(axis=2)])
        rhos = np.column_stack([result.spearman, result.spearman_by_layer])
        part = {"seed": seed, "arm": arm, "layer": [EVERY, *range(len(near))]}
        for group, rho, n in zip(saliency.GROUPS, rhos, counts, strict=True):
            chance = np.where(n > 2, 1.96 / np.sqrt(np.maximum(n - 1, 1)), np.nan)
            part |= {group: rho, f"n_{group}": n, f"chance_{group}": chance}
        parts.append(pd.DataFrame(part))
    columns = tuple(
        Column(f"{part}{group}", header, form, group)
        for group in groups
        for part, header, form in (
            *(("", "correlation", "signed"), ("chance_", "chance ±", "f2")),
            ("n_", "neurons", "int"),
        )
    )
    caption = "Spearman correlation of saliency with similarity"
    values = pd.concat(parts) if parts else pd.DataFrame()
    files = ("tables/concepts.parquet", "tables/neurons.parquet")
    levels = [c.key for c in columns if c.key.startswith(("n_", "chance_"))]
    return averaged("relation", caption, values, (ARM, ROW), columns, files, levels)
